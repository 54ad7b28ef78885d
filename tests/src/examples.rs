//! The clients of `examples/clients` and the receivers of `examples/webhooks`, run as their pages say.

use std::path::Path;
use std::process::Command;

use crate::stack::{program, root, variable};
use crate::{Process, secs};

/// The languages that have every way to get an answer.
pub const LANGUAGES: [&str; 3] = ["python", "javascript", "rust"];

/// What a client said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The lines on standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// A client with these arguments: of one of the languages, or a script for `curl`, whose way is its name.
pub fn client(language: &str, way: &str) -> Command {
    let folder = root().join("examples/clients");
    let mut command = match language {
        "python" => {
            let mut python = Command::new(variable("TIDEGATE_TEST_PYTHON"));
            python.arg(folder.join("python/client.py"));
            python
        }
        "javascript" => {
            let mut node = node();
            node.arg(folder.join("javascript/client.js"));
            node
        }
        "rust" => Command::new(program().with_file_name("tidegate-example-client")),
        "curl" => return Command::new(folder.join(format!("curl/{way}.sh"))),
        other => panic!("no client in {other}"),
    };
    command.arg(way);
    command
}

/// Node, with the packages of the examples and of their tests.
pub fn node() -> Command {
    let mut node = Command::new(variable("TIDEGATE_TEST_NODE"));
    node.env("NODE_PATH", variable("TIDEGATE_TEST_NODE_PATH"));
    node
}

/// Runs a client to its end, against this gateway.
pub async fn run(mut command: Command, gateway: &str) -> Said {
    command
        .env("TIDEGATE_URL", gateway)
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1");
    let named = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(secs(90), output).await;
    let output = output.unwrap_or_else(|_| panic!("does not end: {named}"));
    let output = output.unwrap_or_else(|error| panic!("{named}: {error}"));
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts a receiver on a free port, which takes what one of these keys has signed.
pub fn receiver(language: &str, dir: &Path, keys: &[&str]) -> Process {
    let folder = root().join("examples/webhooks");
    let mut command = match language {
        "python" => {
            let mut python = Command::new(variable("TIDEGATE_TEST_PYTHON"));
            python.arg(folder.join("python/receiver.py"));
            python
        }
        "node" => {
            let mut node = node();
            node.arg(folder.join("node/receiver.js"));
            node
        }
        other => panic!("no receiver in {other}"),
    };
    command.env("PORT", "0").env("WEBHOOK_KEYS", keys.join(" "));
    Process::start(&format!("receiver-{language}"), dir, &mut command)
}
