//! SIGTERM under load: no request is cut, no job is lost, and the end comes within the grace time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::raw::Connection;
use tidegate_tests::traffic::{self, Traffic};
use tidegate_tests::{Client, Stack, load, secs, until, until_true};

/// `grace` of the roles here, and what the program needs around it.
const GRACE: u64 = 8;
const AROUND: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_stops_without_cutting_a_request() {
    let mut stack = Stack::new().await;
    stack.set(&format!("gateway.grace={GRACE}s"));
    let mut gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    // A wait that would outlast the grace time, one that ends within it, and a body that is still coming.
    let long = tokio::spawn(client.wait("sleep", "12", 29).send());
    let short = tokio::spawn(client.wait("sleep", "2", 29).send());
    let mut slow = Connection::to(gateway.url()).await;
    let headers = "prefer: wait=10\r\ncontent-length: 3\r\n";
    slow.request("POST /v1/jobs/echo", headers, "[").await;
    // Clients that keep their connections, and clients that do not.
    let kept = Traffic::start(&client, 12, 6, 10);
    let fresh = Client {
        base: client.base.clone(),
        http: reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap(),
    };
    let fresh = Traffic::start(&fresh, 12, 6, 10);
    kept.until_more(100).await;
    until_true("both wait", secs(5), || async {
        client.metric("tidegate_waits_open").await >= 2.0
    })
    .await;

    let begun = Instant::now();
    let told = (kept.now(), fresh.now());
    gateway.terminate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    slow.write("7]").await.expect("the connection is there");
    let slow = slow
        .answer(secs(5))
        .await
        .expect("the request that was begun is answered");
    let exit = gateway.exit(Duration::from_secs(GRACE) + AROUND).await;
    let took = begun.elapsed();
    println!("exit {exit} after {took:.1?}; a slow body: {}", slow.status);
    assert!(exit.success(), "{exit}");
    assert!(matches!(slow.status, 200 | 503), "{slow:?}");

    let short = short.await.unwrap().expect("an answer");
    assert_eq!(
        (
            short.status().as_u16(),
            short.text().await.unwrap().as_str()
        ),
        (200, "slept\n")
    );
    let long = long.await.unwrap().expect("an answer");
    assert_eq!(long.status(), 202);
    let long: Value = long.json().await.unwrap();
    assert!(
        long["reason"].as_str().unwrap().contains("shutting down"),
        "{long}"
    );

    let mut accepted = Vec::new();
    for (traffic, told) in [(kept, told.0), (fresh, told.1)] {
        let answers = traffic.stop().await;
        let (before, after): (Vec<_>, Vec<_>) = answers.iter().cloned().partition(|a| a.at < told);
        println!("before:\n{}", traffic::summary(&before));
        println!("after:\n{}", traffic::summary(&after));
        assert!(
            after.iter().any(|a| a.status == Some(503)),
            "somebody was told to go elsewhere"
        );
        for answer in &answers {
            match answer.status {
                Some(200 | 202) => {}
                Some(503) => assert!(
                    answer.at + answer.took >= told && answer.retry_after,
                    "{answer:?}"
                ),
                // Nobody listens any more.
                None if answer.refused && answer.at > told => {}
                _ => panic!("cut: {answer:?}"),
            }
        }
        accepted.extend(traffic::accepted(&answers));
    }

    // What was accepted is not lost with it.
    let next = stack.gateway("next").await;
    let client = Client::new(next.url());
    accepted.push(long["jobId"].as_str().unwrap().to_owned());
    let body = accepted.last().unwrap();
    assert!(
        client.status(body).await.is_some(),
        "the row of a wait that became 202"
    );
    for id in &accepted {
        client.until_status(id, &["completed"], secs(40)).await;
    }
}

/// A job that leaves a line behind each time it runs.
fn with_trace(stack: &Stack) -> std::path::PathBuf {
    let file = stack.dir.path().join("runs");
    let script = format!("echo $TIDEGATE_JOB_ID >> {}; sleep $(cat)", file.display());
    let handler = format!("{{ kind = \"command\", program = [\"sh\", \"-c\", \"{script}\"] }}");
    stack.configure(&format!(
        "[types.traced]\nhandler = {handler}\nmode = \"async\"\n"
    ));
    file
}

/// How often each job has run.
fn runs(file: &std::path::Path) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for id in std::fs::read_to_string(file).unwrap_or_default().lines() {
        *runs.entry(id.to_owned()).or_default() += 1;
    }
    runs
}

#[tokio::test]
async fn a_worker_lets_its_attempts_end_and_leaves_the_rest_to_others() {
    let mut stack = Stack::new().await;
    let file = with_trace(&stack);
    stack.set("worker.concurrency=4");
    stack.set(&format!("worker.grace={GRACE}s"));
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    let worker = stack.worker("worker").await;
    let ids = load::accept_all(&client, "traced", "0.7", 40).await;
    until_true("it is in the middle", secs(20), || async {
        runs(&file).len() >= 10
    })
    .await;

    let begun = Instant::now();
    let exit = worker.stop(Duration::from_secs(GRACE) + AROUND).await;
    println!(
        "exit {exit} after {:.1?}, {} of 40 begun",
        begun.elapsed(),
        runs(&file).len()
    );
    assert!(exit.success(), "{exit}");
    // Every attempt that was begun has ended, and its job with it.
    for id in runs(&file).keys() {
        client.until_status(id, &["completed"], secs(5)).await;
    }
    let _next = stack.worker("next").await;
    for id in &ids {
        client.until_status(id, &["completed"], secs(40)).await;
    }
    let runs = runs(&file);
    assert_eq!(runs.len(), 40);
    assert!(
        runs.values().all(|count| *count == 1),
        "none ran twice: {runs:?}"
    );
}

#[tokio::test]
async fn an_attempt_that_outlasts_the_grace_time_runs_again_elsewhere() {
    let mut stack = Stack::new().await;
    let file = with_trace(&stack);
    stack.set("worker.grace=3s");
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    let worker = stack.worker("worker").await;
    let long = client.accept("traced", "6").await;
    until_true("it runs", secs(20), || async { runs(&file).len() == 1 }).await;
    let begun = Instant::now();
    let exit = worker.stop(secs(3) + AROUND).await;
    println!(
        "exit {exit} after {:.1?} of a grace of 3 s",
        begun.elapsed()
    );
    assert!(exit.success(), "{exit}");
    let status = client.status(&long.id).await.unwrap();
    assert_eq!(status["status"], "processing", "it has not ended: {status}");
    let _next = stack.worker("next").await;
    client
        .until_status(&long.id, &["completed"], secs(40))
        .await;
    assert_eq!(runs(&file)[&long.id], 2);
}

#[tokio::test]
async fn roles_that_wait_for_their_servers_stop_at_once() {
    let mut stack = Stack::bare(tidegate_tests::Servers::shared()).await;
    for setting in [
        "kafka.brokers=127.0.0.1:1",
        "registry.url=http://127.0.0.1:1/",
        "store.url=postgres://a:b@127.0.0.1:1/c",
    ] {
        stack.set(setting);
    }
    for role in ["gateway", "worker"] {
        let process = stack.start(role, role, &[]);
        Client::new(process.url())
            .until_unready("not available", secs(20))
            .await;
        let begun = Instant::now();
        let exit = process.stop(secs(5)).await;
        println!("{role}: exit {exit} after {:.1?}", begun.elapsed());
        assert!(exit.success(), "{exit}");
    }
}

#[tokio::test]
async fn a_bad_configuration_ends_with_code_2_and_names_file_key_and_mend() {
    let stack = Stack::with_store(
        tidegate_tests::Servers::shared(),
        "unused",
        "sqlite::memory:".into(),
    );
    stack.configure("[gateway]\nlisten_on = \"127.0.0.1:0\"\nmax_wait = \"soon\"");
    let ended = until("it ends", secs(10), || async {
        Some(stack.run(&["gateway"]))
    })
    .await;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    println!("{said}");
    assert_eq!(ended.status.code(), Some(2), "{said}");
    for part in [
        "types.toml",
        "gateway.listen_on",
        "gateway.listen",
        "gateway.max_wait",
        "30s",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}
