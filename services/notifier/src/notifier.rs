//! A notifier from its settings to its end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_callbacks::CallbackRules;
use tidegate_runtime::ops::{self, OpsServer};
use tidegate_runtime::{Condition, Metrics, OpsState, Readiness, Shutdown, Stage, retry_forever};
use tidegate_store::FollowUps;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ClientError;
use crate::dispatch::{Clients, Dispatcher, Parts};
use crate::keys::Keys;
use crate::settings::{BadNotifierSetting, NotifierSettings};
use crate::store::Jobs;

/// How often the store is asked how much waits: it counts.
const OBSERVE: Duration = Duration::from_secs(15);

/// What a notifier is made from.
pub struct NotifierConfig {
    /// The jobs that callbacks tell of.
    pub jobs: Arc<dyn Jobs>,
    /// The callbacks that are due; of the same store.
    pub follow_ups: Arc<dyn FollowUps>,
    /// How it delivers; checked by [`Notifier::build`].
    pub settings: NotifierSettings,
    /// Where callbacks may go.
    pub rules: CallbackRules,
    /// URLs that stand in the configuration: they are called wherever they lead.
    pub configured: BTreeSet<String>,
    /// What signs.
    pub keys: Keys,
    /// Scheme and host in front of the URLs in messages; without it they are paths.
    pub public_url: Option<String>,
    /// Somebody in this process has made a follow-up.
    pub wake: Arc<Notify>,
    /// What it counts; the operations endpoint serves it.
    pub metrics: Metrics,
    /// The name of this process in logs.
    pub instance: String,
}

/// Why a notifier cannot be made. Nothing of this is about a server being away.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// A setting under `[notifier]`.
    #[error(transparent)]
    Setting(#[from] BadNotifierSetting),
    /// Nothing could be signed.
    #[error(
        "callbacks.keys is empty: make a key with `openssl rand -base64 32` and put whsec_ in front"
    )]
    NoKeys,
    /// Nothing could be sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The operations endpoint cannot listen there.
    #[error("notifier.listen `{listen}`: {problem}")]
    Listen {
        /// The address as configured.
        listen: String,
        /// What the system says.
        problem: String,
    },
}

/// A notifier that has not begun yet.
pub struct Notifier {
    dispatcher: Arc<Dispatcher>,
    jobs: Arc<dyn Jobs>,
    store: Condition,
    instance: String,
    abandon: CancellationToken,
    readiness: Readiness,
    ops: Option<OpsServer>,
    stop_ops: CancellationToken,
}

impl Notifier {
    /// Makes a notifier and binds its operations endpoint; connects to nothing yet.
    ///
    /// # Errors
    /// When it cannot be made from these settings; see [`NotifierError`].
    pub async fn build(config: NotifierConfig) -> Result<Self, NotifierError> {
        let settings = config.settings;
        settings.check()?;
        if config.keys.is_empty() {
            return Err(NotifierError::NoKeys);
        }
        let clients = Clients::new(config.rules, settings.limits, config.configured)?;
        let readiness = Readiness::new();
        let store = readiness.condition("store");
        let stop_ops = CancellationToken::new();
        let ops = match settings.listen.as_str() {
            "" => None,
            listen => {
                let state = OpsState {
                    readiness: readiness.clone(),
                    metrics: config.metrics.clone(),
                    recent_spans: None,
                };
                let server = ops::serve(listen, state, stop_ops.clone()).await;
                Some(server.map_err(|error| NotifierError::Listen {
                    listen: listen.to_owned(),
                    problem: error.to_string(),
                })?)
            }
        };
        let abandon = CancellationToken::new();
        let parts = Parts {
            jobs: Arc::clone(&config.jobs),
            follow_ups: config.follow_ups,
            clients,
            keys: config.keys,
            public_url: config.public_url,
            settings,
            metrics: config.metrics,
            wake: config.wake,
            store: store.clone(),
        };
        Ok(Self {
            dispatcher: Dispatcher::new(parts, abandon.clone()),
            jobs: config.jobs,
            store,
            instance: config.instance,
            abandon,
            readiness,
            ops,
            stop_ops,
        })
    }

    /// Where the operations endpoint listens; `None` without one.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(OpsServer::addr)
    }

    /// Whether it can work, and if not, why.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Delivers until told to stop, and then ends within the grace time: attempts that are open end, and those that do
    /// not in time are made again by others when their leases have run out.
    pub async fn run(self, shutdown: Shutdown) {
        let stop = shutdown.token();
        tracing::info!(instance = self.instance, "notifier starts");
        let prepare = || self.jobs.prepare();
        if retry_forever(&self.store, &stop, prepare).await.is_some() {
            let attempts = TaskTracker::new();
            let dispatcher = Arc::clone(&self.dispatcher);
            let observe = stop.run_until_cancelled(observe(&self.dispatcher));
            tokio::join!(dispatcher.run(stop.clone(), attempts.clone()), observe);
            self.store.fail("stopping");
            tracing::info!(attempts = attempts.len(), "notifier stops");
            attempts.close();
            let ended = shutdown.stage(Stage::Drain, attempts.wait()).await;
            if ended.is_none() {
                tracing::warn!(
                    attempts = attempts.len(),
                    "some attempts did not end in time: they are made again"
                );
            }
            self.abandon.cancel();
            attempts.wait().await;
            tracing::info!("notifier has stopped");
        }
        self.stop_ops.cancel();
        if let Some(ops) = self.ops {
            ops.stopped().await;
        }
    }
}

async fn observe(dispatcher: &Dispatcher) {
    let mut ticks = tokio::time::interval(OBSERVE);
    loop {
        ticks.tick().await;
        dispatcher.observe().await;
    }
}

#[cfg(test)]
#[path = "notifier_tests.rs"]
mod tests;
