//! Jobs that run while their partition moves to another worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_tests::{Client, Process, Stack, secs, until_true};

/// An installation with a type whose jobs note when they begin, and then run until they are allowed to end.
struct Moving {
    stack: Stack,
    gateway: Process,
    client: Client,
}

/// How often jobs were begun: id, and for each time whether it was told to be a repeat.
type Begun = BTreeMap<String, Vec<bool>>;

impl Moving {
    async fn new(settings: &[&str]) -> Self {
        let mut stack = Stack::new().await;
        settings.iter().for_each(|setting| stack.set(setting));
        let dir = stack.dir.path().display();
        let script = format!(
            "echo $TIDEGATE_JOB_ID $TIDEGATE_REPEAT >> {dir}/begun; until [ -e {dir}/go ]; do sleep 0.05; done"
        );
        let program = serde_json::to_string(&["sh", "-c", &script]).unwrap();
        stack.configure(&format!(
            "[types.long]\nmode = \"async\"\nhandler = {{ kind = \"command\", program = {program} }}\n"
        ));
        let gateway = stack.gateway("gateway").await;
        let client = Client::new(gateway.url());
        Self {
            stack,
            gateway,
            client,
        }
    }

    /// Submits so many jobs, and waits until all of them run.
    async fn begin(&self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.client.accept("long", "1").await.id);
        }
        until_true("all jobs run", secs(30), || async {
            self.begun().len() == count
        })
        .await;
        ids
    }

    fn begun(&self) -> Begun {
        let path = self.stack.dir.path().join("begun");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut begun = Begun::new();
        for line in text.lines() {
            let (id, repeat) = line.split_once(' ').expect("a whole line");
            let times = begun.entry(id.to_owned()).or_default();
            times.push(repeat.parse().unwrap());
        }
        begun
    }

    /// Waits until each was begun twice.
    async fn begun_again(&self, limit: Duration) {
        until_true("all jobs are begun again", limit, || async {
            self.begun().values().all(|times| times.len() == 2)
        })
        .await;
    }

    /// Lets all of them end, of which each was begun twice: the second time it was told that it had been.
    async fn end_as_repeats(&self, ids: &[String]) {
        self.end(ids).await;
        let begun = self.begun();
        assert!(
            begun.values().all(|times| times[..] == [false, true]),
            "{begun:?}"
        );
    }

    /// Lets all of them end.
    async fn end(&self, ids: &[String]) {
        std::fs::write(self.stack.dir.path().join("go"), "").unwrap();
        for id in ids {
            self.client.until_status(id, &["completed"], secs(60)).await;
        }
    }

    /// Waits until a worker has partitions of the tier in which the jobs are.
    async fn has_partitions(&self, worker: &Process) {
        let topic = format!("topic={}jobs.normal", self.stack.prefix);
        until_true("the worker has partitions", secs(60), || async {
            let log = worker.log();
            let mut lines = log.lines();
            lines.any(|line| line.contains("partitions assigned") && line.ends_with(&topic))
        })
        .await;
    }

    /// Does other jobs for so long.
    async fn be_busy_for(&self, time: Duration) -> usize {
        let (begun, mut done) = (Instant::now(), 0);
        while begun.elapsed() < time {
            let id = self.client.accept("echo-async", "1").await.id;
            self.client
                .until_status(&id, &["completed"], secs(30))
                .await;
            done += 1;
        }
        done
    }
}

fn repeats(begun: &Begun) -> usize {
    begun.values().map(|times| times.len() - 1).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_and_only_there_when_workers_come_and_go() {
    // Who says nothing for 3 s is taken for gone.
    let moving = Moving::new(&["worker.beat_every=600ms"]).await;
    let first = moving.stack.worker("worker-1").await;
    let ids = moving.begin(24).await;
    let second = moving.stack.worker("worker-2").await;
    moving.has_partitions(&second).await;
    let third = moving.stack.worker("worker-3").await;
    moving.has_partitions(&third).await;
    let beside = moving.be_busy_for(secs(7)).await;
    // What it holds back goes on to the others, and is held back there.
    assert!(second.stop(secs(30)).await.success());
    let later = moving.be_busy_for(secs(7)).await;
    assert_eq!(repeats(&moving.begun()), 0);
    moving.end(&ids).await;
    assert_eq!(repeats(&moving.begun()), 0);
    println!(
        "24 jobs ran on while two workers came and one went, {} others were done beside them; none was begun again",
        beside + later
    );
    drop((first, third));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_ran_is_taken_over_when_it_is_killed() {
    let moving = Moving::new(&["worker.beat_every=600ms"]).await;
    let first = moving.stack.worker("worker-1").await;
    let ids = moving.begin(24).await;
    let second = moving.stack.worker("worker-2").await;
    moving.has_partitions(&second).await;
    assert_eq!(repeats(&moving.begun()), 0);
    first.kill();
    let killed = Instant::now();
    moving.begun_again(secs(40)).await;
    println!(
        "24 jobs of a worker that was killed run again after {:.1?}",
        killed.elapsed()
    );
    moving.end_as_repeats(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_that_stops_cannot_end_is_handed_over_at_once() {
    // Nobody waits for a word that does not come: that would take 50 s.
    let moving = Moving::new(&["worker.beat_every=10s", "worker.grace=1s"]).await;
    let first = moving.stack.worker("worker-1").await;
    let ids = moving.begin(24).await;
    let second = moving.stack.worker("worker-2").await;
    moving.has_partitions(&second).await;
    assert_eq!(repeats(&moving.begun()), 0);
    assert!(first.stop(secs(30)).await.success());
    let stopped = Instant::now();
    moving.begun_again(secs(20)).await;
    println!(
        "24 jobs of a worker that stopped run again {:.1?} after its end",
        stopped.elapsed()
    );
    moving.end_as_repeats(&ids).await;
    drop(moving.gateway);
}
