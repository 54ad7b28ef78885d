//! The main job: a request in over HTTP, through Kafka, and its answer back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tidegate_tests::load::Load;
use tidegate_tests::{Client, Stack, http, rows, secs, until};

const ROUTES: &str = r#"
[[routes]]
path = "/say"
kind = "submit"
type = "echo"

[[routes]]
path = "/orders/{order}/report"
kind = "submit"
type = "seen"

[[routes]]
path = "/process-report"
kind = "submit"
type = "process-report"

[[routes]]
path = "/jobs/{id}"
kind = "status"

# Answers with what a handler sees of the request.
[types.seen]
handler = { kind = "command", program = ["sh", "-c", 'echo "$TIDEGATE_METHOD $TIDEGATE_PATH?$TIDEGATE_QUERY"; cat'], content_type = "text/plain" }
"#;

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_answered_with_the_workers_answer() {
    let stack = Stack::new().await;
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());

    let body = r#"{"hello": "world",  "n": [1, 2]}"#;
    let answer = client.wait("echo", body, 10).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    assert_eq!(header(&answer, "content-type"), "application/json");
    assert_eq!(header(&answer, "preference-applied"), "wait=10");
    let id = header(&answer, "tidegate-job-id").to_owned();
    let trace = header(&answer, "tidegate-trace-id").to_owned();
    assert_eq!(trace.len(), 32, "{trace}");
    let timing = header(&answer, "server-timing").to_owned();
    for part in ["produce", "queue", "handler", "reply"] {
        assert!(timing.contains(&format!("{part};dur=")), "{timing}");
    }
    println!("wait: 200, job {id}, Server-Timing: {timing}");
    assert_eq!(answer.text().await.unwrap(), body, "byte for byte");

    // The durable reply is the truth: the row is there although nobody asked for it.
    let status = client.until_status(&id, &["completed"], secs(10)).await;
    assert_eq!(status["traceId"], *trace);
    assert_eq!(status["result"], json!({ "hello": "world", "n": [1, 2] }));
    assert_eq!(status["attempt"], 1);

    // Bytes of any kind, the worker's failure, and a tier that the type allows.
    let bytes: Vec<u8> = (0..=255).collect();
    let answer = client
        .http
        .post(format!("{}/v1/jobs/echo", client.base))
        .header("content-type", "application/x-any")
        .header("tidegate-priority", "high")
        .body(bytes.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(header(&answer, "content-type"), "application/x-any");
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    let answer = client.wait("fail", "{}", 10).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let problem: Value = answer.json().await.unwrap();
    assert!(problem.to_string().contains("broken"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_job_is_polled_until_its_result_is_there() {
    let stack = Stack::new().await;
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());

    let answer = client
        .submit("slow-echo", r#"{"a":1}"#)
        .header("prefer", "respond-async")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&answer, "preference-applied"), "respond-async");
    assert_eq!(header(&answer, "retry-after"), "1");
    let location = header(&answer, "location").to_owned();
    let trace = header(&answer, "tidegate-trace-id").to_owned();
    let job = http::accepted(answer).await;
    assert_eq!(location, job.status_url);

    // Readable at once, and not over: the result waits with it.
    let first = client.get(&location).send().await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(header(&first, "retry-after"), "1");
    let early = client
        .get(&format!("{location}/result"))
        .send()
        .await
        .unwrap();
    assert_eq!(early.status(), StatusCode::CONFLICT);
    assert!(!header(&early, "retry-after").is_empty());

    let running = client
        .until_status(&job.id, &["processing"], secs(10))
        .await;
    assert_eq!(running["attempt"], 1);
    let ended = client.until_status(&job.id, &["completed"], secs(10)).await;
    assert_eq!(ended["result"], json!({ "a": 1 }), "inline");
    assert_eq!(ended["traceId"], *trace);
    let result = client
        .get(ended["resultUrl"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(result.status(), StatusCode::OK);
    assert_eq!(header(&result, "content-type"), "application/json");
    assert_eq!(result.text().await.unwrap(), r#"{"a":1}"#);

    // A status that has not changed costs nothing but the asking.
    let known = client.get(&location).send().await.unwrap();
    let again = client
        .get(&location)
        .header("if-none-match", header(&known, "etag"))
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_runs_out_becomes_202_and_the_job_ends_later() {
    let stack = Stack::new().await;
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());

    let begun = Instant::now();
    let answer = client
        .wait("slow-echo", r#"{"late":true}"#, 1)
        .send()
        .await
        .unwrap();
    let waited = begun.elapsed();
    assert!(
        waited >= secs(1) && waited < Duration::from_millis(1900),
        "{waited:?}"
    );
    assert_eq!(header(&answer, "preference-applied"), "wait=1");
    let job = http::accepted(answer).await;
    // Its status can be read right after the answer, and its end comes.
    let now = client.status(&job.id).await.expect("a status right away");
    assert_ne!(now["status"], "completed", "{now}");
    let ended = client.until_status(&job.id, &["completed"], secs(10)).await;
    assert_eq!(ended["result"], json!({ "late": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_routes_keep_the_paths_of_an_existing_api() {
    let stack = Stack::new().await;
    stack.configure(ROUTES);
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let post = |path: &str, body: &str| {
        let url = format!("{}{path}", client.base);
        client
            .http
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_owned())
    };

    let answer = post("/say", r#"{"a":"b"}"#).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap(), r#"{"a":"b"}"#);

    // The handler sees method, path and query.
    let answer = post("/orders/17/report?lang=de&x=1", "{}")
        .send()
        .await
        .unwrap();
    let seen = answer.text().await.unwrap();
    assert_eq!(seen, "POST /orders/17/report?lang=de&x=1\n{}");

    // The status URL of a job that came in on a configured route is a configured one.
    let answer = post("/say", "[1]")
        .header("prefer", "respond-async")
        .send()
        .await
        .unwrap();
    let job = http::accepted(answer).await;
    assert_eq!(job.status_url, format!("/jobs/{}", job.id));
    let ended = until("the job ends", secs(10), || async {
        let answer = client.get(&job.status_url).send().await.ok()?;
        let document: Value = answer.json().await.ok()?;
        (document["status"] == "completed").then_some(document)
    })
    .await;
    assert_eq!(ended["result"], json!([1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn process_report_answers_in_json_and_in_csv() {
    let stack = Stack::new().await;
    stack.configure(ROUTES);
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let ask = |body: &str| {
        let url = format!("{}/process-report", client.base);
        client
            .http
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_owned())
    };

    // Asynchronous unless asked otherwise.
    let month = r#"{"reportType":"sales","dateRange":"2025-01"}"#;
    let job = http::accepted(ask(month).send().await.unwrap()).await;
    let ended = client
        .until_status(&job.id, &["completed", "failed"], secs(60))
        .await;
    assert_eq!(ended["status"], "completed", "{ended}");

    let begun = Instant::now();
    let answer = ask(month).header("prefer", "wait=30").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let report: Value = answer.json().await.unwrap();
    let took = begun.elapsed();
    assert_eq!(report["from"], "2025-01-01");
    assert_eq!(report["to"], "2025-01-31");
    let (totals, json_rows) = (&report["totals"], report["rows"].as_array().unwrap());
    let orders = totals["orders"].as_u64().unwrap();
    assert!(orders > 1_000 && !json_rows.is_empty(), "{totals}");

    // The same range, the other way to say it, as CSV: the same sums.
    let answer = ask(r#"{"reportType":"sales","from":"2025-01-01","to":"2025-01-31"}"#)
        .header("prefer", "wait=30")
        .header("accept", "text/csv")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(header(&answer, "content-type").starts_with("text/csv"));
    let csv = answer.text().await.unwrap();
    let mut lines = csv.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').collect();
    let column = columns.iter().position(|name| *name == "orders").unwrap();
    let counts = lines.map(|line| line.split(',').nth(column).unwrap().parse::<u64>().unwrap());
    let counts: Vec<_> = counts.collect();
    assert_eq!(counts.len(), json_rows.len());
    assert_eq!(counts.iter().sum::<u64>(), orders);
    println!(
        "process-report: {orders} orders in {} groups, {took:.1?} over HTTP and Kafka, JSON and CSV agree",
        json_rows.len()
    );

    let refused = ask(r#"{"reportType":"sales","dateRange":"soon"}"#)
        .header("prefer", "wait=30")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_shows_the_job_id_and_readable_headers() {
    let stack = Stack::new().await;
    let (gateway, _worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let answer = client.wait("echo", r#"{"a":1}"#, 10).send().await.unwrap();
    let id = header(&answer, "tidegate-job-id").to_owned();
    let trace = header(&answer, "tidegate-trace-id").to_owned();

    let output = Command::new("kcat")
        .args([
            "-b",
            &stack.servers.kafka,
            "-C",
            "-q",
            "-e",
            "-f",
            "%k %h\\n",
        ])
        .args(["-t", &format!("{}jobs.normal", stack.prefix)])
        .output()
        .expect("kcat");
    let text = String::from_utf8(output.stdout).unwrap();
    println!("kcat: {text}");
    let (key, headers) = text.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!(key, id);
    for header in [
        format!("job-id={id}"),
        "job-type=echo".into(),
        "tier=normal".into(),
        "tenant=default".into(),
        "attempt=1".into(),
        "content-type=application/json".into(),
    ] {
        assert!(
            headers.split(',').any(|known| known == header),
            "{header} in {headers}"
        );
    }
    assert!(
        headers.contains("reply-partition=") && headers.contains("deadline=20"),
        "{headers}"
    );
    assert!(
        headers.contains(&format!("traceparent=00-{trace}-")),
        "{headers}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waits_on_two_gateways_and_two_workers() {
    let stack = Stack::new().await;
    let (a, b, _one, _two) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let gateways = [Client::new(a.url()), Client::new(b.url())];
    let tally = Load {
        gateways: &gateways,
        concurrency: 200,
        jobs: 10_000,
        until: None,
        sent: None,
        job_type: |_| "echo",
        pause: Duration::ZERO,
    }
    .run()
    .await;
    println!("main_job: {tally}");
    tally.assert_whole();
    let ids: std::collections::BTreeSet<_> = tally.jobs.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 10_000, "ids are unique");

    // What one gateway answered the other can tell of.
    for (gateway, id) in tally.jobs.iter().step_by(100) {
        let other = &gateways[1 - gateway];
        other.until_status(id, &["completed"], secs(30)).await;
    }
    // And all of it is in the store, as the log has it.
    until("every row is ended", secs(30), || async {
        let rows = rows::rows(&stack).await;
        (rows.len() == 10_000 && rows.values().all(rows::Row::is_ended)).then_some(())
    })
    .await;
    let agreed = rows::assert_agree(&stack).await;
    println!(
        "main_job: 100 statuses read on the other gateway, {agreed} rows agree with the log; memory {} and {} MiB",
        a.memory_kib() / 1024,
        b.memory_kib() / 1024
    );
}
