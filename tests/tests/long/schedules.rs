//! A hundred thousand delayed jobs that are due within one minute.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::join_all;
use sqlx::PgPool;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{Millis, now_millis};
use tidegate_tests::{Client, Stack, rows, secs, until_true};
use uuid::Uuid;

const JOBS: usize = 100_000;
/// From the first submit until the first is due: all are to lie on the ladder by then.
const LEAD: Millis = 300_000;
const MINUTE: Millis = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_jobs_that_are_due_within_a_minute_all_run() {
    let mut stack = Stack::new().await;
    stack.set("kafka.delay_rungs=[\"1s\", \"15s\", \"1m\", \"5m\"]");
    stack.succeed(&["topics", "create"]);
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let scheduler = stack.scheduler("scheduler").await;
    let client = Client::new(gateway.url());
    let before = scheduler.memory_kib();
    let (first, next) = (now_millis() + LEAD, AtomicUsize::new(0));
    let clients = (0..50).map(|_| async {
        let mut dues = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= JOBS {
                break dues;
            }
            let due = first + MINUTE * number as Millis / JOBS as Millis;
            let request = client
                .submit("echo-async", "1")
                .header("tidegate-delay", rfc3339(due));
            let answer = request.send().await.expect("an answer");
            let id = tidegate_tests::http::accepted(answer).await.id;
            dues.push((id.parse::<Uuid>().unwrap(), due));
        }
    });
    let due: HashMap<Uuid, Millis> = join_all(clients).await.into_iter().flatten().collect();
    let lead = (first - now_millis()) / 1000;
    assert!(lead > 0, "they were due before all of them were there");
    let (peak, pool) = (AtomicU64::new(before), PgPool::connect(&stack.store).await);
    let (pool, peak, seen) = (pool.expect("PostgreSQL"), &peak, &scheduler);
    until_true("all jobs have ended", secs(900), || async {
        peak.fetch_max(seen.memory_kib(), Ordering::Relaxed);
        let open = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE ended_at IS NULL");
        let open: i64 = open.fetch_one(&pool).await.expect("a count");
        open == 0
    })
    .await;
    let peak = peak.load(Ordering::Relaxed);
    let rows = rows::rows(&stack).await;
    assert_eq!(rows.len(), JOBS);
    assert!(rows.values().all(|row| row.status == "completed"));
    let mut late: Vec<_> = rows
        .values()
        .map(|row| row.ended_at.unwrap() - due[&row.id])
        .collect();
    late.sort_unstable();
    let early = late[0];
    let of = |percent: usize| late[(late.len() - 1) * percent / 100];
    println!(
        "schedules: {JOBS} jobs due within a minute, the first {lead} s after the last was accepted; ended p50 {} ms, p99 {} ms, at most {} ms \
         after they were due; the scheduler took {before} KiB before and {peak} at most",
        of(50),
        of(99),
        of(100)
    );
    assert!(early >= 0, "{early} ms: before it was due");
    assert!(peak < before + 96 * 1024, "the scheduler's memory grows");
}
