//! What failed for good, looked at and done again, on a running `dev`: `dead-letters` and `jobs retry`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::time::Duration;

use common::{Dev, stderr, stdout, until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// A `dev` with a type that never succeeds, and is tried twice.
async fn hopeless_dev() -> Dev {
    Dev::start(&[
        "types.hopeless.handler={ kind = \"command\", program = [\"sh\", \"-c\", \"echo never >&2; exit 3\"] }",
        "types.hopeless.retry={ attempts = 2, first = \"100ms\" }",
        "kafka.delay_rungs=[\"200ms\", \"2s\"]",
    ])
    .await
}

impl Dev {
    async fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        stdout(&output)
    }

    async fn fail(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments).await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// A job that ends among the dead letters: its id.
    async fn hopeless(&self) -> String {
        let url = format!("{}/v1/jobs/hopeless", self.role.url);
        let request = self
            .http
            .post(url)
            .header("prefer", "wait=20")
            .body("{\"a\":1}");
        let answer = request.header("content-type", "application/json");
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 502);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["jobStatus"], "dead-lettered", "{problem}");
        problem["jobId"].as_str().unwrap().to_owned()
    }

    async fn status(&self, id: &str) -> Value {
        let url = format!("{}/v1/jobs/{id}", self.role.url);
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_done_again_once() {
    let dev = hopeless_dev().await;
    let said = dev.succeed(&["dead-letters", "list"]).await;
    assert_eq!(said.trim(), "no dead letters");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(dev.hopeless().await);
    }
    let before = tidegate_contract::time::rfc3339(tidegate_contract::now_millis() + 1);

    let table = dev.succeed(&["dead-letters", "list"]).await;
    println!("{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.contains("attempts-exhausted") && table.contains("command-exit"),
        "{table}"
    );
    let listed = dev
        .succeed(&["dead-letters", "list", "--json", "--type", "hopeless"])
        .await;
    let letters: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The newest first.
    let found: Vec<_> = letters
        .iter()
        .map(|l| l["jobId"].as_str().unwrap())
        .collect();
    assert_eq!(found, [ids[2].as_str(), &ids[1], &ids[0]]);
    let place = format!("{}/{}", letters[0]["partition"], letters[0]["offset"]);
    let shown: Value =
        serde_json::from_str(&dev.succeed(&["dead-letters", "show", &place]).await).unwrap();
    assert_eq!(shown["record"]["value"]["body"]["a"], 1, "{shown}");
    assert_eq!(shown["record"]["key"], ids[2].as_str());
    assert!(
        shown["firstError"].as_str().unwrap().contains("never"),
        "{shown}"
    );
    let status = dev.status(&ids[2]).await;
    assert_eq!(status["deadLetter"]["offset"], letters[0]["offset"]);

    let mut redrive = vec!["dead-letters", "redrive", "--rate", "50"];
    assert!(dev.fail(&redrive, 2).await.contains("say `all`"));
    let none = dev
        .succeed(&["dead-letters", "redrive", "--type", "nothing"])
        .await;
    assert_eq!(none.trim(), "no dead letter matches");
    // Those that the redriven jobs leave in their turn come later.
    redrive.extend(["--type", "hopeless", "--until", &before]);
    let dry = dev.succeed(&[&redrive[..], &["--dry-run"]].concat()).await;
    assert_eq!(
        dry.trim(),
        "3 dead letters match: 3 would be done again, 0 left"
    );
    let done = dev.succeed(&redrive).await;
    assert_eq!(done.trim(), "3 dead letters match: 3 done again, 0 left");
    let again = dev.run(&redrive).await;
    assert_eq!(
        stdout(&again).trim(),
        "3 dead letters match: 0 done again, 3 left"
    );
    assert!(stderr(&again).contains("it was done again already"));

    // Linked both ways, and the old one stays as it ended.
    let old = dev.status(&ids[0]).await;
    assert_eq!(old["status"], "dead-lettered");
    let new = old["retriedAs"].as_str().unwrap().to_owned();
    let ended = until("the new one has ended", LIMIT, async || {
        let status = dev.status(&new).await;
        (status["status"] == "dead-lettered").then_some(status)
    });
    assert_eq!(ended.await["retryOf"], ids[0].as_str());

    let said = dev.fail(&["jobs", "retry", &ids[0]], 1).await;
    assert!(said.contains(&new), "{said}");
    let said = dev.succeed(&["jobs", "retry", &new]).await;
    assert!(said.contains("does it again"), "{said}");
    let said = dev.fail(&["jobs", "retry", &new], 1).await;
    assert!(said.contains("was done again already"), "{said}");
    dev.fail(&["dead-letters", "show", "everything"], 2).await;
    let gone = dev.fail(&["dead-letters", "show", "0/4000000"], 1).await;
    assert!(gone.contains("no dead letter"), "{gone}");
}
