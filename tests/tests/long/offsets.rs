//! A long job at the head of a partition, and ten thousand short ones behind it.

use std::collections::HashMap;
use std::time::Instant;

use tidegate_tests::storm::target::Target;
use tidegate_tests::{Client, Servers, Stack, load, secs, until_true};
use uuid::Uuid;

const JOBS: usize = 10_000;

/// Submits the short ones and waits until all of them have ended. How long that took.
async fn run(client: &Client, target: &Target, seen: usize) -> f64 {
    let begun = Instant::now();
    load::accept_all(client, "work", r#"{"work":0}"#, JOBS).await;
    until_true("all short jobs have ended", secs(300), || async {
        let runs = target.runs();
        runs[seen..].iter().filter(|run| run.end.is_some()).count() >= JOBS
    })
    .await;
    begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_behind_one_of_ten_minutes_are_not_done_again_after_a_kill() {
    let target = Target::start();
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set("kafka.partitions.jobs=1");
    stack.set_up();
    let url = target.of_worker("worker");
    stack.configure(&format!(
        "[types.work]\nmode = \"async\"\nattempt_timeout = \"20m\"\nhandler = {{ kind = \"http\", url = \"{url}\" }}\n"
    ));
    let gateway = stack.gateway("gateway").await;
    let first = stack.worker("worker-1").await;
    let client = Client::new(gateway.url());
    let without = run(&client, &target, 0).await;

    let long = client.accept("work", r#"{"work":600000}"#).await.id;
    let long: Uuid = long.parse().unwrap();
    let begun = |times| {
        let target = target.clone();
        move || {
            let runs = target.runs();
            let begun = runs.iter().filter(|run| run.job == long).count() == times;
            async move { begun }
        }
    };
    until_true("the long job runs", secs(30), begun(1)).await;
    let with = run(&client, &target, JOBS + 1).await;
    first.kill();
    let _second = stack.worker("worker-2").await;
    until_true("the long job runs again", secs(60), begun(2)).await;
    // Behind everything that there was.
    let last = client.accept("work", r#"{"work":0}"#).await.id;
    client.until_status(&last, &["completed"], secs(60)).await;
    let mut runs: HashMap<Uuid, usize> = HashMap::new();
    for run in target.runs() {
        *runs.entry(run.job).or_default() += 1;
    }
    let again = runs.values().filter(|times| **times > 1).count() - 1;
    println!(
        "offsets: {JOBS} jobs take {without:.1} s, and {with:.1} s behind one of ten minutes in their partition; after a kill -9 {again} of \
         them ran again"
    );
    assert!(again < JOBS / 100);
}
