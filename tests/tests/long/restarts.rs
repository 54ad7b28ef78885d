//! Fifty gateways, one after the other, each with a job pending that it does not live to see the end of.

use std::time::{Duration, Instant};

use tidegate_tests::{Client, Stack, http, rows, secs, until};

const TYPES: &str = r#"
[types.lengthy]
handler = { kind = "command", program = ["sh", "-c", "sleep 8; cat"], content_type = "application/json" }
"#;

/// What one of the gateways was like.
struct Life {
    ready: Duration,
    memory_kib: u64,
}

fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_restarts_with_a_long_job_pending_in_each() {
    let mut stack = Stack::new().await;
    stack.configure(TYPES);
    // Less than the job takes, so that no gateway sees the end of its own.
    stack.set("gateway.grace=4s");
    let _worker = stack.worker("worker").await;
    let (mut lives, mut ids, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in 0..50 {
        let started = Instant::now();
        let mut gateway = stack.gateway(&format!("gateway-{number}")).await;
        let ready = started.elapsed();
        let client = Client::new(gateway.url());
        // It is as ready as it says.
        let answer = client.wait("echo", "[]", 30).send().await.unwrap();
        assert_eq!(answer.status(), 200, "gateway {number}");
        ids.push(client.accept("lengthy", format!("[{number}]")).await.id);
        let terminate = number % 2 == 0;
        if terminate {
            // A client that waits is told, whatever becomes of its gateway.
            let waiting = client.wait("lengthy", format!("[{number}]"), 30);
            let waiting = tokio::spawn(async move {
                let answer = waiting.send().await.expect("an answer");
                match answer.status().as_u16() {
                    200 => None,
                    _ => Some(http::accepted(answer).await.id),
                }
            });
            until("the wait is open", secs(10), || async {
                (client.metric("tidegate_waits_open").await >= 1.0).then_some(())
            })
            .await;
            waits.push(waiting);
        }
        lives.push(Life {
            ready,
            memory_kib: gateway.memory_kib(),
        });
        if terminate {
            gateway.terminate();
            let status = gateway.exit(secs(30)).await;
            assert!(
                status.success(),
                "gateway {number}: {status}\n{}",
                gateway.log_tail()
            );
        } else {
            gateway.kill();
        }
    }
    let (mut answered, mut later) = (0, 0);
    for wait in waits {
        match wait.await.unwrap() {
            None => answered += 1,
            Some(id) => {
                later += 1;
                ids.push(id);
            }
        }
    }
    let took = begun.elapsed();

    let last = stack.gateway("gateway-last").await;
    let client = Client::new(last.url());
    for id in &ids {
        let document = client
            .until_status(id, &["completed", "failed"], secs(60))
            .await;
        assert_eq!(document["status"], "completed", "{document}");
    }
    assert_eq!(client.readiness().await["ready"], true);
    let agreed = rows::assert_agree(&stack).await;

    // Like with like: those that follow a clean stop, at the beginning and at the end.
    let clean = |range: std::ops::Range<usize>| {
        let lives: Vec<_> = lives[range].iter().step_by(2).collect();
        let ready = median(lives.iter().map(|life| life.ready));
        (ready, median(lives.iter().map(|life| life.memory_kib)))
    };
    let killed = |range: std::ops::Range<usize>| {
        let lives: Vec<_> = lives[range].iter().skip(1).step_by(2).collect();
        median(lives.iter().map(|life| life.ready))
    };
    // Number 0 has no predecessor; even numbers follow a kill, odd ones a clean stop.
    let ((first, first_kib), (end, end_kib)) = (clean(1..11), clean(41..50));
    let (first_killed, end_killed) = (killed(1..11), killed(41..50));
    println!(
        "restarts: 50 gateways in {:.0} s, {} jobs pending at their ends, all ended; waits at SIGTERM: {answered} answered, {later} became 202; {agreed} rows agree with the log",
        took.as_secs_f64(),
        ids.len(),
    );
    println!(
        "restarts: ready after {first:.1?} (first) and {end:.1?} (last) behind a clean stop, {first_killed:.1?} and {end_killed:.1?} behind a kill; memory {} and {} MiB",
        first_kib / 1024,
        end_kib / 1024
    );
    assert!(end < first * 2 + secs(2), "{end:?} after {first:?}");
    assert!(
        end_killed < first_killed * 2 + secs(2),
        "{end_killed:?} after {first_killed:?}"
    );
    assert!(
        end_kib < first_kib * 3 / 2,
        "{end_kib} KiB after {first_kib}"
    );
}
