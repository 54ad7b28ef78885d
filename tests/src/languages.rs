//! The workers of `examples/workers`, started as the README there says, and what their one small job should answer.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::stack::{Servers, root, variable};
use crate::{Process, Stack};

/// The http workers, and the URLs that the example's job types have for them.
pub const HTTP: [(&str, &str); 3] = [
    ("python", "http://127.0.0.1:8101/"),
    ("node", "http://127.0.0.1:8102/"),
    ("go", "http://127.0.0.1:8103/"),
];

fn folder() -> PathBuf {
    root().join("examples/workers")
}

/// Starts an http worker on a free port.
pub fn http_worker(stack: &Stack, language: &str) -> Process {
    let mut command = match language {
        "python" => {
            let mut python = Command::new(variable("TIDEGATE_TEST_PYTHON"));
            python.arg(folder().join("http-python/worker.py"));
            python
        }
        "node" => {
            let mut node = Command::new(variable("TIDEGATE_TEST_NODE"));
            node.arg(folder().join("http-node/worker.js"));
            node
        }
        // Built from the example by `scripts/test`.
        "go" => Command::new(variable("TIDEGATE_TEST_GO_WORKER")),
        other => panic!("no worker in {other}"),
    };
    let name = format!("http-{language}");
    Process::start(&name, stack.dir.path(), command.env("PORT", "0"))
}

/// An installation with the example's job types, as an operator would take them over: with the URLs of `workers`,
/// whose names are languages, and the script where it lies. `more` are further tables.
pub async fn stack(more: &str) -> Stack {
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set(r#"worker.pools=["default","text"]"#);
    stack.write_types(&format!("{}\n{more}", types(&[])));
    stack.set_up();
    stack
}

/// The example's job types, with the URLs of these http workers.
pub fn types(workers: &[(&str, &Process)]) -> String {
    let mut types = std::fs::read_to_string(folder().join("types.toml")).expect("the example");
    let script = "examples/workers/command/text-stats.sh";
    let absolute = root().join(script).display().to_string();
    assert!(types.contains(script), "{types}");
    types = types.replace(script, &absolute);
    for (language, url) in HTTP {
        assert!(types.contains(url), "{url} in {types}");
        if let Some((_, worker)) = workers.iter().find(|(name, _)| *name == language) {
            types = types.replace(url, &format!("{}/", worker.url()));
        }
    }
    types
}

/// Starts a Kafka worker in Python for the pool `text`: the example's, or a script that does something with it.
pub fn kafka_worker(stack: &Stack, name: &str, script: &str) -> Process {
    let mut command = Command::new(variable("TIDEGATE_TEST_PYTHON"));
    command
        .arg(root().join(script))
        .env("KAFKA_BROKERS", &stack.servers.kafka)
        .env("REGISTRY_URL", &stack.servers.registry)
        .env("TIDEGATE_PREFIX", &stack.prefix)
        .env("POOL", "text")
        .env("PYTHONPATH", folder().join("python-kafka"))
        // Nothing is left in the checkout.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Process::start_until(name, stack.dir.path(), &mut command, " takes jobs")
}

/// The example's Kafka worker.
pub const KAFKA_WORKER: &str = "examples/workers/python-kafka/worker.py";

/// A text of its own for every number, some of it not ASCII.
pub fn text(number: usize) -> String {
    let lines = number % 7;
    let words = "wörter 漢字 and\ttabs ".repeat(number % 40);
    format!("number {number} {words}{}", "\nline".repeat(lines))
}

/// What every worker counts in a text, counted in another way than theirs.
pub fn stats(text: &str) -> Value {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    let words = text.split_ascii_whitespace().count();
    json!({ "lines": lines, "words": words, "characters": text.chars().count() })
}
