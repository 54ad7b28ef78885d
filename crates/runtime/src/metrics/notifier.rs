//! Callbacks and e-mails.

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Counters1, Metrics, Seconds, level, observe, register, request_seconds};

pub(super) struct Notifier {
    attempts: Counters1,
    running: Gauge,
    seconds: Histogram,
    given_up: Counters1,
    waiting: Gauge,
    oldest: Seconds,
    endpoints: Counters1<Gauge>,
    emails: Counters1,
    emails_waiting: Gauge,
}

impl Notifier {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            attempts: register(
                r,
                "callback_attempts",
                "Attempts to deliver a callback that have ended, by result",
                Family::default(),
            ),
            running: register(
                r,
                "callback_attempts_running",
                "Attempts to deliver a callback that are open now",
                Gauge::default(),
            ),
            seconds: register(
                r,
                "callback_duration_seconds",
                "How long attempts to deliver a callback take",
                request_seconds(),
            ),
            given_up: register(
                r,
                "callbacks_given_up",
                "Callbacks that are not tried any more, by reason",
                Family::default(),
            ),
            waiting: register(
                r,
                "callbacks_pending",
                "Callbacks in the store that are not delivered or given up yet, due or not",
                Gauge::default(),
            ),
            oldest: register(
                r,
                "callback_oldest_due_age_seconds",
                "For how long the callback is due that is due for the longest",
                Seconds::default(),
            ),
            endpoints: register(
                r,
                "callback_endpoints",
                "Endpoints that this process knows to be paused or disabled",
                Family::default(),
            ),
            emails: register(
                r,
                "emails",
                "Attempts to send an e-mail that have ended, and e-mails given up without one, by result",
                Family::default(),
            ),
            emails_waiting: register(
                r,
                "emails_pending",
                "E-mails in the store that are not sent or given up yet, due or not",
                Gauge::default(),
            ),
        }
    }
}

/// An attempt that is open; it counts as open until it is dropped.
#[must_use]
pub struct CallbackAttempt(Metrics);

impl CallbackAttempt {
    /// It has ended. `result`: `delivered`, `refused`, `gone`, `timeout`, `unreachable`, `unresolved`, `url-refused`,
    /// `broken`.
    pub fn ended(self, result: &'static str, took: Duration) {
        let notifier = &self.0.all.notifier;
        let labels = [("result", Cow::Borrowed(result))];
        notifier.attempts.get_or_create(&labels).inc();
        observe(&notifier.seconds, took);
    }
}

impl Drop for CallbackAttempt {
    fn drop(&mut self) {
        self.0.all.notifier.running.dec();
    }
}

impl Metrics {
    /// An attempt to deliver a callback begins.
    pub fn callback_attempt(&self) -> CallbackAttempt {
        self.all.notifier.running.inc();
        CallbackAttempt(self.clone())
    }

    /// A callback is not tried any more. `reason`: `attempts-used-up`, `gone`, `endpoint-disabled`, `url-refused`,
    /// `job-not-kept`, `job-unreadable`.
    pub fn callback_given_up(&self, reason: &'static str) {
        let labels = [("reason", Cow::Borrowed(reason))];
        self.all.notifier.given_up.get_or_create(&labels).inc();
    }

    /// Callbacks that wait in the store, and for how long one is due at most.
    pub fn callbacks_waiting(&self, pending: u64, oldest: Duration) {
        let notifier = &self.all.notifier;
        let pending = usize::try_from(pending).unwrap_or(usize::MAX);
        notifier.waiting.set(level(pending));
        notifier.oldest.set(oldest.as_secs_f64());
    }

    /// Endpoints that are not called now, or not any more.
    pub fn callback_endpoints(&self, paused: usize, disabled: usize) {
        for (state, count) in [("paused", paused), ("disabled", disabled)] {
            let labels = [("state", Cow::Borrowed(state))];
            let gauge = self.all.notifier.endpoints.get_or_create(&labels);
            gauge.set(level(count));
        }
    }

    /// What came of an e-mail. `result`: `taken`, `deferred` (it is sent again), `refused` (given up), `used-up` (given up
    /// after its last attempt), `over` (there is no job to tell of).
    pub fn email(&self, result: &'static str) {
        let labels = [("result", Cow::Borrowed(result))];
        self.all.notifier.emails.get_or_create(&labels).inc();
    }

    /// E-mails that wait in the store.
    pub fn emails_waiting(&self, pending: u64) {
        let pending = usize::try_from(pending).unwrap_or(usize::MAX);
        self.all.notifier.emails_waiting.set(level(pending));
    }
}
