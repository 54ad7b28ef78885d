//! Every metric of Tidegate. Names, units and labels are here and nowhere else; services call one helper an event.
//!
//! Labels are bounded: job types are those of the configuration and its reloads (any other counts as `other`), routes are patterns and
//! never paths, and reasons, results and outcomes are `&'static str`, so that no request can make a new one.
//! Counters get `_total` from the encoder.

mod clients;
mod gateway;
mod notifier;
mod scheduler;
mod targets;
mod types;
mod worker;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tidegate_contract::now_millis;

pub use gateway::OpenStream;

use crate::readiness::Report;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label of types that are not in the configuration.
pub const OTHER_TYPE: &str = "other";

/// All metrics of one process. Clones share.
#[derive(Clone)]
pub struct Metrics {
    all: Arc<Families>,
}

struct Families {
    registry: Registry,
    types: types::Types,
    ready: Gauge,
    conditions: Counters1<Gauge>,
    clients: clients::Clients,
    gateway: gateway::Gateway,
    notifier: notifier::Notifier,
    scheduler: scheduler::Scheduler,
    targets: targets::Targets,
    worker: worker::Worker,
}

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters1<M = Counter> = Family<Labels<1>, M>;
type Counters2<M = Counter> = Family<Labels<2>, M>;
type Counters3<M = Counter> = Family<Labels<3>, M>;
/// Gauges that hold fractions, such as seconds.
type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics for a process that knows these job types.
    pub fn new<N: Into<String>>(types: impl IntoIterator<Item = N>) -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let started = register(
            &mut registry,
            "process_start_time_seconds",
            "When the process began, in seconds since 1970",
            Seconds::default(),
        );
        started.set(now_millis() as f64 / 1000.0);
        let ready = register(
            &mut registry,
            "ready",
            "1 if every condition is met",
            Gauge::default(),
        );
        let conditions = register(
            &mut registry,
            "condition_ok",
            "1 if this condition of readiness is met",
            Family::default(),
        );
        let clients = clients::Clients::new(&mut registry);
        let gateway = gateway::Gateway::new(&mut registry);
        let notifier = notifier::Notifier::new(&mut registry);
        let scheduler = scheduler::Scheduler::new(&mut registry);
        let targets = targets::Targets::new(&mut registry);
        let worker = worker::Worker::new(&mut registry);
        let types = types::Types::new(&mut registry, types.into_iter().map(Into::into));
        Self {
            all: Arc::new(Families {
                registry,
                types,
                ready,
                conditions,
                clients,
                gateway,
                notifier,
                scheduler,
                targets,
                worker,
            }),
        }
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.all.registry) {
            Ok(()) => text,
            // Writing to a string does not fail; half a page would be taken for a reset of counters.
            Err(_) => "# EOF\n".to_owned(),
        }
    }

    /// Takes the readiness gauges from a report; the operations endpoint does this at each scrape.
    pub fn observe_readiness(&self, report: &Report) {
        self.all.ready.set(i64::from(report.ready));
        for entry in &report.conditions {
            let labels = [("condition", Cow::Owned(entry.name.clone()))];
            self.all
                .conditions
                .get_or_create(&labels)
                .set(i64::from(entry.ok));
        }
    }
}

/// Registers a metric and gives it back: one line a metric.
fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// From half a millisecond to 30 s: what a client or a dependency takes.
fn request_seconds() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

/// From a millisecond to six hours: what a job takes, running or queued.
fn job_seconds() -> Histogram {
    Histogram::new([
        0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
        21600.0,
    ])
}

/// A gauge's value from a size; sizes beyond `i64` do not occur.
fn level(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

fn observe(histogram: &Histogram, took: Duration) {
    histogram.observe(took.as_secs_f64());
}
