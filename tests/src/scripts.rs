//! Servers that a test starts, breaks and ends by itself, through the project's own scripts.

use std::process::Command;

use uuid::Uuid;

use crate::stack::root;

fn script(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(root().join("scripts").join(name))
        .args(arguments)
        .output()
        .expect("the script runs");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "scripts/{name} {arguments:?}: {out}\n{err}"
    );
    out.into_owned()
}

/// Ends servers; their logs are kept if the test has failed.
fn down(script: &str, name: &str) {
    let mut command = Command::new(root().join("scripts").join(script));
    command.args(["down", "--name", name]);
    if std::thread::panicking() {
        command.arg("--keep-logs");
        eprintln!("logs of {script} are kept under the name {name}");
    }
    let _ = command.output();
}

fn value(lines: &str, name: &str) -> String {
    let prefix = format!("{name}=");
    let line = lines.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("{name} in {lines}"))
        .trim_matches('\'')
        .to_owned()
}

fn unique() -> String {
    format!("own-{}", &Uuid::now_v7().simple().to_string()[22..])
}

/// Kafka brokers of this test alone, with a registry if asked for.
pub struct Broker {
    name: String,
    pub bootstrap: String,
    /// Empty without a registry.
    pub registry: String,
}

impl Broker {
    /// Starts one broker or three.
    pub fn up(brokers: u32, registry: bool) -> Self {
        Self::start(brokers, registry, &[])
    }

    /// One broker that asks for a login, and allows nothing that no ACL allows.
    pub fn up_with_acls() -> Self {
        Self::start(1, false, &["--acls"])
    }

    fn start(brokers: u32, registry: bool, options: &[&str]) -> Self {
        let (name, brokers) = (unique(), brokers.to_string());
        let mut arguments = vec![
            "up",
            "--name",
            &name,
            "--brokers",
            &brokers,
            "--port-base",
            "auto",
        ];
        if !registry {
            arguments.push("--no-registry");
        }
        arguments.extend(options);
        let lines = script("kafka", &arguments);
        let bootstrap = value(&lines, "KAFKA_BROKERS");
        let registry = if registry {
            value(&lines, "REGISTRY_URL")
        } else {
            String::new()
        };
        Self {
            name,
            bootstrap,
            registry,
        }
    }

    /// What the scripts know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `stop`, `kill`, `start`, `pause` or `resume` of one broker, counted from 1.
    pub fn broker(&self, verb: &str, number: u32) {
        script(
            "kafka",
            &["broker", verb, &number.to_string(), "--name", &self.name],
        );
    }

    /// Kafka's own tool for ACLs, as its administrator.
    pub fn acls(&self, arguments: &[&str]) {
        let mut all = vec!["acls", "--name", &self.name, "--"];
        all.extend(arguments);
        script("kafka", &all);
    }

    /// The same for the registry.
    pub fn registry(&self, verb: &str) {
        script("kafka", &["registry", verb, "--name", &self.name]);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        down("kafka", &self.name);
    }
}

/// A PostgreSQL of this test alone.
pub struct Postgres {
    name: String,
    pub url: String,
}

impl Postgres {
    pub fn up() -> Self {
        let name = unique();
        let lines = script("postgres", &["up", "--name", &name, "--port", "auto"]);
        Self {
            url: value(&lines, "DATABASE_URL"),
            name,
        }
    }

    /// What the scripts know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `pause`, `resume`, `stop` or `start`; its data stays.
    pub fn control(&self, verb: &str) {
        script("postgres", &[verb, "--name", &self.name]);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        down("postgres", &self.name);
    }
}
