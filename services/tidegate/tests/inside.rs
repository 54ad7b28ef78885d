//! Looking inside: `topics tail`, `jobs show` and `trace` on a running `dev`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::Duration;

use common::{Role, ready, run, stderr, stdout, tidegate, until};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Client;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// A `dev`, and how to point commands at what is inside it.
struct Dev {
    role: Role,
    brokers: String,
    sets: Vec<String>,
}

impl Dev {
    async fn start() -> Self {
        let mut role = Role::start(&mut tidegate(&["dev", "--listen", "127.0.0.1:0"]));
        ready(&role.url).await;
        let mut word = |name: &str| {
            let line = role.line(name, LIMIT);
            line.split_whitespace().last().unwrap().to_owned()
        };
        let brokers = word("  broker ");
        let registry = word("  registry ");
        let sets = [
            format!("kafka.brokers={brokers}"),
            format!("registry.url={registry}"),
        ];
        let sets = sets.into_iter().flat_map(|set| ["--set".to_owned(), set]);
        Self {
            sets: sets.collect(),
            role,
            brokers,
        }
    }

    /// Runs a command to its end.
    async fn run(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let running = tokio::task::spawn_blocking(move || {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            run(&arguments)
        });
        running.await.unwrap()
    }

    /// The same with Kafka and registry named.
    async fn run_inside(&self, arguments: &[&str]) -> Output {
        let sets = self.sets.iter().map(String::as_str);
        let all: Vec<_> = arguments.iter().copied().chain(sets).collect();
        self.run(&all).await
    }

    /// The records that `topics tail` prints.
    async fn tail(&self, arguments: &[&str]) -> Vec<Value> {
        let all = [&["topics", "tail"], arguments].concat();
        let output = self.run_inside(&all).await;
        assert!(output.status.success(), "{all:?}: {}", stderr(&output));
        lines(&output)
    }

    /// Submits a job and waits for it: its id.
    async fn job(&self, path: &str, body: &'static str) -> String {
        let answer = Client::new()
            .post(format!("{}{path}", self.role.url))
            .header("content-type", "application/json")
            .header("prefer", "wait=20")
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.headers()["tidegate-job-id"]
            .to_str()
            .unwrap()
            .to_owned()
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let said = stdout(output);
    let lines = said.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// An output that failed with that code, in one line that has the words.
fn refused(output: &Output, code: i32, words: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(stdout(output), "");
    assert!(said.contains(words), "no `{words}` in: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn records_are_printed_decoded() {
    let dev = Dev::start().await;
    let first = dev.job("/v1/jobs/echo", r#"{"hello":"tide"}"#).await;
    let second = dev.job("/v1/jobs/echo", "[1]").await;

    let jobs = dev.tail(&["jobs.normal"]).await;
    assert_eq!(jobs.len(), 2, "{jobs:#?}");
    let job = jobs.iter().find(|job| job["key"] == json!(first)).unwrap();
    assert_eq!(job["topic"], "tidegate.jobs.normal");
    assert_eq!(job["schema"], "tidegate.v1.Job");
    assert_eq!(job["headers"]["job-type"], "echo");
    assert_eq!(job["value"]["type"], "echo");
    assert_eq!(job["value"]["body"], json!({"hello": "tide"}));
    assert!(job["timestamp"].as_str().unwrap().ends_with('Z'));

    let only = dev.tail(&["jobs.normal", "--job", &second]).await;
    assert_eq!(only.len(), 1);
    assert_eq!(only[0]["value"]["body"], json!([1]));
    assert_eq!(
        dev.tail(&["tidegate.jobs.normal", "--count", "1"])
            .await
            .len(),
        1
    );
    assert_eq!(dev.tail(&["jobs.low"]).await.len(), 0);
    let events = dev.tail(&["replies", "--job", &first]).await;
    let end = events.last().unwrap();
    assert_eq!(end["value"]["kind"], "completed");
    assert_eq!(end["value"]["outcome"]["body"], json!({"hello": "tide"}));
    // The last record of each partition. Mostly all lie in one; a gateway that waits long for its group begins with a
    // borrowed home, and the two jobs then lie in two.
    let mut ends = BTreeMap::new();
    for event in dev.tail(&["replies"]).await {
        ends.insert(event["partition"].as_i64(), event["offset"].as_i64());
    }
    let last = dev.tail(&["replies", "--from", "-1"]).await;
    assert_eq!(last.len(), ends.len(), "{last:#?}");
    for event in last {
        assert_eq!(ends[&event["partition"].as_i64()], event["offset"].as_i64());
    }

    // What nobody can decode is shown as it is.
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &dev.brokers)
        .create()
        .unwrap();
    let bad = FutureRecord::to("tidegate.dead-letters")
        .key(&b"\xff"[..])
        .payload(&b"not Avro"[..]);
    producer.send(bad, LIMIT).await.unwrap();
    let letters = dev.tail(&["dead-letters"]).await;
    assert_eq!(letters[0]["value"], json!({"$base64": "bm90IEF2cm8="}));
    assert_eq!(letters[0]["key"], json!({"$base64": "/w=="}));
    let why = letters[0]["error"].as_str().unwrap();
    assert!(why.contains("magic byte"), "{why}");

    // Without a registry too, with the reason.
    let away = ["--set", "registry.url=http://127.0.0.1:9"];
    let all = [&["jobs.normal", "--count", "1"], &away[..]].concat();
    let dark = dev
        .run_inside(&[&["topics", "tail"], &all[..]].concat())
        .await;
    // The last `--set` wins, which is the right registry here: so it is asked the other way round.
    assert!(dark.status.success(), "{}", stderr(&dark));
    let brokers = format!("kafka.brokers={}", dev.brokers);
    let all = [
        "topics",
        "tail",
        "jobs.normal",
        "--set",
        &brokers,
        "--set",
        away[1],
    ];
    let dark = lines(&dev.run(&all).await);
    assert_eq!(dark.len(), 2);
    let why = dark[0]["error"].as_str().unwrap();
    assert!(why.contains("registry is not available"), "{why}");

    refused(
        &dev.run_inside(&["topics", "tail", "jobs.hihg"]).await,
        1,
        "there is no topic tidegate.jobs.hihg: with these settings there may be",
    );
    refused(
        &dev.run_inside(&["topics", "tail", "replies", "--from", "latest"])
            .await,
        2,
        "--follow",
    );
    refused(
        &dev.run_inside(&["topics", "tail", "replies", "--job", "x"])
            .await,
        2,
        "not a job id",
    );
}

#[tokio::test]
async fn followed_records_are_printed_as_they_come() {
    let dev = Dev::start().await;
    dev.job("/v1/jobs/echo", r#""before""#).await;
    let mut command = tidegate(&["topics", "tail", "jobs.normal", "--follow"]);
    let child = command
        .args(&dev.sets)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<String>();
    let out = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let mut next = async || {
        let line = tokio::time::timeout(LIMIT, told.recv())
            .await
            .unwrap()
            .unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["value"]["body"].clone()
    };
    assert_eq!(next().await, "before");
    dev.job("/v1/jobs/echo", r#""after""#).await;
    assert_eq!(next().await, "after");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn the_timeline_of_a_job_is_shown() {
    let dev = Dev::start().await;
    let url = dev.role.url.as_str();
    let report = r#"{"reportType":"sales","dateRange":"2025-01"}"#;
    let id = dev.job("/process-report", report).await;
    let show = ["jobs", "show", &id, "--url", url];

    let full = dev.run_inside(&show).await;
    let said = stdout(&full);
    assert!(full.status.success(), "{}", stderr(&full));
    println!("{said}");
    for words in [
        "process-report (pool default, tier normal, tenant default)",
        "status    completed, attempt 1",
        "since accept",
        "submitted",
        "progress",
        "200 application/json",
    ] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    let json = dev.run_inside(&[&show[..], &["--json"]].concat()).await;
    let shown: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(shown["status"]["status"], "completed");
    let timeline = shown["timeline"].as_array().unwrap();
    assert_eq!(timeline[0]["event"], "submitted");
    assert_eq!(timeline[1]["event"], "started");
    let end = timeline.last().unwrap();
    assert_eq!(end["event"], "completed");
    assert_eq!(end["topic"], "tidegate.replies");
    let since = |line: &Value| line["sinceAcceptMs"].as_i64().unwrap();
    assert!(
        since(end) >= since(&timeline[1]) && since(end) < 30_000,
        "{shown}"
    );

    // Only the gateway: what its status tells, and how to see more.
    let short = dev.run(&show).await;
    assert!(short.status.success());
    assert!(stdout(&short).contains("accepted") && stdout(&short).contains("completed"));
    assert!(stderr(&short).contains("--config"), "{}", stderr(&short));
    // Only Kafka.
    let away = ["jobs", "show", &id, "--url", "http://127.0.0.1:9"];
    let dark = dev.run_inside(&away).await;
    assert!(dark.status.success(), "{}", stderr(&dark));
    assert!(stdout(&dark).contains("submitted"), "{}", stdout(&dark));
    assert!(
        stderr(&dark).contains("cannot reach http://127.0.0.1:9"),
        "{}",
        stderr(&dark)
    );

    refused(
        &dev.run(&["jobs", "show", "nonsense", "--url", url]).await,
        2,
        "not a job id",
    );
    let unknown = "019b0000-0000-7000-8000-000000000000";
    refused(
        &dev.run_inside(&["jobs", "show", unknown, "--url", url])
            .await,
        1,
        unknown,
    );
    refused(
        &dev.run(&["jobs", "show", &id, "--url", "http://127.0.0.1:9"])
            .await,
        1,
        "cannot reach",
    );
}

#[tokio::test]
async fn the_trace_of_a_job_is_a_tree() {
    let dev = Dev::start().await;
    let url = dev.role.url.as_str();
    let id = dev.job("/v1/jobs/echo", r#"{"secret":"marker-77"}"#).await;
    // The last span of a job ends a moment after its answer.
    let said = until("the whole trace", LIMIT, async || {
        let said = stdout(&dev.run(&["trace", &id, "--url", url]).await);
        said.contains("process tidegate.replies").then_some(said)
    });
    let said = said.await;
    println!("{said}");
    let tree: Vec<_> = said.lines().skip(2).collect();
    for (line, (depth, name)) in tree.iter().zip([
        (0, "POST /v1/jobs/{type}"),
        (1, "send tidegate.jobs.normal"),
        (2, "process tidegate.jobs.normal"),
        (3, "handle echo"),
        (3, "send tidegate.replies"),
        (4, "process tidegate.replies"),
    ]) {
        let wanted = format!("{}{name} ", "  ".repeat(depth));
        assert!(line.starts_with(&wanted), "no `{wanted}` in {line}\n{said}");
        assert!(
            line.contains("tidegate-dev") && line.contains(" ok"),
            "{line}"
        );
    }
    assert_eq!(tree.len(), 6, "{said}");
    assert!(
        tree[1].contains("producer") && tree[1].contains(&format!("job={id} partition=")),
        "{said}"
    );
    assert!(!said.contains("marker-77"), "{said}");

    let trace = said.split([' ', ':']).nth(1).unwrap();
    let json = dev.run(&["trace", trace, "--url", url, "--json"]).await;
    let shown: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(shown["traceId"], trace);
    assert_eq!(shown["spans"].as_array().unwrap().len(), 6);

    refused(
        &dev.run(&["trace", "nonsense", "--url", url]).await,
        2,
        "neither a job id nor a trace id",
    );
    let unknown = "019b0000-0000-7000-8000-000000000000";
    refused(
        &dev.run(&["trace", unknown, "--url", url]).await,
        1,
        "no span of it is kept",
    );
    refused(
        &dev.run(&["trace", &id, "--url", "http://127.0.0.1:9"])
            .await,
        1,
        "cannot reach",
    );
}
