//! Jobs of one serial key run one at a time and in their order, also while partitions move.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Rig, Running, custom, handlers, settings, types, until};
use tidegate_contract::{EventKind, HandlerSpec, JobId, JobMessage, Outcome};
use tidegate_worker::{Handler, JobContext, JobFailure, WorkerSettings, outcome};
use tokio::sync::Notify;

/// What all handlers of a test saw.
#[derive(Default)]
struct Log {
    /// Bodies of the jobs that were begun, by key, in the order of their begins.
    begun: BTreeMap<String, Vec<String>>,
    running: HashSet<String>,
    /// Begun while another of the same key ran.
    overlaps: Vec<String>,
    most: usize,
}

/// Runs for a moment, or, where the body says so, until it is told to end.
#[derive(Clone, Default)]
struct Watched {
    log: Arc<Mutex<Log>>,
    go: Arc<Notify>,
}

/// However the handler ends: also when it is cut off.
struct Ends(Arc<Mutex<Log>>, String);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.lock().unwrap().running.remove(&self.1);
    }
}

#[async_trait::async_trait]
impl Handler for Watched {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let key = cx.job().serial_key.clone().unwrap_or_default();
        let body = String::from_utf8_lossy(cx.body()).into_owned();
        let _ends = {
            let mut log = self.log.lock().unwrap();
            if !log.running.insert(key.clone()) {
                log.overlaps.push(body.clone());
            }
            log.most = log.most.max(log.running.len());
            log.begun.entry(key.clone()).or_default().push(body.clone());
            Ends(Arc::clone(&self.log), key)
        };
        match body.as_str() {
            long if long.starts_with("long") => self.go.notified().await,
            // Longer than it takes to hand out the next one.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        Ok(outcome(200, "text/plain", body))
    }
}

impl Watched {
    fn begun(&self, key: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.begun.get(key).cloned().unwrap_or_default()
    }

    fn overlaps(&self) -> Vec<String> {
        self.log.lock().unwrap().overlaps.clone()
    }
}

fn job(rig: &Rig, key: &str, body: &str) -> JobMessage {
    let mut job = rig.job("watched", body);
    job.serial_key = Some(key.to_owned());
    job
}

async fn write(rig: &Rig, partition: i32, job: &JobMessage) -> JobId {
    let mut record = rig.record(job);
    record.partition = Some(partition);
    rig.send(record).await;
    job.job_id
}

async fn worker(rig: &Rig, watched: &Watched) -> Running {
    let types = types([("watched", custom("watched")), ("echo", HandlerSpec::Echo)]);
    let handlers = handlers().custom("watched", watched.clone());
    let settings = WorkerSettings {
        concurrency: 8,
        grace: Duration::from_secs(1),
        ..settings()
    };
    rig.worker_with(types, handlers, settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_key_run_one_at_a_time_in_their_order_and_hold_up_nobody_else() {
    let (rig, watched) = (Rig::start().await, Watched::default());
    let mut ids = Vec::new();
    // Behind the first, which runs until the end of the test, the rest of its key waits.
    for number in 0..10 {
        let body = if number == 0 {
            "long".to_owned()
        } else {
            format!("{number}")
        };
        ids.push(write(&rig, 0, &job(&rig, "held", &body)).await);
    }
    let mut free = Vec::new();
    for number in 0..20 {
        for key in ["a", "b", "c"] {
            free.push(write(&rig, 0, &job(&rig, key, &format!("{key}{number}"))).await);
        }
    }
    let echo = write(&rig, 0, &rig.job("echo", "x")).await;
    let running = worker(&rig, &watched).await;
    rig.ended(echo).await;
    for id in &free {
        rig.ended(*id).await;
    }
    assert_eq!(
        watched.begun("held"),
        ["long"],
        "the others of its key wait"
    );
    watched.go.notify_one();
    for id in &ids {
        let end = rig.ended(*id).await.pop().unwrap();
        assert_eq!(end.event.kind, EventKind::Completed);
    }
    for key in ["a", "b", "c"] {
        let order: Vec<_> = (0..20).map(|number| format!("{key}{number}")).collect();
        assert_eq!(watched.begun(key), order);
    }
    assert_eq!(
        watched.begun("held")[1..],
        (1..10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(watched.overlaps(), Vec::<String>::new());
    assert!(
        watched.log.lock().unwrap().most > 2,
        "keys run beside each other"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_to_another_worker_never_runs_twice_at_once() {
    let (rig, watched) = (Rig::start().await, Watched::default());
    let first = worker(&rig, &watched).await;
    let mut ids = Vec::new();
    for (partition, key) in [(0, "zero"), (1, "one")] {
        for number in 0..6 {
            let body = if number == 0 {
                "long".to_owned()
            } else {
                format!("{number}")
            };
            ids.push(write(&rig, partition, &job(&rig, key, &body)).await);
        }
    }
    for key in ["zero", "one"] {
        until(&format!("{key} runs"), || {
            (!watched.begun(key).is_empty()).then_some(())
        })
        .await;
    }
    // One of the two partitions moves while its job runs: it is cut off here, and begins again there.
    let second = worker(&rig, &watched).await;
    let moved = until("a job begins again", || {
        ["zero", "one"]
            .into_iter()
            .find(|key| watched.begun(key).len() == 2)
    })
    .await;
    assert_eq!(watched.begun(moved), ["long", "long"]);
    assert_eq!(watched.overlaps(), Vec::<String>::new());
    // The second run is one that its handler is told of as a repeat; then all go on in their order.
    watched.go.notify_one();
    watched.go.notify_one();
    for id in &ids {
        let end = rig.ended(*id).await.pop().unwrap();
        assert_eq!(end.event.kind, EventKind::Completed);
    }
    for key in ["zero", "one"] {
        let mut begun = watched.begun(key);
        begun.dedup();
        assert_eq!(begun, ["long", "1", "2", "3", "4", "5"], "{key}");
    }
    assert_eq!(watched.overlaps(), Vec::<String>::new());
    first.stop().await;
    second.stop().await;
}
