//! Gateways that stand still for longer than their group waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::load::{Load, accept_all};
use crate::{Client, Stack, kafka, rows, secs, until};

/// A job that takes its time, so that many are unfinished when the gateway stops.
const TYPES: &str = r#"
[types.brief]
handler = { kind = "command", program = ["sh", "-c", "sleep 0.3; cat"], content_type = "application/json" }
mode = "async"
"#;

/// Two gateways and a worker; one gateway is stopped where it is (SIGSTOP) in the middle of `jobs` jobs of its own
/// and goes on after `still`. Panics if the other does not show all of them ended meanwhile, or anything that was
/// written is taken back, or a row and the log do not agree.
///
/// # Panics
/// As said.
pub async fn stands_still(still: Duration, jobs: usize) {
    let mut stack = Stack::new().await;
    stack.configure(TYPES);
    stack.set("worker.concurrency=16");
    let (a, b) = tokio::join!(stack.gateway("gateway-a"), stack.gateway("gateway-b"));
    let (paused, other) = (Client::new(a.url()), Client::new(b.url()));
    let ids = accept_all(&paused, "brief", r#"{"job":"of a"}"#, jobs).await;
    let _worker = stack.worker("worker").await;
    // In the middle: it has applied some of the outcomes and holds others.
    until("some jobs have ended", secs(20), || async {
        let rows = rows::rows(&stack).await;
        rows.values().any(rows::Row::is_ended).then_some(())
    })
    .await;
    // Waits that their outcome finds paused; it lies in the log when they go on.
    let waits: Vec<_> = (0..5)
        .map(|number| {
            let wait = paused.wait("slow-echo", format!("[{number}]"), 30).send();
            (number, tokio::spawn(wait))
        })
        .collect();
    let (bootstrap, topic) = (&stack.servers.kafka, format!("{}jobs.normal", stack.prefix));
    until("the waits are accepted", secs(10), || async {
        (kafka::read_all(bootstrap, &topic).len() == jobs + waits.len()).then_some(())
    })
    .await;
    a.pause();
    let begun = Instant::now();
    let rows = rows::rows(&stack).await;
    let left = rows.values().filter(|row| !row.is_ended()).count();
    assert!(left > jobs / 4, "only {left} of {jobs} jobs are unfinished");

    // The jobs alone take 19 ms each, more on a busy machine.
    let limit = secs(40) + Duration::from_millis(100) * u32::try_from(jobs).expect("some jobs");
    until("the other gateway has ended every job", limit, || async {
        let rows = rows::rows(&stack).await;
        rows.values().all(rows::Row::is_ended).then_some(())
    })
    .await;
    let taken_over = begun.elapsed();
    for id in ids.iter().step_by(10) {
        other.until_status(id, &["completed"], secs(5)).await;
    }
    // More happens behind its back, on the partitions that it owned as on all others.
    let more = accept_all(&other, "echo-async", r#"{"job":"of b"}"#, jobs / 2).await;
    until("the later jobs have ended", secs(30), || async {
        let rows = rows::rows(&stack).await;
        (rows.len() == jobs + more.len() + waits.len() && rows.values().all(rows::Row::is_ended))
            .then_some(())
    })
    .await;
    tokio::time::sleep(still.saturating_sub(begun.elapsed())).await;
    let before: BTreeMap<Uuid, rows::Row> = rows::rows(&stack).await;
    let stood_at = rows::positions(&stack).await;

    a.resume();
    // As long as it takes on this machine until all has ended elsewhere, which may be longer than was asked for.
    let stood = begun.elapsed();
    let a = stack.ready(a).await;
    for (number, wait) in waits {
        let answer = wait.await.expect("task").expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("text");
        match stood < secs(25) {
            true => assert_eq!((status.as_u16(), text), (200, format!("[{number}]"))),
            // The time was up meanwhile.
            false => assert!(matches!(status.as_u16(), 200 | 202), "{status}: {text}"),
        }
    }
    // It serves again, which it can do only behind everything that it had in hand.
    let answer = paused
        .wait("echo", "[]", 30)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    until("the last job has its row", secs(30), || async {
        (rows::rows(&stack).await.len() == before.len() + 1).then_some(())
    })
    .await;
    let after = rows::rows(&stack).await;
    let changed = before
        .iter()
        .filter(|(id, row)| after.get(*id) != Some(row));
    let changed: Vec<_> = changed.map(|(id, row)| (row, after.get(id))).collect();
    assert!(changed.is_empty(), "ended rows changed: {changed:?}");
    for (partition, offset) in rows::positions(&stack).await {
        let stood = stood_at.get(&partition).copied().unwrap_or(0);
        assert!(
            offset >= stood,
            "partition {partition} went back from {stood} to {offset}"
        );
    }
    let agreed = rows::assert_agree(&stack).await;
    println!(
        "stall: gateway still for {:.0} s with {left} of {jobs} jobs unfinished, taken over after {:.1} s; {} more ended meanwhile; after it went on 0 of {} ended rows changed, {agreed} rows agree with the log",
        begun.elapsed().as_secs_f64(),
        taken_over.as_secs_f64(),
        more.len(),
        before.len(),
    );
    drop((a, b));
}

/// One gateway stands still again and again, each time in the middle of outcomes that it has to write, sometimes
/// within a transaction. Panics if the gateway that lives loses a wait meanwhile, or a row and the log do not agree
/// in the end.
///
/// # Panics
/// As said.
pub async fn stands_still_often(times: usize) {
    let stack = Stack::new().await;
    let (a, b, worker) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker"),
    );
    let (paused, other) = (Client::new(a.url()), [Client::new(b.url())]);
    let over = AtomicBool::new(false);
    let load = Load {
        gateways: &other,
        concurrency: 20,
        jobs: 0,
        until: Some(&over),
        sent: None,
        job_type: |number| if number % 5 == 0 { "slow-echo" } else { "echo" },
        pause: Duration::from_millis(20),
    };
    let stumble = async {
        let mut left = 0;
        for round in 0..times {
            // All outcomes come at once, and more than the gateway has written when it stops.
            worker.pause();
            let ids = accept_all(&paused, "echo-async", "[]", 500).await;
            worker.resume();
            until("the first outcomes are written", secs(20), || async {
                (unfinished(&stack, &ids).await < ids.len()).then_some(())
            })
            .await;
            a.pause();
            left += unfinished(&stack, &ids).await;
            // The group gives it up after 6 s.
            until("its jobs have ended on the other", secs(40), || async {
                (unfinished(&stack, &ids).await == 0).then_some(())
            })
            .await;
            a.resume();
            until(&format!("it is back, round {round}"), secs(30), || async {
                // Without a wait as well: the store did not answer while it stood still, and is asked again first.
                let wait = paused.wait("echo", "[]", 10).send().await.ok()?;
                let no_wait = paused.submit("echo-async", "[]").send().await.ok()?;
                // Each partition is owned once: it has noticed what it lost, and got its share again.
                let owned = paused.metric("tidegate_consumer_partitions").await;
                let all = owned + other[0].metric("tidegate_consumer_partitions").await;
                let shared = owned > 0.0 && all == 8.0;
                (shared && wait.status() == 200 && no_wait.status() == 202).then_some(())
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
        left
    };
    let (tally, left) = tokio::join!(load.run(), stumble);
    println!(
        "stall: {times} times still with {left} jobs unfinished in all; meanwhile on the other {tally}"
    );
    tally.assert_whole();
    until("every row is ended", secs(30), || async {
        let rows = rows::rows(&stack).await;
        rows.values().all(rows::Row::is_ended).then_some(())
    })
    .await;
    println!(
        "stall: {} rows agree with the log",
        rows::assert_agree(&stack).await
    );
    drop((a, b));
}

/// How many of these jobs have no ended row.
async fn unfinished(stack: &Stack, ids: &[String]) -> usize {
    let rows = rows::rows(stack).await;
    let ended = |id: &String| {
        let id: Uuid = id.parse().expect("an id");
        rows.get(&id).is_some_and(rows::Row::is_ended)
    };
    ids.iter().filter(|id| !ended(id)).count()
}
