//! What all handlers share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_contract::{JobId, JobType, Ladder, Millis, Topics, now_millis};
use tidegate_runtime::LiveTypes;
use tidegate_runtime::metrics::Metrics;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::callbacks::Callbacks;
use crate::engine::Engine;
use crate::routes::Routes;
use crate::settings::GatewaySettings;
use crate::streams::Streams;
use crate::usual::{Usual, retry_after};
use crate::waits::Waits;
use crate::watch::Watcher;

/// The state of one gateway's HTTP side.
pub struct AppState {
    pub engine: Arc<dyn Engine>,
    pub waits: Waits,
    pub watcher: Watcher,
    pub streams: Streams,
    pub usual: Arc<Usual>,
    /// How long a reserved idempotency key is left to whoever reserved it.
    pub key_lease: Duration,
    pub types: LiveTypes,
    pub routes: Arc<Routes>,
    pub settings: GatewaySettings,
    pub auth: Auth,
    pub callbacks: Callbacks,
    pub metrics: Metrics,
    pub topics: Topics,
    pub ladder: Ladder,
    pub instance: String,
    /// Largest job record, in bytes.
    pub max_record_bytes: usize,
    /// KiB of bodies that may be in memory before they are produced.
    pub body_memory: Semaphore,
    pub stop: Stop,
    pub tasks: Tasks,
    /// Requests being handled.
    pub requests: AtomicUsize,
}

/// The two steps of a stop, as handlers see them.
#[derive(Clone, Default)]
pub struct Stop {
    /// No new jobs are taken.
    pub intake: CancellationToken,
    /// Waits become `202` now.
    pub waits: CancellationToken,
}

/// Where work runs that a closed connection must not cut: on the runtime that made the gateway, since those of the
/// HTTP threads end with the HTTP server.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Tasks {
    /// Tasks on the current runtime.
    pub fn on_this_runtime() -> Self {
        Self {
            tracker: TaskTracker::new(),
            runtime: Handle::current(),
        }
    }

    /// Starts a task.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(work, &self.runtime);
    }

    /// Waits until all have ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl AppState {
    /// Where the status of a job is, for the client that submitted it on a configured route or on ours.
    pub fn status_url(&self, id: JobId, configured: bool) -> String {
        let path = configured
            .then(|| self.routes.status_path(id))
            .flatten()
            .unwrap_or_else(|| format!("/v1/jobs/{id}"));
        self.settings.url_of(&path)
    }

    /// Where its result is.
    pub fn result_url(&self, id: JobId) -> String {
        self.settings.url_of(&format!("/v1/jobs/{id}/result"))
    }

    /// When to ask again for the status of a job of this type that has not ended, in seconds. Its age counts from when it
    /// was accepted, or from when it is `due`.
    pub fn retry_after(&self, job_type: &JobType, accepted: Millis, due: Option<Millis>) -> u64 {
        let least = self.settings.retry_after_seconds();
        let since = due.unwrap_or_default().max(accepted);
        let waited = now_millis().saturating_sub(since);
        retry_after(self.usual.of(job_type), waited, least)
    }

    /// Requests being handled now.
    pub fn requests_open(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}
