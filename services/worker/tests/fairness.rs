//! Nothing starves: tiers, tenants and limits of a worker on an embedded broker.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Rig, custom, handlers, settings, types, until, usual_types};
use tidegate_contract::{EventKind, HandlerSpec, JobId, JobMessage, Outcome, Tier};
use tidegate_worker::{Handler, JobContext, JobFailure, WorkerSettings, outcome};

fn slots(concurrency: usize) -> WorkerSettings {
    WorkerSettings {
        concurrency,
        ..settings()
    }
}

/// Writes these jobs at once, in that order.
async fn write(rig: &Rig, jobs: &[JobMessage], partition: i32) -> Vec<JobId> {
    let acks: Vec<_> = jobs
        .iter()
        .map(|job| {
            let mut record = rig.record(job);
            record.partition = Some(partition);
            rig.producer.enqueue(record).unwrap()
        })
        .collect();
    for ack in acks {
        ack.await.unwrap();
    }
    jobs.iter().map(|job| job.job_id).collect()
}

fn jobs(rig: &Rig, count: usize, tier: Tier, tenant: &str, body: &str) -> Vec<JobMessage> {
    let jobs = (0..count).map(|_| {
        let mut job = rig.job("script", body);
        job.tier = tier;
        job.tenant = tenant.parse().unwrap();
        job
    });
    jobs.collect()
}

fn ended(rig: &Rig, ids: &[JobId]) -> usize {
    let is_end = |id: &&JobId| rig.said(**id).iter().any(|s| s.event.kind.is_terminal());
    ids.iter().filter(is_end).count()
}

fn started(rig: &Rig, ids: &[JobId]) -> usize {
    ids.iter().filter(|id| !rig.said(**id).is_empty()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn low_jobs_stay_under_their_bound_while_long_high_ones_fill_everything_else() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), slots(16)).await;
    // Longer than the low jobs may take together.
    let high = jobs(&rig, 60, Tier::High, "default", "sleep 8000");
    let high = write(&rig, &high, 0).await;
    // One slot of sixteen is kept for each of the other tiers.
    until("high fills what it may", || {
        (started(&rig, &high) == 14).then_some(())
    })
    .await;

    let begun = Instant::now();
    let low = jobs(&rig, 20, Tier::Low, "default", "sleep 50");
    let low = write(&rig, &low, 1).await;
    for id in &low {
        rig.ended(*id).await;
    }
    let took = begun.elapsed();
    // d + a × d / r, and the run of the last: 20 jobs one after the other, with as much again for a busy machine.
    let bound = Duration::from_millis(50 * 21) * 3;
    assert!(took < bound, "{took:?}");
    assert_eq!(ended(&rig, &high), 0, "no slot became free for them");
    assert_eq!(
        started(&rig, &high),
        14,
        "and the other tiers' were not taken"
    );
    worker.shutdown.trigger();
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_take_turns_in_what_was_read() {
    let rig = Rig::start().await;
    // Everything is there before the worker comes.
    let flood = jobs(&rig, 100, Tier::Normal, "flood", "sleep 20");
    let small = jobs(&rig, 5, Tier::Normal, "small", "sleep 20");
    let flood = write(&rig, &flood, 0).await;
    let small = write(&rig, &small, 0).await;
    let worker = rig.worker(usual_types(), slots(2)).await;
    for id in &small {
        let last = rig.ended(*id).await.pop().unwrap().event;
        assert_eq!(last.kind, EventKind::Completed);
        let body = last.outcome.unwrap().body;
        assert_eq!(
            &body[..],
            b"false",
            "it went before others and is no repeat"
        );
    }
    let done = ended(&rig, &flood);
    assert!(
        done < 50,
        "{done} of 100 went before five that should be every other one"
    );
    for id in &flood {
        rig.ended(*id).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_many_times_the_look_ahead_leaves_the_other_partition_alone() {
    let rig = Rig::start().await;
    let narrow = WorkerSettings {
        look_ahead: 20,
        ..slots(4)
    };
    let worker = rig.worker(usual_types(), narrow).await;
    let waits = async || {
        let mut waits = Vec::new();
        for job in jobs(&rig, 10, Tier::Normal, "small", "sleep 50") {
            let begun = Instant::now();
            let id = write(&rig, &[job], 1).await[0];
            rig.ended(id).await;
            waits.push(begun.elapsed());
        }
        waits.sort();
        waits
    };
    write(&rig, &jobs(&rig, 1, Tier::Normal, "small", "ok"), 1).await;
    let alone = waits().await;

    let flood = jobs(&rig, 600, Tier::Normal, "flood", "sleep 50");
    let flood = write(&rig, &flood, 0).await;
    until("the flood runs", || (ended(&rig, &flood) > 0).then_some(())).await;
    let beside = waits().await;
    let left = flood.len() - ended(&rig, &flood);
    println!("waits alone {alone:?}, beside the flood {beside:?}, {left} of it left");
    // Behind the flood one of them would wait for seconds.
    let (typical, typical_alone) = (beside[5], alone[5]);
    assert!(
        typical < 4 * typical_alone,
        "{typical:?} against {typical_alone:?}"
    );
    assert!(left > 200, "the flood was over: {left}");
    worker.shutdown.trigger();
}

/// Sleeps, and knows how many do so at once.
struct Counting {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Handler for Counting {
    async fn run(&self, _: JobContext) -> Result<Outcome, JobFailure> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(150)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(outcome(200, "text/plain", "counted"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_limit_lets_others_pass_and_the_limit_holds() {
    let rig = Rig::start().await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = Counting {
        running,
        most: Arc::clone(&most),
    };
    let mut types = types([("counted", custom("counting")), ("echo", HandlerSpec::Echo)]);
    types
        .get_mut(&"counted".parse().unwrap())
        .unwrap()
        .max_running = 2;
    let handlers = handlers().custom("counting", counting);
    let counted: Vec<_> = (0..20).map(|_| rig.job("counted", "")).collect();
    let counted = write(&rig, &counted, 0).await;
    let echo = write(&rig, &[rig.job("echo", "x")], 0).await;
    let worker = rig.worker_with(types, handlers, slots(8)).await;
    rig.ended(echo[0]).await;
    let done = ended(&rig, &counted);
    assert!(
        done < 10,
        "{done} of 20 ended before the one that may pass them"
    );
    for id in &counted {
        rig.ended(*id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limit_leaves_slots_to_the_others() {
    let rig = Rig::start().await;
    let limited = WorkerSettings {
        max_running_per_tenant: 3,
        ..slots(4)
    };
    let flood = jobs(&rig, 12, Tier::Normal, "flood", "sleep 5000");
    let flood = write(&rig, &flood, 0).await;
    let worker = rig.worker(usual_types(), limited).await;
    until("three run", || (started(&rig, &flood) == 3).then_some(())).await;
    let small = jobs(&rig, 5, Tier::Normal, "small", "sleep 10");
    for id in write(&rig, &small, 0).await {
        rig.ended(id).await;
    }
    assert_eq!(ended(&rig, &flood), 0, "the fourth slot was free of them");
    assert_eq!(started(&rig, &flood), 3);
    worker.shutdown.trigger();
}
