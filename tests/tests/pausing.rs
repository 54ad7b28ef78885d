//! A type that is paused and resumed, beside another one in the same pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tidegate_tests::stack::program;
use tidegate_tests::{Client, Stack, rows, secs, until};

const TYPES: &str =
    "[types.held]\nhandler = { kind = \"echo\" }\n[types.free]\nhandler = { kind = \"echo\" }\n";

#[tokio::test]
async fn jobs_of_a_paused_type_wait_while_others_run_and_none_is_lost() {
    const JOBS: usize = 50;
    let mut stack = Stack::new().await;
    stack.set("worker.park_after=500ms");
    stack.set("worker.park_at_most=2s");
    stack.configure(TYPES);
    let gateway = stack.gateway("gateway").await;
    let _scheduler = stack.scheduler("scheduler").await;
    let client = Client::new(gateway.url());
    let order = |words: [&str; 2], name: &str| -> Value {
        let mut command = Command::new(program());
        let asked = command
            .args(words)
            .args([name, "--url", gateway.url(), "--json"]);
        let said = asked.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        serde_json::from_slice(&said.stdout).unwrap()
    };
    // Twice is fine. The worker comes later: it reads the order before its first job.
    for _ in 0..2 {
        assert_eq!(order(["types", "pause"], "held")["paused"], true);
    }
    let worker = stack.worker("worker").await;
    let (mut held, mut free) = (Vec::new(), Vec::new());
    for number in 0..JOBS {
        held.push(client.accept("held", number.to_string()).await.id);
        free.push(client.accept("free", number.to_string()).await.id);
    }
    for id in &free {
        client.until_status(id, &["completed"], secs(30)).await;
    }
    let operator = Client::new(worker.url());
    let parked = until("every job of the type was parked", secs(30), || async {
        let count = operator.metric("tidegate_jobs_parked_total").await;
        (count >= JOBS as f64).then_some(count)
    })
    .await;
    for id in &held {
        assert_eq!(client.status(id).await.unwrap()["status"], "pending");
    }
    assert_eq!(
        order(["types", "resume"], "held"),
        json!({"type": "held", "paused": false})
    );
    let begun = Instant::now();
    for (number, id) in held.iter().enumerate() {
        let ended = client.until_status(id, &["completed"], secs(40)).await;
        assert_eq!(
            (&ended["result"], &ended["attempt"]),
            (&json!(number), &json!(1))
        );
    }
    assert_eq!(rows::assert_agree(&stack).await, 2 * JOBS);
    println!(
        "paused: {JOBS} jobs of another type ran meanwhile; parked {parked} times; all of the paused type ended {:.1?} \
         after the resume",
        begun.elapsed()
    );
}
