//! Workers in processes of their own, which end as processes do: killed, or by their own hand.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are not seen as tests.

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use support::{Rig, custom, settings, types, until};
use tidegate_contract::tracker::poison::MOST_CRASHES;
use tidegate_contract::{EventKind, JobId, JobMessage, Outcome, now_millis};
use tidegate_kafka::{Cluster, Durability, KafkaSettings, RegistrySettings};
use tidegate_runtime::{Metrics, Shutdown};
use tidegate_worker::{
    Handler, Handlers, JobContext, JobFailure, Worker, WorkerConfig, WorkerSettings, outcome,
};

const BROKERS: &str = "TIDEGATE_TEST_CHILD_BROKERS";
const REGISTRY: &str = "TIDEGATE_TEST_CHILD_REGISTRY";
const LIMIT: Duration = Duration::from_secs(150);

/// Does what the body says; the answer is whether it knows of an earlier start.
struct Deadly;

#[async_trait]
impl Handler for Deadly {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let repeat = cx.is_repeat().to_string();
        cx.progress(1.0, Some(&repeat), None);
        match &cx.body()[..] {
            b"abort" => std::process::abort(),
            b"long" => tokio::time::sleep(Duration::from_secs(600)).await,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        Ok(outcome(200, "text/plain", repeat))
    }
}

/// A worker, where this program is started as one; else nothing.
#[test]
fn a_worker_as_a_process() {
    let Ok(brokers) = std::env::var(BROKERS) else {
        return;
    };
    let url = std::env::var(REGISTRY).unwrap();
    // To be read with `--nocapture`.
    let logs = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO);
    logs.with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let kafka = KafkaSettings {
            brokers,
            // What a dead worker had is free after this time.
            session_timeout: Duration::from_secs(4),
            durability: Durability::SingleBroker,
            ..support::kafka()
        };
        let registry = RegistrySettings {
            url,
            ..RegistrySettings::default()
        };
        let worker = Worker::build(WorkerConfig {
            cluster: Cluster::new(kafka),
            registry,
            settings: WorkerSettings {
                concurrency: 16,
                ..settings()
            },
            types: types([("deadly", custom("deadly"))]),
            handlers: Handlers::new().custom("deadly", Deadly),
            metrics: Metrics::new(["deadly"]),
            instance: "child".to_owned(),
        });
        let worker = worker.await.unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(5));
        worker.run(shutdown).await.unwrap();
    });
}

/// A worker in a process of its own; killed when dropped.
struct Process(Child);

impl Process {
    fn start(rig: &Rig) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_worker_as_a_process", "--nocapture"])
            .env(BROKERS, rig.broker.bootstrap())
            .env(REGISTRY, rig.registry.url())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn deadly(rig: &Rig, body: &str) -> JobMessage {
    let mut job = rig.job("deadly", body);
    job.deadline = now_millis() + 3_600_000;
    job
}

async fn submit(rig: &Rig, partition: i32, bodies: &[&str]) -> Vec<JobId> {
    let mut sent = Vec::new();
    for body in bodies {
        let job = deadly(rig, body);
        let mut record = rig.record(&job);
        record.partition = Some(partition);
        sent.push((job.job_id, rig.producer.enqueue(record).unwrap()));
    }
    let mut ids = Vec::new();
    for (id, record) in sent {
        record.await.unwrap();
        ids.push(id);
    }
    ids
}

/// How often a job has ended.
fn ends(rig: &Rig, id: JobId) -> usize {
    let said = rig.said(id);
    said.iter().filter(|s| s.event.kind.is_terminal()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_behind_a_long_job_is_not_done_again_after_a_kill() {
    let rig = Rig::start().await;
    let long = submit(&rig, 0, &["long"]).await[0];
    let short = submit(&rig, 0, &["short"; 2000]).await;
    let first = Process::start(&rig);
    for id in &short {
        rig.ended(*id).await;
    }
    assert_eq!(ends(&rig, long), 0, "it holds the watermark");
    // The last of them are in a commit within a moment.
    let begun = Instant::now();
    while rig.done_above(0).await < 1990 {
        assert!(begun.elapsed() < LIMIT, "{}", rig.done_above(0).await);
    }
    assert_eq!(rig.committed(0).await, Some(0));
    drop(first);

    let _second = Process::start(&rig);
    let after = submit(&rig, 0, &["short"; 1]).await[0];
    rig.ended(after).await;
    let again = short.iter().filter(|id| ends(&rig, **id) > 1).count();
    println!("{again} of 2000 ran again after the kill");
    assert!(again < 20, "{again} ran again");
    // The long one was begun twice, and was told so.
    until("it is told", || {
        let said = rig.said(long);
        let told = said.iter().filter_map(|seen| seen.event.progress.clone());
        let told: Vec<_> = told.filter_map(|progress| progress.message).collect();
        (told.first()? == "false" && told.last()? == "true").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_its_worker_is_set_aside_and_its_neighbours_end() {
    let rig = Rig::start().await;
    let mut good = submit(&rig, 0, &["short"; 40]).await;
    let poison = submit(&rig, 0, &["abort"]).await[0];
    good.extend(submit(&rig, 0, &["short"; 40]).await);
    good.extend(submit(&rig, 1, &["short"; 40]).await);
    let begun = Instant::now();
    let mut crashes = 0;
    let mut process = Process::start(&rig);
    let all = good.iter().chain([&poison]);
    while all.clone().any(|id| ends(&rig, *id) == 0) {
        if process.has_ended() {
            crashes += 1;
            process = Process::start(&rig);
        }
        assert!(begun.elapsed() < LIMIT, "{crashes} crashes and no end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{crashes} crashes in {:?}", begun.elapsed());
    assert!(crashes <= MOST_CRASHES, "{crashes}");
    assert!(!process.has_ended());
    for id in &good {
        let last = rig.said(*id).pop().unwrap().event;
        assert_eq!(last.kind, EventKind::Completed, "{last:?}");
    }
    let end = rig.ended(poison).await.pop().unwrap().event;
    assert_eq!(end.kind, EventKind::DeadLettered, "{end:?}");
    assert_eq!(end.error.unwrap().code, "poison");
    assert!(end.dead_letter.is_some(), "it tells where the letter lies");
    let letter = rig.letter(|letter| letter.job_id == Some(poison)).await;
    assert_eq!((letter.reason.as_str(), letter.partition), ("poison", 0));
    assert!(letter.value.is_some() && !letter.headers.is_empty());
}

/// What another tool has put beside the offset is passed over, and what is committed plainly is where work begins.
#[tokio::test(flavor = "multi_thread")]
async fn plain_commits_and_those_of_other_tools_are_taken_as_they_are() {
    let rig = Rig::start().await;
    let ids = submit(&rig, 0, &["short"; 6]).await;
    let other = submit(&rig, 1, &["short"; 6]).await;
    rig.commit_as_another(0, 2, "").await;
    rig.commit_as_another(1, 4, "somebody's own words").await;
    let _process = Process::start(&rig);
    for id in ids[2..].iter().chain(&other[4..]) {
        rig.ended(*id).await;
    }
    for id in ids[..2].iter().chain(&other[..4]) {
        assert_eq!(rig.said(*id).len(), 0);
    }
}
