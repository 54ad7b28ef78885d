//! The operators' commands while the servers are away: one line, code 1, in bounded time.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use common::{finish, run, stderr, stdout, tidegate};
use tidegate_contract::schema;
use tidegate_kafka::embedded::EmbeddedRegistry;

/// A port of this machine that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn one_line(arguments: &[&str]) -> Output {
    let begun = Instant::now();
    let output = finish(&mut tidegate(arguments), Duration::from_secs(20));
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "{arguments:?} took {took:?}"
    );
    let said = stderr(&output);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{arguments:?}: {}: {said}",
        output.status
    );
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(said.starts_with("tidegate: "), "{said}");
    output
}

#[test]
fn a_broker_that_is_away_is_one_line() {
    let broker = format!("127.0.0.1:{}", closed_port());
    let set = format!("kafka.brokers={broker}");
    for command in [
        &["topics", "create", "--set", &set] as &[&str],
        &["topics", "create", "--dry-run", "--set", &set],
        &["topics", "describe", "--json", "--set", &set],
    ] {
        let output = one_line(command);
        assert!(stderr(&output).contains(&broker), "{}", stderr(&output));
    }
}

#[test]
fn a_registry_that_is_away_is_one_line() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    let set = format!("registry.url={url}");
    for command in ["register", "check"] {
        let output = one_line(&["schemas", command, "--set", &set]);
        assert!(stderr(&output).contains(&url), "{}", stderr(&output));
    }
}

#[test]
fn a_registry_that_takes_calls_and_never_answers_is_one_line() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    one_line(&["schemas", "check", "--set", &format!("registry.url={url}")]);
}

#[test]
fn a_gateway_that_is_away_is_one_line() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    for command in [
        &["submit", "echo", "--url", &url] as &[&str],
        &["health", &url],
        &["health", &url, "--wait", "1"],
    ] {
        let output = one_line(command);
        assert!(
            stderr(&output).contains("cannot reach"),
            "{}",
            stderr(&output)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_registered_checked_and_refused() {
    let registry = EmbeddedRegistry::start().unwrap();
    let set = format!("registry.url={}", registry.url());
    let schemas = async |command: &'static str| {
        let set = set.clone();
        let run = move || run(&["schemas", command, "--set", &set]);
        tokio::task::spawn_blocking(run).await.unwrap()
    };

    let output = schemas("check").await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.contains("tidegate schemas register"), "{said}");

    // The level is asked for at registration; a foreign schema is there first.
    let other = r#"{"type":"record","name":"Other","fields":[{"name":"x","type":"int"}]}"#;
    let answer = reqwest::Client::new()
        .post(format!(
            "{}/subjects/{}/versions",
            registry.url(),
            schema::JOB.subject
        ))
        .json(&serde_json::json!({ "schema": other, "schemaType": "AVRO" }))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());

    let output = schemas("check").await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let said = stdout(&output);
    assert_eq!(said.lines().count(), 3, "{said}");
    let line = said.lines().next().unwrap();
    assert!(
        line.starts_with(&format!("{}: not compatible: ", schema::JOB.subject)),
        "{line}"
    );

    let output = schemas("register").await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

/// A registry that refuses the first level of every subject, as Apicurio does when somebody else sets it in the same
/// moment; it takes one request a connection.
fn contended_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut set = std::collections::BTreeSet::new();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push(line);
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let asked = head.first().cloned().unwrap_or_default();
            let (status, body) = if asked.starts_with("PUT /config/") && set.insert(asked) {
                ("409 Conflict", r#"{"error_code":409,"message":"exists"}"#)
            } else {
                ("200 OK", r#"{"id":7,"compatibility":"FULL_TRANSITIVE"}"#)
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn schemas_are_registered_by_two_operators_at_once() {
    let set = format!("registry.url={}", contended_registry());
    let output = run(&["schemas", "register", "--set", &set]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 3, "{}", stdout(&output));
}
