//! `tidegate topics` on a real broker.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use common::{run, stderr, stdout};

/// Runs a command on topics of its own.
struct Installation {
    brokers: String,
    prefix: String,
}

impl Installation {
    fn new() -> Self {
        let brokers = std::env::var("TIDEGATE_TEST_KAFKA");
        let brokers = brokers.unwrap_or_else(|_| panic!("run through scripts/test"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            brokers: format!("kafka.brokers={brokers}"),
            prefix: format!("kafka.prefix=topics-{}.", now.as_nanos()),
        }
    }

    /// `arguments` go last, so that a `--set` among them wins.
    fn topics(&self, command: &str, arguments: &[&str]) -> Output {
        let mut all = vec!["topics", command];
        for set in [
            &self.brokers,
            &self.prefix,
            "kafka.durability=single-broker",
            "kafka.partitions.jobs=1",
            "kafka.partitions.replies=2",
            "kafka.partitions.dead_letters=1",
            "kafka.partitions.delay=1",
        ] {
            all.extend(["--set", set]);
        }
        all.extend(arguments);
        run(&all)
    }
}

/// What a command that worked said of each topic.
fn verdicts(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", stderr(output));
    let said = stdout(output);
    let verdict = |line: &str| line.split_once(": ").unwrap().1.to_owned();
    said.lines().map(verdict).collect()
}

#[test]
fn topics_are_made_once_and_described() {
    let here = Installation::new();
    let dry = here.topics("create", &["--dry-run"]);
    assert_eq!(verdicts(&dry), ["would be created"; 14]);

    let missing = here.topics("describe", &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stdout(&missing).contains("is missing: run `tidegate topics create`"));

    assert_eq!(verdicts(&here.topics("create", &[])), ["created"; 14]);
    assert_eq!(verdicts(&here.topics("create", &[])), ["exists"; 14]);
    assert_eq!(
        verdicts(&here.topics("create", &["--dry-run"])),
        ["exists"; 14]
    );

    let described = here.topics("describe", &["--json"]);
    assert!(described.status.success(), "{}", stderr(&described));
    let topics: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    let topics = topics.as_array().unwrap();
    assert_eq!(topics.len(), 14);
    for topic in topics {
        assert_eq!(topic["verdict"], "ok", "{topic}");
        assert_eq!(topic["replication"], 1, "{topic}");
        assert!(topic["retentionMs"].as_i64().unwrap() >= 14 * 24 * 3_600_000);
    }
}

#[test]
fn what_falls_short_is_named_with_the_mend() {
    let here = Installation::new();
    verdicts(&here.topics("create", &[]));

    let set = ["--set", "kafka.partitions.replies=4"];
    let output = here.topics("create", &set);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("too few partitions: 2 instead of 4"));
    assert!(stderr(&output).contains("1 topic has too few partitions"));

    let output = here.topics("describe", &set);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("has 2 partitions and needs 4"));

    let prefix = format!("{}more.", here.prefix);
    let set = ["--set", &prefix, "--set", "kafka.durability=replicated"];
    let output = here.topics("create", &set);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("single-broker"), "{said}");
}
