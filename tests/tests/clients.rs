//! What a client gets whose job cannot be run yet, and what is left of one that goes away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Instant;

use reqwest::StatusCode;
use serde_json::Value;
use tidegate_tests::raw::Connection;
use tidegate_tests::{Client, Process, Stack, kafka, secs, until, until_true};

async fn gateway(stack: &Stack) -> (Process, Client) {
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    (gateway, client)
}

/// Types of which none may wait longer than the cap of this test.
const SHORT: &str = r#"
[types.echo]
handler = { kind = "echo" }
wait = "1s"

[types.sleep]
handler = { kind = "command", program = ["sh", "-c", "sleep \"$(cat)\"; echo slept"] }
content = "any"
wait = "1s"
"#;

#[tokio::test]
async fn without_a_worker_a_job_is_accepted_and_the_wait_says_why_it_ends() {
    let mut stack = Stack::new().await;
    stack.write_types(SHORT);
    stack.set("gateway.max_wait=2s");
    let (_gateway, client) = gateway(&stack).await;

    // Longer than the cap: capped, and that is said.
    let begun = Instant::now();
    let answer = client.wait("echo", "[7]", 600).send().await.unwrap();
    let took = begun.elapsed();
    assert!((secs(2)..secs(4)).contains(&took), "{took:?}");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["preference-applied"], "wait=2");
    assert!(answer.headers().contains_key("retry-after"));
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    let reason = body["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        "no worker is connected for pool default, tier normal"
    );
    assert_eq!(
        (&body["status"], &body["statusUrl"]),
        (&"pending".into(), &location.into())
    );
    println!("202 after {took:.1?}: {reason}");

    let id = body["jobId"].as_str().unwrap();
    let early = client.get(&format!("/v1/jobs/{id}/result"));
    let early = early.send().await.unwrap();
    assert_eq!(early.status(), StatusCode::CONFLICT);
    assert!(early.headers().contains_key("retry-after"));
    let early: Value = early.json().await.unwrap();
    assert_eq!(
        (&early["code"], &early["jobStatus"]),
        (&"not-ended".into(), &"pending".into())
    );

    let _worker = stack.worker("worker").await;
    let ended = client.until_status(id, &["completed"], secs(20)).await;
    assert_eq!(ended["result"], serde_json::json!([7]));
    let answer = client.wait("echo", "[8]", 600).send().await.unwrap();
    assert_eq!(answer.headers()["preference-applied"], "wait=2");
    assert_eq!(answer.text().await.unwrap(), "[8]");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_wait_and_its_job_ends() {
    const CLIENTS: usize = 30;
    let stack = Stack::new().await;
    let (gateway, client) = gateway(&stack).await;
    let _worker = stack.worker("worker").await;
    let open = || async { client.metric("tidegate_waits_open").await };

    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::to(gateway.url()).await;
        connection.wait("sleep", "4", 25).await;
        connections.push(connection);
    }
    until_true("all wait", secs(10), || async {
        open().await == CLIENTS as f64
    })
    .await;
    let closed = Instant::now();
    drop(connections);
    until_true("no wait is open", secs(2), || async { open().await == 0.0 }).await;
    println!(
        "{CLIENTS} waits freed {:?} after their sockets closed",
        closed.elapsed()
    );

    let topic = format!("{}jobs.normal", stack.prefix);
    let records = kafka::read_all(&stack.servers.kafka, &topic);
    let ids: Vec<_> = records
        .iter()
        .filter_map(|r| kafka::header(r, "job-id"))
        .collect();
    assert_eq!(ids.len(), CLIENTS);
    let first = until("the status is readable", secs(2), || client.status(&ids[0])).await;
    println!("status right after: {}", first["status"]);
    for id in &ids {
        client.until_status(id, &["completed"], secs(20)).await;
    }
}
