//! A notifier from its settings to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_callbacks::CallbackRules;
use tidegate_contract::{EmailSpec, FollowUpKind, JobType};
use tidegate_runtime::ops::{self, OpsServer};
use tidegate_runtime::{Condition, Metrics, OpsState, Readiness, Shutdown, Stage, retry_forever};
use tidegate_store::FollowUps;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::ClientError;
use crate::dispatch::{Clients, Dispatcher, Parts};
use crate::email::{Mailer, MailerError};
use crate::keys::Keys;
use crate::mailing::{self, Mailing};
use crate::settings::{BadNotifierSetting, NotifierSettings};
use crate::store::Jobs;

/// How often the store is asked how much waits: it counts.
const OBSERVE: Duration = Duration::from_secs(15);

/// What a notifier is made from.
pub struct NotifierConfig {
    /// The jobs that callbacks and e-mails tell of.
    pub jobs: Arc<dyn Jobs>,
    /// The callbacks and e-mails that are due; of the same store.
    pub follow_ups: Arc<dyn FollowUps>,
    /// How it delivers; checked by [`Notifier::build`].
    pub settings: NotifierSettings,
    /// Where callbacks may go.
    pub rules: CallbackRules,
    /// URLs that stand in the configuration: they are called wherever they lead.
    pub configured: BTreeSet<String>,
    /// What signs.
    pub keys: Keys,
    /// The words of e-mails, by job type.
    pub words: BTreeMap<JobType, EmailSpec>,
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
    /// Nothing could be signed, and no e-mail sent.
    #[error(
        "callbacks.keys is empty: make a key with `openssl rand -base64 32` and put whsec_ in front, or give notifier.email.host \
         to send e-mails alone"
    )]
    NoKeys,
    /// No e-mail could be sent.
    #[error("notifier.email.{0}")]
    Email(#[from] MailerError),
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
    /// There if a mail server is configured.
    mailing: Option<Arc<Mailing>>,
    wakes: Wakes,
    follow_ups: Arc<dyn FollowUps>,
    metrics: Metrics,
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
        let mailer = Mailer::new(&settings.email)?;
        if config.keys.is_empty() && mailer.is_none() {
            return Err(NotifierError::NoKeys);
        }
        if mailer.is_none() && !config.words.is_empty() {
            tracing::warn!(
                "job types ask for e-mails, and notifier.email.host is empty: they wait"
            );
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
        let wakes = Wakes {
            any: config.wake,
            callbacks: Arc::default(),
            emails: Arc::default(),
        };
        let mailing = mailer.map(|mailer| {
            let parts = mailing::Parts {
                jobs: Arc::clone(&config.jobs),
                follow_ups: Arc::clone(&config.follow_ups),
                mailer,
                words: config.words,
                public_url: config.public_url.clone(),
                settings: settings.clone(),
                metrics: config.metrics.clone(),
                wake: Arc::clone(&wakes.emails),
                store: store.clone(),
            };
            Mailing::new(parts, abandon.clone())
        });
        let parts = Parts {
            jobs: Arc::clone(&config.jobs),
            follow_ups: Arc::clone(&config.follow_ups),
            clients,
            keys: config.keys,
            public_url: config.public_url,
            settings,
            metrics: config.metrics.clone(),
            wake: Arc::clone(&wakes.callbacks),
            store: store.clone(),
        };
        Ok(Self {
            dispatcher: Dispatcher::new(parts, abandon.clone()),
            mailing,
            wakes,
            follow_ups: config.follow_ups,
            metrics: config.metrics,
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
            let mailing = self.mailing.clone();
            let mails = async {
                if let Some(mailing) = mailing {
                    mailing.run(stop.clone(), attempts.clone()).await;
                }
            };
            tokio::join!(
                dispatcher.run(stop.clone(), attempts.clone()),
                mails,
                stop.run_until_cancelled(self.wakes.pass_on()),
                stop.run_until_cancelled(self.observe()),
            );
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

    async fn observe(&self) {
        let mut ticks = tokio::time::interval(OBSERVE);
        loop {
            ticks.tick().await;
            self.dispatcher.observe().await;
            match self.follow_ups.waiting(FollowUpKind::Email).await {
                Ok(waiting) => self.metrics.emails_waiting(waiting.pending),
                Err(error) => tracing::debug!(%error, "waiting e-mails not counted"),
            }
        }
    }
}

/// A [`Notify`] wakes one who waits: each dispatcher has its own.
struct Wakes {
    any: Arc<Notify>,
    callbacks: Arc<Notify>,
    emails: Arc<Notify>,
}

impl Wakes {
    async fn pass_on(&self) {
        loop {
            self.any.notified().await;
            self.callbacks.notify_one();
            self.emails.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "notifier_tests.rs"]
mod tests;
