//! Retries, delays and dead letters on a real broker, with schedulers that come, go and are killed. The rungs of the
//! ladder are short: 200 ms, 1 s and 4 s.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Instant;

use futures::future::join_all;
use serde_json::Value;
use tidegate_contract::now_millis;
use tidegate_contract::time::{parse_rfc3339, rfc3339};
use tidegate_tests::{Client, Process, Stack, kafka, secs, until, until_true};

/// Partitions of the three rungs together.
const RUNG_PARTITIONS: f64 = 6.0;

const TYPES: &str = r#"
[types.flaky]
handler = { kind = "command", program = ["sh", "-c", "test \"$TIDEGATE_ATTEMPT\" -ge 3 || { echo not yet >&2; exit 3; }; echo done"], content_type = "text/plain" }
retry = { attempts = 3, first = "500ms", jitter = 0.0 }

[types.hopeless]
handler = { kind = "command", program = ["sh", "-c", "echo never >&2; exit 3"] }
retry = { attempts = 2, first = "300ms" }
"#;

async fn installation() -> (Stack, Process, Process) {
    let stack = Stack::new().await;
    stack.configure(TYPES);
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    (stack, gateway, worker)
}

/// How many partitions of the ladder a scheduler has.
async fn owned(scheduler: &Process) -> f64 {
    let client = Client::new(scheduler.url());
    client.metric("tidegate_consumer_partitions").await
}

/// Waits until these schedulers share all partitions, each with some.
async fn shared(schedulers: &[&Process]) {
    until_true("the schedulers share the ladder", secs(40), || async {
        let owned = join_all(schedulers.iter().map(|one| owned(one))).await;
        owned.iter().sum::<f64>() == RUNG_PARTITIONS && owned.iter().all(|one| *one > 0.0)
    })
    .await;
}

fn millis(document: &Value, name: &str) -> i64 {
    let text = document[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {document}"));
    parse_rfc3339(text).unwrap()
}

/// A delayed job: its id and when it is due.
async fn delayed(client: &Client, due: i64) -> (String, i64) {
    let answer = client
        .submit("echo", "{}")
        .header("tidegate-delay", rfc3339(due))
        .header("prefer", "respond-async");
    let answer = answer.send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (status.as_u16(), &body["status"]),
        (202, &"scheduled".into()),
        "{body}"
    );
    (body["jobId"].as_str().unwrap().to_owned(), due)
}

/// Waits until they have completed: how late each was, in milliseconds, sorted. None was early.
async fn lateness(client: &Client, jobs: Vec<(String, i64)>) -> Vec<i64> {
    let mut late = Vec::new();
    // One after the other: hundreds that ask all the time would be what makes the jobs late.
    for (id, due) in jobs {
        let document = client.until_status(&id, &["completed"], secs(40)).await;
        late.push(millis(&document, "startedAt") - due);
    }
    late.sort_unstable();
    assert!(late[0] >= 0, "{late:?}");
    let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)];
    println!(
        "{} jobs, late by {} ms (median), {} ms (p99), {} ms at most",
        late.len(),
        at(50),
        at(99),
        at(100)
    );
    late
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_goes_on_over_retries_and_the_last_failure_lies_among_the_dead_letters() {
    let (stack, gateway, _worker) = installation().await;
    let scheduler = stack.scheduler("scheduler").await;
    shared(&[&scheduler]).await;
    let client = Client::new(gateway.url());

    let job = client.accept("flaky", "{}").await;
    let document = client.until_status(&job.id, &["retrying"], secs(10)).await;
    assert!(millis(&document, "nextAttemptAt") > millis(&document, "createdAt"));
    let error = &document["error"];
    assert_eq!(error["code"], "command-exit");
    assert_eq!(
        (&error["attempt"], &error["attempts"]),
        (&1.into(), &3.into())
    );

    let begun = Instant::now();
    let answer = client.wait("flaky", "{}", 20).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.text().await.unwrap(), "done\n");
    let took = begun.elapsed().as_millis();
    println!("three attempts took {took} ms");
    assert!(
        (1_500..1_500 + 2 * 1_500 + 1_000).contains(&took),
        "{took} ms"
    );
    let document = client.until_status(&job.id, &["completed"], secs(10)).await;
    assert_eq!(document["attempt"], 3);
    assert_eq!(document["error"], Value::Null);

    let answer = client.wait("hopeless", "{}", 20).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 502);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/job-dead-lettered");
    assert_eq!(problem["error"]["attempts"], 2);
    let id = problem["jobId"].as_str().unwrap();
    let document = client.until_status(id, &["dead-lettered"], secs(5)).await;
    let place = &document["deadLetter"];
    let topic = format!("{}dead-letters", stack.prefix);
    let letters = kafka::read_all(&stack.servers.kafka, &topic);
    use rdkafka::message::Message;
    let letter = letters.iter().find(|letter| {
        place["partition"] == letter.partition() && place["offset"] == letter.offset()
    });
    let letter = letter.expect("it lies where the status says");
    assert_eq!(letter.key(), Some(id.as_bytes()));
    assert_eq!(
        kafka::header(letter, "reason").as_deref(),
        Some("attempts-exhausted")
    );
    assert!(
        kafka::header(letter, "first-error")
            .unwrap()
            .contains("never")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedulers_share_the_work_and_nothing_is_early_or_late() {
    let (stack, gateway, _worker) = installation().await;
    let (one, two) = tokio::join!(stack.scheduler("one"), stack.scheduler("two"));
    shared(&[&one, &two]).await;
    let client = Client::new(gateway.url());
    let now = now_millis();
    let jobs = (0..300).map(|n| delayed(&client, now + 3_000 + n * 20));
    let jobs = join_all(jobs).await;
    let late = lateness(&client, jobs).await;
    assert!(late[late.len() - 1] < 1_500, "{late:?}");
    for scheduler in [&one, &two] {
        let client = Client::new(scheduler.url());
        let moved = client.metric("tidegate_delayed_records_moved_total").await;
        let late = client.metric("tidegate_delay_lateness_seconds_sum").await;
        let arrived = client.metric("tidegate_delay_lateness_seconds_count").await;
        println!(
            "{} moved {moved} records, late by {:.1} ms on average",
            scheduler.name(),
            late / arrived * 1000.0
        );
        assert!(moved > 0.0, "{} did nothing", scheduler.name());
        assert!(client.metric("tidegate_delay_lateness_seconds_count").await > 0.0);
    }

    // A delay with a wait that is long enough is answered in it.
    let begun = Instant::now();
    let answer = client
        .wait("echo", "[1]", 10)
        .header("tidegate-delay", "1s");
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(begun.elapsed().as_millis() >= 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_scheduler_catches_up_and_a_killed_one_is_replaced() {
    let (stack, gateway, _worker) = installation().await;
    let client = Client::new(gateway.url());
    let scheduler = stack.scheduler("first").await;
    shared(&[&scheduler]).await;
    let status = scheduler.stop(secs(15)).await;
    assert!(status.success(), "{status}");

    // Nobody is there while they become due.
    let now = now_millis();
    let jobs = join_all((0..50).map(|n| delayed(&client, now + 500 + n * 20))).await;
    until_true("all are due", secs(10), || async {
        now_millis() > now + 2_000
    })
    .await;
    let (id, _) = &jobs[0];
    assert_eq!(client.status(id).await.unwrap()["status"], "scheduled");
    let (one, two) = tokio::join!(stack.scheduler("one"), stack.scheduler("two"));
    lateness(&client, jobs).await;
    shared(&[&one, &two]).await;

    // One of two is killed in the middle of its work: what was its own comes when the group has noticed.
    let now = now_millis();
    let jobs = join_all((0..200).map(|n| delayed(&client, now + 1_000 + n * 25))).await;
    let moving = Client::new(one.url());
    let moved = moving.metric("tidegate_delayed_records_moved_total").await;
    until("it is at work", secs(20), || async {
        let now = moving.metric("tidegate_delayed_records_moved_total").await;
        (now > moved + 5.0).then_some(())
    })
    .await;
    one.kill();
    lateness(&client, jobs).await;
    shared(&[&two]).await;
}
