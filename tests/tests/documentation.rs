//! Every command in the README and in the book does what the page says.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use tidegate_tests::documents::{Documentation, pages};
use tidegate_tests::stack::root;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_does_what_the_page_says() {
    let (root, mut wrong) = (root(), Vec::new());
    let mut documentation = Documentation::default();
    for page in pages(&root) {
        let name = page.strip_prefix(&root).unwrap().display().to_string();
        let text = std::fs::read_to_string(&page).unwrap();
        wrong.extend(documentation.run(&name, &text).await);
    }
    println!("documentation: {} commands run", documentation.commands);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(documentation.commands > 10, "hardly any command was found");
}

/// The names in the sources, where each metric stands once.
fn metrics() -> Vec<String> {
    let (folder, mut names) = (root().join("crates/runtime/src/metrics"), Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let registers = matches!(pair[0], "r," | "&mut registry," | "registry.register(");
            let name = pair[1]
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix("\","));
            names.extend(
                name.filter(|_| registers)
                    .map(|name| format!("tidegate_{name}")),
            );
        }
    }
    names
}

#[test]
fn operations_explain_every_metric_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let code = metrics();
    assert!(code.len() > 30, "hardly any was found: {code:?}");
    for name in &code {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/operations.md does not explain {name}"
        );
    }
    for name in page.split('`').filter(|word| word.starts_with("tidegate_")) {
        assert!(
            code.iter().any(|known| known == name),
            "docs/operations.md: there is no {name}"
        );
    }
}

#[test]
fn the_configuration_page_has_every_key() {
    // The book shows the file itself, which a test of the program holds against the code.
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    assert!(page.contains("\n{{#include ../services/tidegate/default.toml}}\n"));
}
