//! The broker is away: at the start, and for 20 s under load, ended, killed or standing still.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use tidegate_tests::traffic::{self, Answer, Traffic};
use tidegate_tests::{Broker, Client, Servers, Stack, rows, secs, until_true};

/// `kafka.produce_timeout`, and what an answer may take on top of it.
const BOUND: Duration = Duration::from_secs(5 + 2);

/// A broker and a registry of its own.
async fn installation() -> (Broker, Stack) {
    let broker = tokio::task::spawn_blocking(|| Broker::up(1, true))
        .await
        .unwrap();
    let servers = Servers {
        kafka: broker.bootstrap.clone(),
        registry: broker.registry.clone(),
        ..Servers::shared()
    };
    let stack = Stack::bare(servers).await;
    stack.set_up();
    (broker, stack)
}

/// Every job that was accepted has ended, and the store says what the log says.
async fn assert_nothing_lost(stack: &Stack, accepted: &[String]) {
    let begun = Instant::now();
    let open = loop {
        let rows = rows::rows(stack).await;
        let row = |id: &&String| rows.get(&id.parse().unwrap());
        let open = accepted
            .iter()
            .filter(|id| !row(id).is_some_and(rows::Row::is_ended));
        let open: Vec<_> = open.map(|id| (id, row(&id))).collect();
        if open.is_empty() || begun.elapsed() > secs(60) {
            break format!("{open:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let rows = rows::assert_agree(stack).await;
    assert_eq!(open, "[]", "accepted and not ended");
    println!(
        "{} jobs accepted, {rows} rows, all as the log says",
        accepted.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn away_at_the_start_every_role_stays_and_tries_on() {
    let (broker, stack) = installation().await;
    broker.broker("stop", 1);
    let mut gateway = stack.start("gateway", "gateway", &[]);
    let mut worker = stack.start("worker", "worker", &[]);
    let (client, operator) = (Client::new(gateway.url()), Client::new(worker.url()));
    for client in [&client, &operator] {
        until_true("the broker is what it waits for", secs(20), || async {
            let report = client.readiness().await;
            let conditions = report["conditions"].as_array().cloned().unwrap_or_default();
            let broker = conditions.iter().find(|c| c["name"] == "broker");
            broker.is_some_and(|c| c["ok"] == false && c["reason"] != "starting")
        })
        .await;
        println!("{}", client.readiness().await);
    }
    for request in [
        client.wait("echo", "1", 20),
        client.submit("echo-async", "1"),
    ] {
        let refused = request.send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    assert!(gateway.is_running() && worker.is_running());

    broker.broker("start", 1);
    for client in [&client, &operator] {
        until_true("ready by itself", secs(40), || client.is_ready()).await;
    }
    let answer = client.wait("echo", "[1]", 20).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "[1]");
}

/// The broker goes in one way and comes back in another, 20 s later, while clients go on.
async fn outage(go: &str, come: &str) {
    let (broker, stack) = installation().await;
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let traffic = Traffic::start(&client, 4, 3, 3);
    traffic.until_more(100).await;
    let before = (gateway.memory_kib(), worker.memory_kib());

    let gone = traffic.now();
    broker.broker(go, 1);
    tokio::time::sleep(secs(20)).await;
    let during = (gateway.memory_kib(), worker.memory_kib());
    let report = client.readiness().await;
    assert_eq!(report["ready"], false, "{report}");
    let back = traffic.now();
    broker.broker(come, 1);
    until_true("ready by itself", secs(60), || client.is_ready()).await;
    let operator = Client::new(worker.url());
    until_true("the worker too", secs(60), || operator.is_ready()).await;
    let ready = traffic.now();
    until_true("waits complete", secs(30), || async {
        let answer = client.wait("echo", "[1]", 3).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let again = traffic.now();
    traffic.until_more(100).await;
    let answers = traffic.stop().await;

    println!(
        "{go} to {come}: {:.1?}, ready {:.1?} later, waits complete {:.1?} later",
        back - gone,
        ready - back,
        again - back
    );
    println!("{}", traffic::summary(&answers));
    println!("KiB of gateway and worker: {before:?} before, {during:?} during");
    judge(&answers, gone, back, again);
    assert!(during.0 < before.0 + 48 * 1024 && during.1 < before.1 + 48 * 1024);
    assert_nothing_lost(&stack, &traffic::accepted(&answers)).await;
}

fn judge(answers: &[Answer], gone: Duration, back: Duration, again: Duration) {
    for answer in answers {
        let status = answer
            .status
            .unwrap_or_else(|| panic!("no answer: {answer:?}"));
        match status {
            200 | 202 => {}
            503 => {
                assert!(answer.retry_after, "{answer:?}");
                assert!(answer.took <= BOUND, "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
        // Nobody hangs: a wait is 3 s.
        assert!(answer.took <= BOUND + secs(3), "{answer:?}");
    }
    let between =
        |from: Duration, to: Duration| answers.iter().filter(move |a| a.at > from && a.at < to);
    let away = between(gone + secs(8), back);
    assert!(away.clone().count() > 0);
    assert!(
        away.clone().all(|a| a.status == Some(503)),
        "{:?}",
        away.clone().find(|a| a.status != Some(503))
    );
    let after: Vec<_> = between(again, Duration::MAX).collect();
    let fine = |a: &&&Answer| a.status == Some(if a.waits { 200 } else { 202 });
    assert!(after.iter().all(|a| fine(&a)), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_for_20_s_under_load() {
    outage("kill", "start").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standing_still_for_20_s_under_load() {
    outage("pause", "resume").await;
}
