//! Processes that are killed or stand still: nothing accepted is lost, nothing stale is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_tests::load::accept_all;
use tidegate_tests::{Client, Process, Stack, rows, secs, until};
use uuid::Uuid;

/// A job that takes its time, so that many are unfinished at any moment.
const TYPES: &str = r#"
[types.brief]
handler = { kind = "command", program = ["sh", "-c", "sleep 0.3; cat"], content_type = "application/json" }
mode = "async"
"#;

/// Polls the statuses of all jobs on a gateway until each is over; gives how long that took.
async fn until_all_completed(client: &Client, ids: &[String], limit: Duration) -> Duration {
    let begun = Instant::now();
    for id in ids {
        let left = limit.saturating_sub(begun.elapsed());
        let ends = ["completed", "failed", "dead-lettered", "expired"];
        let document = client.until_status(id, &ends, left).await;
        assert_eq!(document["status"], "completed", "{document}");
    }
    begun.elapsed()
}

async fn unfinished(stack: &Stack) -> usize {
    let rows = rows::rows(stack).await;
    rows.values().filter(|row| !row.is_ended()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_gateway_end_in_sight_of_the_other() {
    let stack = Stack::new().await;
    let (a, b) = tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"));
    let (first, other) = (Client::new(a.url()), Client::new(b.url()));
    let ids = accept_all(&first, "echo-async", r#"{"job":"of a"}"#, 500).await;
    assert_eq!(unfinished(&stack).await, 500);
    a.kill();
    // No worker before the kill, so that not one outcome was read by the gateway that accepted the jobs.
    let begun = Instant::now();
    let _worker = stack.worker("worker").await;
    until_all_completed(&other, &ids, secs(30)).await;
    println!(
        "crashes: gateway killed with 500 of 500 accepted jobs unfinished: all ended on the other after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(begun.elapsed() < secs(30));
    assert_eq!(rows::assert_agree(&stack).await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_gateway_killed_right_after_its_start_end_as_well() {
    let mut stack = Stack::new().await;
    stack.configure(TYPES);
    stack.set("worker.concurrency=16");
    // The worker answers all the while: outcomes lie behind the killed gateway's last read, and in its memory.
    let (b, _worker) = tokio::join!(stack.gateway("gateway-b"), stack.worker("worker"));
    let other = Client::new(b.url());
    let a = stack.gateway("gateway-a").await;
    let ready = Instant::now();
    let ids = accept_all(&Client::new(a.url()), "brief", r#"{"job":"of a"}"#, 500).await;
    let lived = ready.elapsed();
    a.kill();
    let killed = Instant::now();
    let left = unfinished(&stack).await;
    assert!(
        left > 100,
        "only {left} were unfinished: too slow a start for this test"
    );
    until_all_completed(&other, &ids, secs(30)).await;
    println!(
        "crashes: gateway killed {:.1} s after it was ready, {left} of 500 unfinished: all ended on the other after {:.1} s",
        lived.as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
    assert!(killed.elapsed() < secs(30));
    assert_eq!(rows::assert_agree(&stack).await, 500);
}

/// Most of these end before anything is committed to Kafka, so that only the store knows how far they were.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_killed_one_after_the_other_go_on_where_the_store_stands() {
    let stack = Stack::new().await;
    let _worker = stack.worker("worker").await;
    let mut jobs = 0;
    for round in 0..5 {
        let gateway = stack.gateway(&format!("gateway-{round}")).await;
        let client = Client::new(gateway.url());
        // Ready by a borrowed home is not enough: the dead member's partitions are to be its own.
        until("it owns all partitions", secs(20), || async {
            (client.metric("tidegate_consumer_partitions").await == 8.0).then_some(())
        })
        .await;
        let owned = Instant::now();
        let ids = accept_all(&client, "echo-async", "[]", 5).await;
        jobs += ids.len();
        until_all_completed(&client, &ids, secs(20)).await;
        // The last one lives on, long enough for whatever a consumer tries again.
        while round == 4 && owned.elapsed() < secs(2) {
            let report = client.readiness().await;
            assert_eq!(report["ready"], true, "{report}\n{}", gateway.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        gateway.kill();
    }
    println!("crashes: 5 gateways killed one after the other, {jobs} jobs ended");
    assert_eq!(rows::assert_agree(&stack).await, jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_worker_run_again_on_another() {
    let mut stack = Stack::new().await;
    let runs = stack.dir.path().join("runs");
    // Every run leaves a line at its start.
    stack.configure(&format!(
        r#"
[types.noted]
mode = "async"
handler = {{ kind = "command", program = ["sh", "-c", "echo $TIDEGATE_JOB_ID $TIDEGATE_ATTEMPT >>{}; sleep 2; cat"], content_type = "application/json" }}
"#,
        runs.display()
    ));
    stack.set("worker.concurrency=8");
    let (gateway, one, _two) = tokio::join!(
        stack.gateway("gateway"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let client = Client::new(gateway.url());
    let ids = accept_all(&client, "noted", r#"{"n":1}"#, 40).await;
    let tally = || -> BTreeMap<String, Vec<String>> {
        let mut tally: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(&runs).unwrap_or_default().lines() {
            let (id, attempt) = line.split_once(' ').unwrap();
            tally
                .entry(id.to_owned())
                .or_default()
                .push(attempt.to_owned());
        }
        tally
    };
    // Both are in the middle of their jobs.
    let running = until("both workers run jobs", secs(20), || async {
        let running = running(&one).await;
        (running > 0 && tally().len() >= 10).then_some(running)
    })
    .await;
    one.kill();
    let killed = Instant::now();
    until_all_completed(&client, &ids, secs(60)).await;
    let took = killed.elapsed();

    let tally = tally();
    assert_eq!(tally.len(), 40, "every job ran");
    let again: Vec<_> = tally.values().filter(|runs| runs.len() > 1).collect();
    assert!(
        !again.is_empty(),
        "no job ran again, though {running} were cut off"
    );
    let told: Vec<_> = tally.values().flatten().collect();
    assert!(
        told.iter().all(|attempt| *attempt == "1"),
        "a crash is no failed attempt: {told:?}"
    );
    let ends: Vec<_> = rows::fold(&stack)
        .await
        .into_values()
        .map(|fold| fold.ends)
        .collect();
    println!(
        "crashes: worker killed with {running} jobs running: {} of 40 ran again, 40 ended after {:.1} s, 0 lost; {} ends in the log",
        again.len(),
        took.as_secs_f64(),
        ends.iter().sum::<usize>()
    );
    assert_eq!(rows::assert_agree(&stack).await, 40);
}

/// How many handlers run in a worker.
async fn running(worker: &Process) -> usize {
    Client::new(worker.url())
        .metric("tidegate_attempts_running")
        .await as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stood_still_writes_nothing_stale() {
    tidegate_tests::stall::stands_still(secs(12), 600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_ends_no_job_twice() {
    let mut stack = Stack::new().await;
    stack.configure(TYPES);
    stack.set("worker.concurrency=8");
    let (gateway, one, two) = tokio::join!(
        stack.gateway("gateway"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let client = Client::new(gateway.url());
    let ids = accept_all(&client, "brief", r#"{"n":1}"#, 200).await;
    until("the first worker runs jobs", secs(20), || async {
        (running(&one).await > 0).then_some(())
    })
    .await;
    one.pause();
    // The other takes all over once the silence is noticed.
    until_all_completed(&client, &ids, secs(40)).await;
    let before = rows::rows(&stack).await;
    one.resume();
    // What it still had in hand goes out now; the ends that are already there stay.
    let one = stack.ready(one).await;
    let log = || async {
        rows::fold(&stack)
            .await
            .values()
            .map(|fold| fold.ends)
            .sum::<usize>()
    };
    until("the worker is idle again", secs(30), || async {
        (running(&one).await == 0).then_some(())
    })
    .await;
    let ends = log().await;
    assert_eq!(rows::assert_agree(&stack).await, 200);
    let after: BTreeMap<Uuid, rows::Row> = rows::rows(&stack).await;
    assert_eq!(before, after, "an end never changes");
    println!(
        "crashes: worker stood still: 200 jobs ended once each in the store, {ends} ends in the log"
    );
    drop(two);
}
