//! HTTP in, waits, replies and the projection.

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{
    Counters1, Counters3, Metrics, Seconds, level, observe, owned, register, request_seconds,
};

type Times = Family<super::Labels<1>, Histogram, fn() -> Histogram>;

pub(super) struct Gateway {
    requests: Counters3,
    request_seconds: Times,
    submits: Counters3,
    keyed_submits: Counters1,
    swept: Counter,
    called_off: Counters1,
    waits_open: Gauge,
    waits_ended: Counters1,
    wait_seconds: Times,
    streams_open: Counters1<Gauge>,
    replies_read: Counters1,
    waits_readers: Gauge,
    batches: Counters1,
    events: Counter,
    late: Counter,
    batch_seconds: Histogram,
    lag: Seconds,
    queue_bytes: Gauge,
}

impl Gateway {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            requests: register(
                r,
                "http_requests",
                "HTTP requests answered, by method, route pattern and status",
                Family::default(),
            ),
            request_seconds: register(
                r,
                "http_request_duration_seconds",
                "From the request's head to the end of its handler, by route pattern",
                Times::new_with_constructor(request_seconds),
            ),
            submits: register(
                r,
                "submits",
                "Submits judged, by job type, mode and outcome",
                Family::default(),
            ),
            keyed_submits: register(
                r,
                "keyed_submits",
                "Submits with an idempotency key, by what the key was: first, joined, again, conflict",
                Family::default(),
            ),
            swept: register(
                r,
                "jobs_swept",
                "Expired events written for jobs whose deadline passed without an end",
                Counter::default(),
            ),
            called_off: register(
                r,
                "jobs_called_off",
                "Cancelled events written, by whether workers were told as well: ok, failed",
                Family::default(),
            ),
            waits_open: register(
                r,
                "waits_open",
                "Requests held for an outcome now",
                Gauge::default(),
            ),
            waits_ended: register(
                r,
                "waits_ended",
                "Waits ended, by reason",
                Family::default(),
            ),
            wait_seconds: register(
                r,
                "wait_duration_seconds",
                "How long waits were held, by the reason that ended them",
                Times::new_with_constructor(request_seconds),
            ),
            streams_open: register(
                r,
                "streams_open",
                "Streams of jobs' events that are open now, by kind: sse, websocket",
                Family::default(),
            ),
            replies_read: register(
                r,
                "replies_read",
                "Records read from the replies topic, by purpose",
                Family::default(),
            ),
            waits_readers: register(
                r,
                "waits_readers",
                "Reply partitions read for waits alone: their projection is elsewhere or behind",
                Gauge::default(),
            ),
            batches: register(
                r,
                "projection_batches",
                "Batches offered to the store, by result; stale means that another owner was faster",
                Family::default(),
            ),
            events: register(
                r,
                "projection_events",
                "Events applied to the store",
                Counter::default(),
            ),
            late: register(
                r,
                "projection_late_events",
                "Events of jobs that had already ended, which changed nothing",
                Counter::default(),
            ),
            batch_seconds: register(
                r,
                "projection_batch_duration_seconds",
                "How long the transaction of a batch takes",
                request_seconds(),
            ),
            lag: register(
                r,
                "projection_lag_seconds",
                "Age of the oldest event read and not applied, over all partitions of this gateway",
                Seconds::default(),
            ),
            queue_bytes: register(
                r,
                "projection_queue_bytes",
                "Events read and not applied, in bytes",
                Gauge::default(),
            ),
        }
    }
}

impl Metrics {
    /// A request was answered. `route` is the pattern, such as `/v1/jobs/{id}`, or `unmatched`; never a path.
    pub fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let g = &self.all.gateway;
        let labels = [
            ("method", Cow::Borrowed(method_label(method))),
            ("route", owned(route)),
            ("status", Cow::Owned(status.to_string())),
        ];
        g.requests.get_or_create(&labels).inc();
        observe(
            &g.request_seconds.get_or_create(&[("route", owned(route))]),
            took,
        );
    }

    /// A submit was judged. `mode`: `wait`, `async`; `outcome`: `accepted`, `rejected`, `unavailable`, `unknown`.
    pub fn submit(&self, job_type: &str, mode: &'static str, outcome: &'static str) {
        let labels = [
            ("type", self.type_label(job_type)),
            ("mode", Cow::Borrowed(mode)),
            ("outcome", Cow::Borrowed(outcome)),
        ];
        self.all.gateway.submits.get_or_create(&labels).inc();
    }

    /// A submit came with an idempotency key. `result`: `first` made a job, `joined` found one, `again` produced one
    /// whose first produce never told its end, `conflict` was another request than the key's.
    pub fn keyed_submit(&self, result: &'static str) {
        let labels = [("result", Cow::Borrowed(result))];
        self.all.gateway.keyed_submits.get_or_create(&labels).inc();
    }

    /// So many jobs were past their deadline without an end, and were told to have expired.
    pub fn jobs_swept(&self, jobs: u64) {
        self.all.gateway.swept.inc_by(jobs);
    }

    /// A `cancelled` event was written. `told`: `ok` if workers were told as well, else `failed`.
    pub fn job_called_off(&self, told: &'static str) {
        let labels = [("told", Cow::Borrowed(told))];
        self.all.gateway.called_off.get_or_create(&labels).inc();
    }

    /// A wait begins; it counts as open until the guard goes, however the request ends.
    pub fn wait_opened(&self) -> OpenWait {
        self.all.gateway.waits_open.inc();
        OpenWait {
            metrics: self.clone(),
            since: std::time::Instant::now(),
            reason: "disconnected",
        }
    }

    /// A stream of a job's events begins; it counts as open until the guard goes. `kind`: `sse`, `websocket`.
    pub fn stream_opened(&self, kind: &'static str) -> OpenStream {
        let labels = [("kind", Cow::Borrowed(kind))];
        let open = self.all.gateway.streams_open.get_or_create(&labels).clone();
        open.inc();
        OpenStream(open)
    }

    /// A record of the replies topic was read. `purpose`: `projection`, `waits`.
    pub fn reply_read(&self, purpose: &'static str) {
        let labels = [("purpose", Cow::Borrowed(purpose))];
        self.all.gateway.replies_read.get_or_create(&labels).inc();
    }

    /// How many reply partitions are read for waits alone.
    pub fn waits_readers(&self, count: usize) {
        self.all.gateway.waits_readers.set(level(count));
    }

    /// A batch was offered to the store. `result`: `applied`, `stale`, `failed`; `events` and `late` count only when
    /// it was applied, and `late` is part of `events`.
    pub fn projected(&self, result: &'static str, events: usize, late: usize, took: Duration) {
        let g = &self.all.gateway;
        g.batches
            .get_or_create(&[("result", Cow::Borrowed(result))])
            .inc();
        if result == "applied" {
            g.events.inc_by(events as u64);
            g.late.inc_by(late as u64);
        }
        observe(&g.batch_seconds, took);
    }

    /// How far the projection is behind, and what it holds in memory.
    pub fn projection_backlog(&self, lag: Duration, queue_bytes: usize) {
        self.all.gateway.lag.set(lag.as_secs_f64());
        self.all.gateway.queue_bytes.set(level(queue_bytes));
    }
}

/// Methods are whatever a client sends; only known ones become labels.
fn method_label(method: &str) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

/// An open stream.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An open wait. Dropped without [`ended`](Self::ended) it counts as `disconnected`.
#[derive(Debug)]
pub struct OpenWait {
    metrics: Metrics,
    since: std::time::Instant,
    reason: &'static str,
}

impl OpenWait {
    /// The wait ended. `reason`: `outcome`, `timeout`, `shutdown` and the like.
    pub fn ended(mut self, reason: &'static str) {
        self.reason = reason;
    }
}

impl Drop for OpenWait {
    fn drop(&mut self) {
        let g = &self.metrics.all.gateway;
        g.waits_open.dec();
        let labels = [("reason", Cow::Borrowed(self.reason))];
        g.waits_ended.get_or_create(&labels).inc();
        observe(&g.wait_seconds.get_or_create(&labels), self.since.elapsed());
    }
}
