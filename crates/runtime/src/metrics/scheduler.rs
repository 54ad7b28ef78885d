//! The delay ladder.

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{
    Counters1, Counters2, Metrics, Seconds, level, observe, owned, register, request_seconds,
};

pub(super) struct Scheduler {
    moved: Counters2,
    lateness: Histogram,
    overdue: Counters1<Seconds>,
    held: Counters1<Gauge>,
}

impl Scheduler {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            moved: register(
                r,
                "delayed_records_moved",
                "Records of the delay ladder that were moved, by rung and whether to the target or to another rung",
                Family::default(),
            ),
            lateness: register(
                r,
                "delay_lateness_seconds",
                "From when a delayed record was due until it was acknowledged at its target",
                request_seconds(),
            ),
            overdue: register(
                r,
                "delay_overdue_seconds",
                "For how long the next record of a rung should have moved already",
                Family::default(),
            ),
            held: register(
                r,
                "delayed_records_held",
                "Records of a rung that are held in memory or on their way",
                Family::default(),
            ),
        }
    }
}

impl Metrics {
    /// A record left a rung. `to`: `target` or `rung`.
    pub fn delayed_moved(&self, rung: &str, to: &'static str) {
        let labels = [("rung", owned(rung)), ("to", Cow::Borrowed(to))];
        self.all.scheduler.moved.get_or_create(&labels).inc();
    }

    /// A record arrived at its target this long after it was due.
    pub fn delay_lateness(&self, late: Duration) {
        observe(&self.all.scheduler.lateness, late);
    }

    /// For how long the next record of a rung should have moved already.
    pub fn delay_overdue(&self, rung: &str, late: Duration) {
        let labels = [("rung", owned(rung))];
        let overdue = &self.all.scheduler.overdue;
        overdue.get_or_create(&labels).set(late.as_secs_f64());
    }

    /// Records of a rung in this process.
    pub fn delay_held(&self, rung: &str, records: usize) {
        let labels = [("rung", owned(rung))];
        let held = &self.all.scheduler.held;
        held.get_or_create(&labels).set(level(records));
    }
}
