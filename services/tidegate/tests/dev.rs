//! `tidegate dev` as somebody meets it who has never seen Tidegate.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use common::{Role, finish, ready, run, stderr, stdout, tidegate, until};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Offset, TopicPartitionList};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const REPORT: &str = r#"{"reportType":"sales","dateRange":"2025-01"}"#;

/// A running `dev` that takes jobs, on a free port.
async fn dev(arguments: &[&str]) -> Role {
    let arguments = [&["dev", "--listen", "127.0.0.1:0"], arguments].concat();
    let role = Role::start(&mut tidegate(&arguments));
    assert!(role.url.starts_with("http://127.0.0.1:"), "{}", role.url);
    ready(&role.url).await;
    role
}

fn header(answer: &Response, name: &str) -> String {
    let value = answer.headers().get(name);
    let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", answer.headers()));
    value.to_str().unwrap().to_owned()
}

async fn post(url: String, headers: &[(&str, &str)], body: &'static str) -> Response {
    let request = Client::new()
        .post(url)
        .header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn samples_answer_in_the_same_response() {
    let dev = dev(&[]).await;
    let url = &dev.url;

    let answer = post(format!("{url}/v1/jobs/echo"), &[], r#"{"hello":"tide"}"#).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let id = header(&answer, "tidegate-job-id");
    assert_eq!(header(&answer, "tidegate-trace-id").len(), 32);
    assert!(header(&answer, "server-timing").contains("handler"));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"hello": "tide"}));

    // The durable reply is projected whether anybody waited or not.
    let status = until("a status", Duration::from_secs(10), async || {
        let answer = reqwest::get(format!("{url}/jobs/{id}")).await.unwrap();
        answer.status().is_success().then_some(answer)
    });
    let status: Value = status.await.json().await.unwrap();
    assert_eq!(status["status"], "completed");
    assert_eq!(status["type"], "echo");

    let headers = [("content-type", "text/plain")];
    let request = Client::new().post(format!("{url}/v1/jobs/word-count"));
    let request = request.header(headers[0].0, headers[0].1);
    let answer = request
        .body("a tide waits for no one")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.text().await.unwrap().trim(), "6");
}

#[tokio::test]
async fn a_report_is_accepted_and_polled_for_or_waited_for() {
    let dev = dev(&[]).await;
    let url = &dev.url;
    let report = format!("{url}/process-report");

    let answer = post(report.clone(), &[], REPORT).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = header(&answer, "location");
    header(&answer, "retry-after");
    let id = header(&answer, "tidegate-job-id");
    let accepted: Value = answer.json().await.unwrap();
    assert_eq!(accepted["jobId"], json!(id));
    assert_eq!(accepted["status"], "pending");
    assert_eq!(accepted["statusUrl"], json!(location));
    assert_eq!(location, format!("/jobs/{id}"));

    let status = until("a report", Duration::from_secs(30), async || {
        let answer = reqwest::get(format!("{url}{location}")).await.unwrap();
        let status: Value = answer.json().await.unwrap();
        (status["status"] == "completed").then_some(status)
    });
    let status = status.await;
    let inline = &status["result"];
    assert_eq!(inline["from"], "2025-01-01", "{status}");
    assert!(
        inline["rows"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
    );

    let wait = ("prefer", "wait=20");
    let answer = post(report.clone(), &[wait], REPORT).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "preference-applied"), "wait=20");
    assert_eq!(header(&answer, "content-type"), "application/json");
    let direct: Value = answer.json().await.unwrap();
    assert_eq!(direct, *inline);

    let answer = post(report, &[wait, ("accept", "text/csv")], REPORT).await;
    assert!(header(&answer, "content-type").starts_with("text/csv"));
    let csv = answer.text().await.unwrap();
    let rows = inline["rows"].as_array().unwrap().len();
    assert!(csv.lines().count() > rows.min(2), "{csv}");
    assert!(csv.starts_with("month,region,product,"), "{csv}");
}

#[tokio::test]
async fn the_lines_that_it_prints_can_be_pasted() {
    let mut dev = dev(&[]).await;
    let limit = Duration::from_secs(30);
    let kcat = dev.line("kcat -b ", limit);
    dev.line("forgotten when it ends", limit);

    let curl = dev.line("curl -i ", limit);
    let pasted = finish(Command::new("sh").args(["-c", &curl]), limit);
    if pasted.status.code() == Some(127) {
        // The same without curl.
        let echo = format!("{}/v1/jobs/echo", dev.url);
        let answer = post(echo, &[], r#"{"hello":"tide"}"#).await;
        assert_eq!(answer.status(), StatusCode::OK);
    } else {
        assert!(stdout(&pasted).contains(" 200 OK"), "{}", stdout(&pasted));
        assert!(stdout(&pasted).contains(r#"{"hello":"tide"}"#));
    }

    let pasted = finish(Command::new("sh").args(["-c", &kcat]), limit);
    let records = if pasted.status.code() == Some(127) {
        let broker = kcat.split_whitespace().nth(2).unwrap().to_owned();
        tokio::task::spawn_blocking(move || read_as_kcat(&broker))
            .await
            .unwrap()
    } else {
        assert!(pasted.status.success(), "{}", stderr(&pasted));
        stdout(&pasted)
    };
    let (id, headers) = records.trim().split_once(' ').unwrap();
    assert_eq!(id.len(), 36, "{records}");
    for part in [
        format!("job-id={id}").as_str(),
        "job-type=echo",
        "tier=normal",
        "tenant=default",
        "attempt=1",
        "traceparent=00-",
    ] {
        assert!(headers.contains(part), "no {part} in {records}");
    }
}

/// What the kcat line shows, where there is no kcat.
fn read_as_kcat(broker: &str) -> String {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", "look")
        .set("fetch.wait.max.ms", "5")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..12 {
        all.add_partition_offset("tidegate.jobs.normal", partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let record = consumer.poll(Duration::from_secs(20)).unwrap().unwrap();
    let headers = record.headers().unwrap().iter();
    let headers: Vec<_> = headers
        .map(|header| {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default());
            format!("{}={value}", header.key)
        })
        .collect();
    let key = String::from_utf8_lossy(record.key().unwrap_or_default());
    format!("{key} {}", headers.join(","))
}

#[tokio::test]
async fn it_ends_on_sigterm_with_a_long_job_running_and_leaves_no_files() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("dev.toml");
    let text = r#"
[types.nap]
handler = { kind = "command", program = ["sleep", "600"] }
content = "any"

[[routes]]
path = "/nap"
kind = "submit"
type = "nap"
"#;
    std::fs::write(&config, text).unwrap();
    let files = temp.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut command = tidegate(&["dev", "--listen", "127.0.0.1:0", "--config"]);
    command
        .arg(&config)
        .args(["--set", "gateway.grace=8s"])
        .env("TMPDIR", &files);
    let mut dev = Role::start(&mut command);
    ready(&dev.url).await;
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1);

    let answer = post(
        format!("{}/nap", dev.url),
        &[("prefer", "respond-async")],
        "",
    )
    .await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let status = format!("{}{}", dev.url, header(&answer, "location"));
    until("a running job", Duration::from_secs(20), async || {
        let status: Value = reqwest::get(&status).await.unwrap().json().await.unwrap();
        (status["status"] == "processing").then_some(())
    })
    .await;

    let (status, took) = dev.terminate(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 0);
}

#[tokio::test]
async fn submit_prints_the_answer_and_its_code_tells_the_rest() {
    let dev = dev(&[]).await;
    let url = dev.url.as_str();
    let said = async |arguments: &[&str]| {
        let arguments: Vec<_> = [&["submit", "--url", url], arguments].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let running = tokio::task::spawn_blocking(move || {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            run(&arguments)
        });
        let output = running.await.unwrap();
        (output.status.code(), stdout(&output), stderr(&output))
    };

    let (code, out, _) = said(&["echo", "--data", r#"{"a":1}"#, "--wait", "10"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "{\"a\":1}\n"));

    let (code, out, _) = said(&["process-report", "-d", REPORT, "--async"]).await;
    assert_eq!(code, Some(3), "{out}");
    assert!(out.contains("\"status\":\"pending\""), "{out}");

    let csv = [
        "process-report",
        "-d",
        REPORT,
        "--wait",
        "20",
        "-H",
        "accept: text/csv",
    ];
    let (code, out, _) = said(&csv).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.starts_with("month,region,product,"), "{out}");

    let (code, out, err) = said(&["process-report", "-d", "{}", "--wait", "20"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("422"), "{err}");

    let (code, out, _) = said(&["ecco"]).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("echo"), "{out}");
}

#[test]
fn a_port_that_is_taken_is_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let arguments = ["dev", "--listen", &listen, "--set", "telemetry.log=error"];
    let output = run(&arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{listen} is in use")), "{said}");
    assert!(said.contains("--listen"), "{said}");

    let arguments = [&arguments[..], &["--set", "kafka.brokers=db:9092"]].concat();
    let said = stderr(&run(&arguments));
    assert!(said.contains("--set: kafka.brokers is not used"), "{said}");
}
