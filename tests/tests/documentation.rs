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
