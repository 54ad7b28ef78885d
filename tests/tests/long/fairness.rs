//! A tier that is saturated for minutes, and a tenant with a backlog of many times what a worker looks ahead.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tidegate_contract::now_millis;
use tidegate_tests::storm::target::Target;
use tidegate_tests::{Client, Servers, Stack, load, secs, until_true};
use uuid::Uuid;

/// Slots, one of them for each tier.
const SLOTS: usize = 16;
/// What the documentation promises of 200 low jobs of 100 ms each, beside a tier `high` that is never empty.
const BOUND: Duration = Duration::from_secs(25);
const LOW: usize = 200;
const WORK: &str = r#"{"work":100}"#;

/// Two tenants: name, key, and its SHA-256.
const TENANTS: [(&str, &str, &str); 2] = [
    (
        "flood",
        "long-key-flood",
        "ca7eebd16a63980ca2b63d693323881c92e518e5ed338b908b064ad2d8d78ad3",
    ),
    (
        "calm",
        "long-key-calm",
        "4b289397984db5c4c4048067374c75e309c1477321db84ba41e6626064235f62",
    ),
];

fn work(target: &Target) -> String {
    let url = target.of_worker("worker");
    format!(
        "[types.work]\nmode = \"async\"\nallowed_tiers = [\"high\", \"low\"]\nhandler = {{ kind = \"http\", url = \"{url}\" }}\n"
    )
}

/// Jobs of tier `high`, one after the other, until it is over.
async fn saturate(client: &Client, over: &AtomicBool) -> usize {
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        let request = client
            .wait("work", WORK, 60)
            .header("tidegate-priority", "high");
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        done += 1;
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn low_jobs_stay_under_their_bound_while_high_is_saturated_for_five_minutes() {
    let target = Target::start();
    let mut stack = Stack::new().await;
    stack.set(&format!("worker.concurrency={SLOTS}"));
    stack.configure(&work(&target));
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let over = Arc::new(AtomicBool::new(false));
    let high: Vec<_> = (0..8 * SLOTS)
        .map(|_| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tokio::spawn(async move { saturate(&client, &over).await })
        })
        .collect();
    let (begun, mut longest, mut rounds) = (Instant::now(), Duration::ZERO, 0);
    while begun.elapsed() < secs(300) {
        let asked = now_millis();
        let low = join_all((0..LOW).map(|_| async {
            let request = client
                .submit("work", WORK)
                .header("prefer", "respond-async")
                .header("tidegate-priority", "low");
            let answer = request.send().await.expect("an answer");
            tidegate_tests::http::accepted(answer).await.id
        }));
        let low: HashSet<Uuid> = low.await.iter().map(|id| id.parse().unwrap()).collect();
        let starts = || {
            let runs = target.runs();
            let of_low = runs.iter().filter(|run| low.contains(&run.job));
            of_low.map(|run| run.start).collect::<Vec<_>>()
        };
        until_true("all low jobs are begun", secs(120), || async {
            starts().len() >= LOW
        })
        .await;
        let last = starts().into_iter().max().unwrap() - asked;
        longest = longest.max(Duration::from_millis(last.unsigned_abs()));
        rounds += 1;
    }
    over.store(true, Ordering::Relaxed);
    let high: usize = join_all(high)
        .await
        .into_iter()
        .map(|done| done.unwrap())
        .sum();
    println!(
        "fairness: {high} high jobs in {:.0} s; {rounds} times {LOW} low ones beside them, the last of which began after {longest:.1?} at \
         the latest; the bound is {BOUND:?}",
        begun.elapsed().as_secs_f64()
    );
    assert!(longest <= BOUND);
}

/// The time of so many waiting requests, twenty a second, sorted.
async fn calm(client: &Client, jobs: usize) -> Vec<Duration> {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut asked = Vec::new();
    for _ in 0..jobs {
        tick.tick().await;
        let request = client.wait("work", WORK, 60);
        asked.push(tokio::spawn(async move {
            let begun = Instant::now();
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            begun.elapsed()
        }));
    }
    let mut times: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(|time| time.unwrap())
        .collect();
    times.sort_unstable();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_ten_times_the_look_ahead_leaves_another_tenant_its_time() {
    let target = Target::start();
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set(&format!("worker.concurrency={SLOTS}"));
    // As many as there are by default: of four, both tenants have all.
    stack.set("kafka.partitions.jobs=12");
    stack.set_up();
    let mut tables = work(&target);
    tables.push_str("[auth]\nenabled = true\n");
    for (tenant, _, sha256) in TENANTS {
        tables.push_str(&format!(
            "[[auth.keys]]\nname = \"{tenant}\"\ntenant = \"{tenant}\"\nsha256 = \"{sha256}\"\n"
        ));
    }
    stack.configure(&tables);
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let [flood, other] = TENANTS.map(|(_, key, _)| Client::with_key(gateway.url(), key));
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let alone = p99(&calm(&other, 400).await);
    let backlog = 10 * SLOTS * 64;
    load::accept_all(&flood, "work", WORK, backlog).await;
    let beside = p99(&calm(&other, 400).await);
    let left = backlog + 800 - target.runs().len();
    println!(
        "fairness: 400 jobs of a tenant alone: p99 {alone:.1?}; beside another one with {backlog} in line, of which {left} were left at \
         the end: p99 {beside:.1?}"
    );
    assert!(left > SLOTS, "the backlog was gone before");
    assert!(beside <= alone * 2);
}
