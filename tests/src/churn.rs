//! Gateways that come and go while others serve.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::load::{Load, Tally};
use crate::{Client, Stack, secs};

/// What a churn was like.
pub struct Churn {
    /// What came of the waits on the gateways that stayed.
    pub waits: Tally,
    /// How long each of those that came took to be ready.
    pub ready: Vec<Duration>,
    /// From the first coming to the last going.
    pub took: Duration,
}

/// Puts a load on `stay`, at least `jobs` waits, `concurrency` at a time, while other gateways come, answer a wait of
/// their own, and go, by SIGTERM and by kill -9 in turn: at least `times`, and as long as there are jobs to send.
/// Every fifth wait lasts two seconds and more, so that there are always some open when partitions move.
pub async fn churn(
    stack: &Stack,
    stay: &[Client],
    times: usize,
    (jobs, concurrency): (usize, usize),
) -> Churn {
    let (over, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    let load = Load {
        gateways: stay,
        concurrency,
        jobs,
        until: Some(&over),
        sent: Some(&sent),
        job_type: |number| if number % 5 == 0 { "slow-echo" } else { "echo" },
        // Leaves the machine some time to start gateways in.
        pause: Duration::from_millis(50),
    };
    let come_and_go = async {
        let (mut ready, begun) = (Vec::new(), Instant::now());
        for number in 0.. {
            if number >= times && sent.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("visitor-{number}");
            let started = Instant::now();
            let mut visitor = stack.gateway(&name).await;
            ready.push(started.elapsed());
            let client = Client::new(visitor.url());
            let answer = client
                .wait("echo", "[]", 30)
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            match number % 2 {
                0 => {
                    visitor.terminate();
                    let status = visitor.exit(secs(30)).await;
                    assert!(status.success(), "{name}: {status}\n{}", visitor.log_tail());
                }
                _ => visitor.kill(),
            }
        }
        over.store(true, Ordering::Relaxed);
        (ready, begun.elapsed())
    };
    let (waits, (ready, took)) = tokio::join!(load.run(), come_and_go);
    Churn { waits, ready, took }
}
