//! Tests that take minutes each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "long/callbacks.rs"]
mod callbacks;
#[path = "long/fairness.rs"]
mod fairness;
#[path = "long/offsets.rs"]
mod offsets;
#[path = "long/replicas.rs"]
mod replicas;
#[path = "long/restarts.rs"]
mod restarts;
#[path = "long/schedules.rs"]
mod schedules;

use tidegate_tests::churn::churn;
use tidegate_tests::{Client, Stack, rows, secs, stall, until};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waits_while_gateways_join_and_leave() {
    let stack = Stack::new().await;
    let (a, b, _one, _two) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let stay = [Client::new(a.url()), Client::new(b.url())];
    let churn = churn(&stack, &stay, 20, (10_000, 200)).await;
    println!(
        "long: {}; {} gateways came and went in {:.0} s, the slowest was ready after {:.1?}",
        churn.waits,
        churn.ready.len(),
        churn.took.as_secs_f64(),
        churn.ready.iter().max().unwrap()
    );
    churn.waits.assert_whole();
    let jobs = churn.waits.asked + churn.ready.len();
    until("every job has an ended row", secs(60), || async {
        let rows = rows::rows(&stack).await;
        (rows.len() == jobs && rows.values().all(rows::Row::is_ended)).then_some(())
    })
    .await;
    println!(
        "long: {} rows agree with the log",
        rows::assert_agree(&stack).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_paused_for_a_minute_writes_nothing_stale() {
    stall::stands_still(secs(60), 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stands_still_again_and_again_harms_nobody() {
    stall::stands_still_often(10).await;
}
