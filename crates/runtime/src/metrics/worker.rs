//! Jobs in, outcomes out.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tidegate_contract::Tier;

use super::{Counters1, Counters2, Metrics, job_seconds, level, observe, register};

type Times = Family<super::Labels<1>, Histogram, fn() -> Histogram>;

pub(super) struct Worker {
    received: Counters1,
    queue_seconds: Times,
    attempts: Counters2,
    attempt_seconds: Times,
    running: Counters1<Gauge>,
    waiting: Counters1<Gauge>,
    parked: Counters2,
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
                "Job records read ahead and not begun, by tier",
                Family::default(),
            ),
            parked: register(
                r,
                "jobs_parked",
                "Jobs put back without an attempt, by job type and reason",
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

    /// Job records that are read ahead and not begun.
    pub fn jobs_waiting(&self, tier: Tier, count: usize) {
        self.all
            .worker
            .waiting
            .get_or_create(&tier_label(tier))
            .set(level(count));
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

    /// A job was put back without an attempt. `reason`: `unknown-type`, `stopping` and the like.
    pub fn job_parked(&self, job_type: &str, reason: &'static str) {
        let labels = [
            ("type", self.type_label(job_type)),
            ("reason", Cow::Borrowed(reason)),
        ];
        self.all.worker.parked.get_or_create(&labels).inc();
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
