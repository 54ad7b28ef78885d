//! Jobs that are called off: in line, while they run, by a client that goes away; and those that nobody takes in time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use serde_json::Value;
use tidegate_tests::topics::Admin;
use tidegate_tests::{Client, Process, Stack, rows, secs, until, until_true};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn cancel(client: &Client, id: &str) -> Response {
    let url = format!("{}/v1/jobs/{id}/cancel", client.base);
    client.http.post(url).send().await.expect("an answer")
}

async fn cancelled(client: &Client, id: &str) {
    let answer = cancel(client, id).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let document: Value = answer.json().await.unwrap();
    assert_eq!(document["status"], "cancelled", "{document}");
}

async fn running(worker: &Process) -> f64 {
    Client::new(worker.url())
        .metric("tidegate_attempts_running")
        .await
}

/// Types whose runs leave traces in files: one ends when it is told to, one does not.
fn types(stack: &Stack) -> String {
    let dir = stack.dir.path().display();
    format!(
        r#"
[types.noted]
mode = "async"
handler = {{ kind = "command", program = ["sh", "-c", "echo $TIDEGATE_JOB_ID >>{dir}/ran"] }}

[types.polite]
mode = "async"
handler = {{ kind = "command", program = ["sh", "-c", "trap 'echo told >>{dir}/polite; exit 0' TERM; echo $$ >>{dir}/polite; while true; do sleep 0.1; done"] }}

[types.deaf]
mode = "async"
handler = {{ kind = "command", program = ["sh", "-c", "trap '' TERM; echo $$ >>{dir}/deaf; while true; do sleep 0.1; done"] }}
"#
    )
}

fn lines(stack: &Stack, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(stack.dir.path().join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_line_is_never_begun_also_by_a_worker_that_comes_later() {
    let stack = Stack::new().await;
    stack.configure(&types(&stack));
    let (a, b) = tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"));
    let (first, other) = (Client::new(a.url()), Client::new(b.url()));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(first.accept("noted", "1").await.id);
    }
    // Half of them by the gateway that did not accept them; one of them twice.
    let begun = Instant::now();
    for id in ids.iter().step_by(2) {
        cancelled(&other, id).await;
    }
    println!(
        "cancel: 10 jobs in line called off, each answered after {:.0?}",
        begun.elapsed() / 10
    );
    cancelled(&first, &ids[0]).await;

    let worker = stack.worker("worker").await;
    for id in ids.iter().skip(1).step_by(2) {
        first.until_status(id, &["completed"], secs(30)).await;
    }
    let admin = Admin::of(&stack.servers.kafka);
    let (topic, group) = (
        format!("{}jobs.normal", stack.prefix),
        format!("{}worker.default.normal", stack.prefix),
    );
    until_true("every record is done with", secs(20), || async {
        let committed = admin.committed(&group, &topic);
        let ends = admin.ends(&topic).into_iter();
        ends.zip(committed)
            .all(|((low, high), at)| low == high || at == Some(high))
    })
    .await;
    let mut ran = lines(&stack, "ran");
    ran.sort_unstable();
    let mut expected: Vec<_> = ids.iter().skip(1).step_by(2).cloned().collect();
    expected.sort_unstable();
    assert_eq!(ran, expected, "no cancelled job ran");
    let dropped = Client::new(worker.url())
        .metric("tidegate_jobs_dropped_total")
        .await;
    assert_eq!(dropped, 10.0);
    // An end that came first stays.
    let answer = cancel(&other, &ids[1]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["jobStatus"], "completed", "{problem}");
    assert_eq!(rows::assert_agree(&stack).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_told_to_end_and_then_made_to() {
    let stack = Stack::new().await;
    stack.configure(&types(&stack));
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let (polite, deaf) = (
        client.accept("polite", "1").await.id,
        client.accept("deaf", "1").await.id,
    );
    until_true("both run", secs(20), || async {
        lines(&stack, "polite").len() == 1 && lines(&stack, "deaf").len() == 1
    })
    .await;
    client.until_status(&polite, &["processing"], secs(5)).await;
    let begun = Instant::now();
    cancelled(&client, &polite).await;
    until_true("it is told to end", secs(5), || async {
        lines(&stack, "polite").len() == 2
    })
    .await;
    let told = begun.elapsed();
    cancelled(&client, &deaf).await;
    let group = &lines(&stack, "deaf")[0];
    let alive = || std::path::Path::new(&format!("/proc/{group}")).exists();
    until_true("it is made to end", secs(10), || async { !alive() }).await;
    println!(
        "cancel: a program was told to end after {told:.1?}; one that does not listen is gone after {:.1?}",
        begun.elapsed()
    );
    assert!(told < secs(2));
    until_true("the slots are free", secs(5), || async {
        running(&worker).await == 0.0
    })
    .await;
    // Nothing was told but the cancellation, and the worker goes on.
    client.wait("echo", "1", 20).send().await.unwrap();
    for (id, fold) in rows::fold(&stack).await {
        assert_eq!(fold.ends, 1, "{id}");
    }
    rows::assert_agree(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_an_http_job_is_closed() {
    let stack = Stack::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/work", listener.local_addr().unwrap());
    stack.configure(&format!(
        "[types.remote]\nmode = \"async\"\nhandler = {{ kind = \"http\", url = \"{url}\" }}\n"
    ));
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let id = client.accept("remote", "1").await.id;
    let (mut work, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 16];
    work.read_exact(&mut request).await.unwrap();
    cancelled(&client, &id).await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(secs(5), work.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the worker still waits for an answer");
}

/// A raw request that waits; its client is a socket that can be dropped.
async fn waiting(client: &Client, job_type: &str, body: &str, option: &str) -> TcpStream {
    let host = client.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /v1/jobs/{job_type} HTTP/1.1\r\nHost: {host}\r\nPrefer: wait=30\r\n{option}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_job_along_only_if_it_said_so() {
    let stack = Stack::new().await;
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let stream = waiting(&client, "sleep", "30", "Tidegate-On-Disconnect: cancel\r\n").await;
    until_true("it runs", secs(20), || async {
        running(&worker).await == 1.0
    })
    .await;
    drop(stream);
    let begun = Instant::now();
    until_true("it is stopped", secs(10), || async {
        running(&worker).await == 0.0
    })
    .await;
    println!(
        "cancel: a job whose client has gone is stopped after {:.1?}",
        begun.elapsed()
    );
    let stream = waiting(&client, "sleep", "2", "").await;
    until_true("it runs", secs(20), || async {
        running(&worker).await == 1.0
    })
    .await;
    drop(stream);
    let ends = until("both have ended", secs(20), || async {
        let rows = rows::rows(&stack).await;
        let mut ends: Vec<_> = rows
            .into_values()
            .filter(rows::Row::is_ended)
            .map(|row| row.status)
            .collect();
        ends.sort_unstable();
        (ends.len() == 2).then_some(ends)
    })
    .await;
    assert_eq!(ends, ["cancelled", "completed"]);
    rows::assert_agree(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_takes_expires_and_ends_its_wait() {
    let stack = Stack::new().await;
    let (a, b) = tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"));
    let (first, other) = (Client::new(a.url()), Client::new(b.url()));
    let mut ids = Vec::new();
    for _ in 0..10 {
        let answer = first
            .submit("echo-async", "1")
            .header("tidegate-deadline", "2s")
            .send()
            .await;
        ids.push(tidegate_tests::http::accepted(answer.unwrap()).await.id);
    }
    let kept = first.accept("echo-async", "1").await.id;
    let begun = Instant::now();
    let waited = first
        .wait("echo", "1", 25)
        .header("tidegate-deadline", "2s")
        .send();
    let answer = waited.await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "deadline-passed", "{problem}");
    let took: Duration = begun.elapsed();
    println!("expiry: a wait without a worker and a deadline of 2 s ends after {took:.1?}");
    assert!(took > secs(3) && took < secs(10), "{took:?}");
    for id in &ids {
        other.until_status(id, &["expired"], secs(10)).await;
    }
    let folds = rows::fold(&stack).await;
    let ends: usize = folds.values().map(|fold| fold.ends).sum();
    println!("expiry: 11 jobs, {ends} expired events by two gateways");
    assert!((11..=22).contains(&ends), "{ends}");
    assert_eq!(first.status(&kept).await.unwrap()["status"], "pending");
    // A worker that comes late runs what is not over.
    let _worker = stack.worker("worker").await;
    first.until_status(&kept, &["completed"], secs(20)).await;
    rows::assert_agree(&stack).await;
}
