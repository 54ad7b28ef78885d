//! What becomes of jobs whose handlers fail, and of the worker that runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tidegate_tests::misbehave::Server;
use tidegate_tests::{Client, Stack, secs, until};

/// Types that fail, each in its own way: name, handler.
fn failing(http: &Server) -> String {
    let command = |program: &str| format!("{{ kind = \"command\", program = {program} }}");
    let url = |path| format!("{{ kind = \"http\", url = \"{}\" }}", http.url(path));
    let types = [
        ("overtime", command(r#"["sleep", "60"]"#)),
        (
            "talkative",
            command(r#"["head", "-c", "9000000", "/dev/zero"]"#),
        ),
        ("no-program", command(r#"["/no/such/program"]"#)),
        ("http-error", url("500/plain")),
        ("http-hang", url("hang")),
        ("http-reset", url("reset")),
        ("http-half", url("half")),
        ("http-huge", url("huge")),
        ("http-endless", url("endless")),
        ("http-fine", url("fine")),
        (
            "http-nobody",
            "{ kind = \"http\", url = \"http://127.0.0.1:1/\" }".into(),
        ),
        (
            "http-big",
            url("big").replace(" }", ", max_answer_bytes = 8_000_000 }"),
        ),
    ];
    let table = |(name, handler): (&str, String)| {
        format!(
            "[types.{name}]\nhandler = {handler}\nattempt_timeout = \"2s\"\nretry = {{ attempts = 1 }}\n"
        )
    };
    types.map(table).concat()
}

/// Waits for a job that fails. The status of the answer, its code if it is a problem, and the job's own status.
async fn fails(client: &Client, job_type: &str) -> (u16, Value, Value) {
    let answer = client
        .wait(job_type, "{}", 20)
        .send()
        .await
        .expect("an answer");
    let status = answer.status().as_u16();
    let id = answer.headers()["tidegate-job-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = answer.text().await.expect("a body");
    let document = client.until_status(&id, &["failed"], secs(5)).await;
    // The result says what the wait was told.
    let result = client
        .get(&format!("/v1/jobs/{id}/result"))
        .send()
        .await
        .unwrap();
    assert_eq!(result.status().as_u16(), status, "{job_type}: {document}");
    let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, answer, document["error"].clone())
}

#[tokio::test]
async fn every_failure_ends_its_job_and_says_which_it_is() {
    let http = Server::start().await;
    let mut stack = Stack::new().await;
    stack.configure(&failing(&http));
    // One at a time: what holds the worker up shows at once.
    stack.set("worker.concurrency=1");
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());

    for (job_type, status, code, message, retryable) in [
        ("fail", 502, "command-exit", "broken", true),
        ("overtime", 502, "timeout", "attempt timeout of 2s", true),
        (
            "talkative",
            502,
            "command-output-too-large",
            "1048576",
            false,
        ),
        (
            "no-program",
            502,
            "command-not-found",
            "/no/such/program",
            false,
        ),
        ("http-error", 500, "http-status", "500", true),
        ("http-hang", 502, "timeout", "attempt timeout of 2s", true),
        (
            "http-reset",
            502,
            "http-reset",
            "ended the connection",
            true,
        ),
        ("http-half", 502, "http-reset", "ended the connection", true),
        ("http-nobody", 502, "http-connect", "no connection", true),
        ("http-huge", 502, "http-answer-too-large", "1048576", false),
        (
            "http-endless",
            502,
            "http-answer-too-large",
            "1048576",
            false,
        ),
        (
            "http-big",
            502,
            "outcome-too-large",
            "a record may have",
            false,
        ),
    ] {
        let begun = Instant::now();
        let (answered, answer, error) = fails(&client, job_type).await;
        println!(
            "{job_type}: {answered} after {:.1?}: {}",
            begun.elapsed(),
            error["message"]
        );
        assert_eq!(answered, status, "{job_type}: {answer}");
        assert_eq!(error["code"], code, "{job_type}: {error}");
        assert_eq!(error["retryable"], retryable, "{job_type}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{job_type}: {error}"
        );
        match status {
            // The worker's own answer.
            500 => assert_eq!(answer, json!({})),
            _ => assert_eq!(
                (&answer["code"], &answer["jobStatus"]),
                (&json!(code), &json!("failed"))
            ),
        }
        // The one slot is free again.
        let next = client.wait("http-fine", "[1]", 20).send().await.unwrap();
        assert_eq!(
            (next.status().as_u16(), next.text().await.unwrap().as_str()),
            (200, "[1]")
        );
    }
}

#[tokio::test]
async fn answers_of_any_size_leave_the_workers_memory_bounded() {
    const AT_ONCE: usize = 8;
    let http = Server::start().await;
    let mut stack = Stack::new().await;
    stack.configure(&failing(&http));
    stack.set(&format!("worker.concurrency={AT_ONCE}"));
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    client.wait("http-fine", "[]", 20).send().await.unwrap();

    let before = worker.memory_kib();
    let mut most = before;
    let all = ["http-huge", "http-endless", "http-big", "talkative"].map(|job_type| {
        let client = &client;
        join_all((0..2 * AT_ONCE).map(move |_| fails(client, job_type)))
    });
    let mut all = Box::pin(join_all(all));
    let ended = loop {
        tokio::select! {
            ended = &mut all => break ended.concat(),
            () = tokio::time::sleep(Duration::from_millis(10)) => most = most.max(worker.memory_kib()),
        }
    };
    assert_eq!(ended.len(), 8 * AT_ONCE);
    println!(
        "worker: {before} KiB before, at most {most}, {} after",
        worker.memory_kib()
    );
    // Each slot may hold an answer of 8 MB twice, as bytes and as a record.
    assert!(most < before + (AT_ONCE as u64) * 16 * 1024, "{most} KiB");
}

#[tokio::test]
async fn a_report_over_a_bad_range_is_refused_by_its_handler() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    for body in [
        r#"{"reportType":"horoscope","dateRange":"2025-01"}"#,
        r#"{"reportType":"sales"}"#,
        "[]",
    ] {
        let answer = client
            .wait("process-report", body, 20)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 422, "{body}: {text}");
        let refusal: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(refusal["code"], "bad-request", "{text}");
        println!("{body}: {text}");
    }
}

/// A worker that has never heard of `special`, and one that has.
const PLAIN: &str = "[types.echo]\nhandler = { kind = \"echo\" }\n";
const SPECIAL: &str = "[types.special]\nhandler = { kind = \"echo\" }\n";

#[tokio::test]
async fn a_type_that_a_worker_does_not_know_is_parked_and_never_lost() {
    const JOBS: usize = 30;
    let mut stack = Stack::new().await;
    stack.set("worker.park_after=200ms");
    stack.set("worker.park_at_most=1s");
    stack.configure(SPECIAL);
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    let without = stack.with_types(PLAIN);
    let plain = without.worker("plain").await;
    let _scheduler = stack.scheduler("scheduler").await;

    let mut ids = Vec::new();
    for number in 0..JOBS {
        ids.push(client.accept("special", number.to_string()).await.id);
    }
    let operator = Client::new(plain.url());
    let parked = until("every job was parked", secs(20), || async {
        let count = operator.metric("tidegate_jobs_parked_total").await;
        (count >= JOBS as f64).then_some(count)
    })
    .await;
    // Nothing stands behind them, and none has ended.
    let echo = client.wait("echo", "[1]", 20).send().await.unwrap();
    assert_eq!(echo.text().await.unwrap(), "[1]");
    for id in &ids {
        assert_eq!(client.status(id).await.unwrap()["status"], "pending");
    }
    let begun = Instant::now();
    let _special = stack.worker("special").await;
    for (number, id) in ids.iter().enumerate() {
        let ended = client.until_status(id, &["completed"], secs(40)).await;
        assert_eq!(
            (&ended["result"], &ended["attempt"]),
            (&json!(number), &json!(1))
        );
    }
    println!(
        "parked {parked} times before, all ended {:.1?} after the other worker came",
        begun.elapsed()
    );
}
