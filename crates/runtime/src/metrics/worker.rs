//! Jobs in, outcomes out.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tidegate_contract::{Pool, Tier};

use super::{Counters1, Counters2, Metrics, job_seconds, level, observe, owned, register};

type Times = Family<super::Labels<1>, Histogram, fn() -> Histogram>;

pub(super) struct Worker {
    received: Counters1,
    passed_over: Counters1,
    unclean_ends: Counters1,
    queue_seconds: Times,
    attempts: Counters2,
    attempt_seconds: Times,
    running: Counters1<Gauge>,
    waiting: Counters2<Gauge>,
    parked: Counters2,
    retries: Counters1,
    dead_letters: Counters2,
    dropped: Counters2,
    unsent: Gauge,
}

impl Worker {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            received: register(
                r,
                "jobs_received",
                "Job records read, by tier",
                Family::default(),
            ),
            passed_over: register(
                r,
                "jobs_passed_over",
                "Job records read again that the last owner of their partition had done, by tier",
                Family::default(),
            ),
            unclean_ends: register(
                r,
                "unclean_ends",
                "Partitions taken over from a worker that ended without a farewell, by topic",
                Family::default(),
            ),
            queue_seconds: register(
                r,
                "job_queue_duration_seconds",
                "From acceptance to the start of the first attempt, by tier",
                Times::new_with_constructor(job_seconds),
            ),
            attempts: register(
                r,
                "attempts",
                "Attempts ended, by job type and outcome",
                Family::default(),
            ),
            attempt_seconds: register(
                r,
                "attempt_duration_seconds",
                "How long handlers run, by job type",
                Times::new_with_constructor(job_seconds),
            ),
            running: register(
                r,
                "attempts_running",
                "Attempts running now",
                Family::default(),
            ),
            waiting: register(
                r,
                "jobs_waiting",
                "Job records read ahead and not begun, by pool and tier",
                Family::default(),
            ),
            parked: register(
                r,
                "jobs_parked",
                "Jobs put back without an attempt, by job type and reason",
                Family::default(),
            ),
            retries: register(
                r,
                "retries_scheduled",
                "Failed attempts that another one follows, by job type",
                Family::default(),
            ),
            dead_letters: register(
                r,
                "dead_letters",
                "Records kept among the dead letters, by job type and reason",
                Family::default(),
            ),
            dropped: register(
                r,
                "jobs_dropped",
                "Jobs left alone because they are called off, by job type and whether they were delayed, queued or running",
                Family::default(),
            ),
            unsent: register(
                r,
                "outcomes_unsent_bytes",
                "Outcomes that the broker has not acknowledged yet",
                Gauge::default(),
            ),
        }
    }
}

fn tier_label(tier: Tier) -> super::Labels<1> {
    [("tier", Cow::Borrowed(tier.as_str()))]
}

impl Metrics {
    /// A job record was read.
    pub fn job_received(&self, tier: Tier) {
        self.all
            .worker
            .received
            .get_or_create(&tier_label(tier))
            .inc();
    }

    /// A job record was read again that is done.
    pub fn job_passed_over(&self, tier: Tier) {
        self.all
            .worker
            .passed_over
            .get_or_create(&tier_label(tier))
            .inc();
    }

    /// A partition was taken over from a worker that ended without a farewell; `topic` as in `jobs-high`.
    pub fn unclean_end(&self, topic: &str) {
        let labels = [("topic", super::owned(topic))];
        self.all.worker.unclean_ends.get_or_create(&labels).inc();
    }

    /// Job records that are read ahead and not begun.
    pub fn jobs_waiting(&self, pool: &Pool, tier: Tier, count: usize) {
        let labels = [
            ("pool", owned(pool.as_str())),
            ("tier", Cow::Borrowed(tier.as_str())),
        ];
        let waiting = &self.all.worker.waiting;
        waiting.get_or_create(&labels).set(level(count));
    }

    /// A first attempt begins after this time in the queue.
    pub fn job_queued(&self, tier: Tier, queued: Duration) {
        observe(
            &self
                .all
                .worker
                .queue_seconds
                .get_or_create(&tier_label(tier)),
            queued,
        );
    }

    /// An attempt begins; it counts as running until the guard goes, also when the handler panics.
    pub fn attempt_started(&self, job_type: &str) -> RunningAttempt {
        let job_type = self.type_label(job_type);
        self.all
            .worker
            .running
            .get_or_create(&[("type", job_type.clone())])
            .inc();
        RunningAttempt {
            metrics: self.clone(),
            job_type,
            since: Instant::now(),
            outcome: "abandoned",
        }
    }

    /// A job was left alone because it is called off. `when`: `delayed` on the delay ladder, `queued` if it had not begun,
    /// else `running`.
    pub fn job_dropped(&self, job_type: &str, when: &'static str) {
        let labels = [
            ("type", self.type_label(job_type)),
            ("when", Cow::Borrowed(when)),
        ];
        self.all.worker.dropped.get_or_create(&labels).inc();
    }

    /// A job was put back without an attempt. `reason`: `unknown-type`, `stopping` and the like.
    pub fn job_parked(&self, job_type: &str, reason: &'static str) {
        let labels = [
            ("type", self.type_label(job_type)),
            ("reason", Cow::Borrowed(reason)),
        ];
        self.all.worker.parked.get_or_create(&labels).inc();
    }

    /// Another attempt follows a failed one.
    pub fn retry_scheduled(&self, job_type: &str) {
        let labels = [("type", self.type_label(job_type))];
        self.all.worker.retries.get_or_create(&labels).inc();
    }

    /// A record was kept among the dead letters. `reason`: `attempts-exhausted`, `not-retryable`, `unreadable-record` and
    /// the like.
    pub fn dead_lettered(&self, job_type: &str, reason: &'static str) {
        let labels = [
            ("type", self.type_label(job_type)),
            ("reason", Cow::Borrowed(reason)),
        ];
        self.all.worker.dead_letters.get_or_create(&labels).inc();
    }

    /// What outcomes are held until the broker takes them.
    pub fn outcomes_unsent(&self, bytes: usize) {
        self.all.worker.unsent.set(level(bytes));
    }
}

/// A running attempt. Dropped without [`ended`](Self::ended) it counts as `abandoned`.
#[derive(Debug)]
pub struct RunningAttempt {
    metrics: Metrics,
    job_type: Cow<'static, str>,
    since: Instant,
    outcome: &'static str,
}

impl RunningAttempt {
    /// The attempt ended. `outcome`: `completed`, `failed`, `timeout`, `panic` and the like.
    pub fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        let w = &self.metrics.all.worker;
        let job_type = [("type", self.job_type.clone())];
        w.running.get_or_create(&job_type).dec();
        let labels = [
            ("type", self.job_type.clone()),
            ("outcome", Cow::Borrowed(self.outcome)),
        ];
        w.attempts.get_or_create(&labels).inc();
        observe(
            &w.attempt_seconds.get_or_create(&job_type),
            self.since.elapsed(),
        );
    }
}
