//! What bad input gets, and who is let in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tidegate_tests::raw::Connection;
use tidegate_tests::{Client, Process, Stack, http, kafka, secs, until_true};
use uuid::Uuid;

/// The problem document of a refusal.
async fn problem(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.expect("an answer");
    let (found, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.expect("a body");
    assert_eq!(found.as_u16(), status, "{text}");
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{text}"
    );
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["status"], status, "{document}");
    assert!(
        document["type"].as_str().unwrap().starts_with("/problems/"),
        "{document}"
    );
    document
}

async fn gateway(stack: &Stack) -> (Process, Client) {
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    (gateway, client)
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_mend() {
    let stack = Stack::new().await;
    let (_gateway, client) = gateway(&stack).await;

    let unknown = problem(client.submit("ecoh", "1"), 404).await;
    assert_eq!(
        (&unknown["given"], &unknown["nearest"]),
        (&"ecoh".into(), &"echo".into())
    );
    let unknown = problem(client.get("/v1/job/echo"), 404).await;
    assert_eq!(unknown["code"], "unknown-route");
    assert!(
        unknown["nearest"]
            .as_str()
            .unwrap()
            .starts_with("/v1/jobs/"),
        "{unknown}"
    );

    for (header, value, allowed) in [
        ("Prefer", "wait=soon", "wait=N"),
        ("Prefer", "wait=-1", "wait=N"),
        ("Tidegate-Priority", "urgent", "high, normal, low"),
        ("Tidegate-Deadline", "yesterday", "RFC 3339"),
        ("Tidegate-Deadline", "2001-01-01T00:00:00Z", "in the future"),
        ("Tidegate-Deadline", "400d", "7days"),
    ] {
        let bad = problem(client.submit("echo", "1").header(header, value), 400).await;
        assert_eq!(bad["header"], header, "{bad}");
        assert!(bad["allowed"].as_str().unwrap().contains(allowed), "{bad}");
        assert!(bad["detail"].as_str().unwrap().contains(header), "{bad}");
    }
    let bad = problem(client.submit("echo-async", "{\"a\": 1,\n \"b\": }"), 400).await;
    assert_eq!(
        (&bad["line"], &bad["column"]),
        (&2.into(), &7.into()),
        "{bad}"
    );

    for id in ["7", "f47ac10b-58cc-4372-a567-0e02b2c3d479"] {
        let bad = problem(client.get(&format!("/v1/jobs/{id}")), 400).await;
        assert!(bad["detail"].as_str().unwrap().contains(id), "{bad}");
    }
    // An id that could have been given out just now is not denied before that is certain.
    let fresh = format!("/v1/jobs/{}", Uuid::now_v7());
    let begun = Instant::now();
    until_true("a fresh id is unknown", secs(10), || async {
        let answer = client.get(&fresh).send().await.unwrap();
        let behind = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
        assert!(!behind || answer.headers().contains_key("retry-after"));
        !behind
    })
    .await;
    println!("a fresh id is unknown after {:?}", begun.elapsed());
    let unknown = problem(client.get(&fresh), 404).await;
    assert_eq!(unknown["code"], "unknown-job");
    let topic = format!("{}jobs.normal", stack.prefix);
    let records = kafka::read_all(&stack.servers.kafka, &topic);
    assert!(records.is_empty(), "nothing of this was taken for a job");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let stack = Stack::new().await;
    let (gateway, _) = gateway(&stack).await;
    let before = gateway.memory_kib();

    // Announced as too large: not a byte of it is waited for.
    let mut announced = Connection::to(gateway.url()).await;
    let begun = Instant::now();
    announced
        .request(
            "POST /v1/jobs/echo",
            "content-length: 1000000000000\r\n",
            "",
        )
        .await;
    let answer = announced.answer(secs(5)).await.expect("an answer");
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.body.contains("917504"), "{answer:?}");
    println!("announced: 413 after {:?}", begun.elapsed());

    // One that never ends: refused as soon as it is over the limit, while it goes on.
    let mut endless = Connection::to(gateway.url()).await;
    endless
        .request("POST /v1/jobs/echo", "transfer-encoding: chunked\r\n", "")
        .await;
    let (begun, mut sent) = (Instant::now(), 0);
    let piece = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let answer = loop {
        let written = tokio::time::timeout(secs(1), endless.write(&piece)).await;
        sent += 0x8000;
        if let Ok(answer) = endless.answer(Duration::from_millis(5)).await {
            break answer;
        }
        assert!(
            matches!(written, Ok(Ok(()))) || sent > 917_504,
            "closed without an answer"
        );
        assert!(sent < 64 << 20, "64 MiB and no answer");
    };
    assert_eq!(answer.status, 413, "{answer:?}");
    println!("endless: 413 after {sent} bytes, {:?}", begun.elapsed());

    // The limit itself is allowed.
    let whole = "x".repeat(917_504 - 2);
    let client = Client::new(gateway.url());
    client.accept("echo-async", format!("\"{whole}\"")).await;
    println!(
        "gateway: {before} KiB before, {} KiB after",
        gateway.memory_kib()
    );
    assert!(gateway.memory_kib() < before + 64 * 1024);
}

const KEYS: &str = r#"
[auth]
enabled = true
[[auth.keys]]
name = "one"
tenant = "one"
# printf %s key-of-one | sha256sum
sha256 = "HASH_ONE"
[[auth.keys]]
name = "two"
tenant = "two"
sha256 = "HASH_TWO"
"#;

#[tokio::test]
async fn keys_separate_tenants_and_are_kept_as_hashes() {
    let stack = Stack::new().await;
    let keys = KEYS
        .replace("HASH_ONE", HASH_ONE)
        .replace("HASH_TWO", HASH_TWO);
    stack.configure(&keys);
    let (_gateway, client) = gateway(&stack).await;
    let ask = |request: RequestBuilder, key: &str| request.bearer_auth(key);

    for request in [
        client.submit("echo", "1"),
        ask(client.submit("echo", "1"), HASH_ONE),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    let request = client
        .submit("echo-async", "1")
        .header("x-api-key", "key-of-one");
    let job = http::accepted(request.send().await.unwrap()).await;
    let mine = ask(client.get(&job.status_url), "key-of-one")
        .send()
        .await
        .unwrap();
    assert_eq!(mine.status(), StatusCode::OK);
    assert_eq!(mine.json::<Value>().await.unwrap()["tenant"], "one");
    problem(client.get(&job.status_url), 401).await;
    for path in [job.status_url.clone(), format!("{}/result", job.status_url)] {
        problem(ask(client.get(&path), "key-of-two"), 404).await;
    }

    let shown = stack.succeed(&["config"]);
    assert!(shown.contains("auth.keys"), "{shown}");
    for secret in ["key-of-one", HASH_ONE, HASH_TWO, "tidegate:tidegate@"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    // A key in place of its hash is not taken.
    stack.configure(
        "[[auth.keys]]\nname = \"three\"\ntenant = \"three\"\nsha256 = \"key-of-three\"",
    );
    let refused = stack.run(&["gateway", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("64") && !said.contains("key-of-three"),
        "{said}"
    );
}

const HASH_ONE: &str = "b525be134787a427cc09b3c007c453b012d65234a7314e5387c8a8bf0706b8c9";
const HASH_TWO: &str = "1e5def20104c25f73df1415c73164682ebcacc386a878c61a765bf3a8f58062b";
