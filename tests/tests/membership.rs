//! Gateways join and leave; those that stay lose no wait.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use tidegate_tests::churn::churn;
use tidegate_tests::load::Load;
use tidegate_tests::{Client, Stack, rows, secs, until};

#[tokio::test(flavor = "multi_thread")]
async fn no_wait_is_lost_while_gateways_join_and_leave() {
    let stack = Stack::new().await;
    let (a, b, _one, _two) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let stay = [Client::new(a.url()), Client::new(b.url())];
    let churn = churn(&stack, &stay, 4, (1_000, 50)).await;
    println!(
        "membership: {}; {} gateways came and went in {:.1} s, ready after {:.1?}",
        churn.waits,
        churn.ready.len(),
        churn.took.as_secs_f64(),
        churn.ready
    );
    churn.waits.assert_whole();

    // The partitions of those that were killed are projected by those that live.
    let jobs = churn.waits.asked + churn.ready.len();
    until("every job has an ended row", secs(30), || async {
        let rows = rows::rows(&stack).await;
        (rows.len() == jobs && rows.values().all(rows::Row::is_ended)).then_some(())
    })
    .await;
    println!(
        "membership: {} rows agree with the log",
        rows::assert_agree(&stack).await
    );
    for client in &stay {
        assert!(client.is_ready().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_gateways_than_reply_partitions_all_serve_waits() {
    let mut stack = Stack::bare(tidegate_tests::Servers::shared()).await;
    stack.set("kafka.partitions.replies=2");
    stack.set_up();
    let _worker = stack.worker("worker").await;
    let begun = Instant::now();
    let (a, b, c, d) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.gateway("gateway-c"),
        stack.gateway("gateway-d"),
    );
    println!(
        "membership: 4 gateways on 2 reply partitions ready in {:.1?}",
        begun.elapsed()
    );
    let all = [&a, &b, &c, &d].map(|gateway| Client::new(gateway.url()));
    let serve = async |gateways: &[Client]| {
        let tally = Load {
            gateways,
            concurrency: 20,
            jobs: 400,
            until: None,
            sent: None,
            job_type: |number| {
                if number % 20 == 0 {
                    "slow-echo"
                } else {
                    "echo"
                }
            },
            pause: Duration::ZERO,
        }
        .run()
        .await;
        println!(
            "membership: {} gateways on 2 partitions: {tally}",
            gateways.len()
        );
        tally.assert_whole();
    };
    serve(&all).await;
    // Asynchronous jobs of each are seen by all.
    for client in &all {
        let job = client.accept("echo-async", "[1]").await;
        for other in &all {
            other.until_status(&job.id, &["completed"], secs(20)).await;
        }
    }
    // Two of them go, whichever they are: the others take over what they owned and lose nothing.
    let (_, ()) = tokio::join!(a.stop(secs(30)), async { b.kill() });
    serve(&all[2..]).await;
    for client in &all[2..] {
        let job = client.accept("echo-async", "[2]").await;
        for other in &all[2..] {
            other.until_status(&job.id, &["completed"], secs(20)).await;
        }
    }
}
