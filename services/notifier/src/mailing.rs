//! E-mails: takes those that are due and hands them to the [`Mailer`].
//!
//! There is one server for all of them, so one [`Endpoint`] says how many may be under way: no more than there are
//! connections, and none while it is paused because it took nothing several times in a row. Only so many are taken; each
//! is sent in a task of its own. What was taken and never told of is taken again when its lease has run out.

mod judge;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::time::rfc3339;
use tidegate_contract::{EmailSpec, FollowUpKind, JobType, now_millis};
use tidegate_runtime::{Condition, Metrics};
use tidegate_store::{FollowUp, FollowUps, Lookup, StoreError, Take, Then};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::judge::{Judged, judge};
use crate::email::{Mail, MailAnswer, MailError, Mailer};
use crate::endpoint::{Admission, Change, Endpoint, Turn, millis};
use crate::payload::Notice;
use crate::rounds::{Next, Rounds};
use crate::settings::{EndpointSettings, NotifierSettings};
use crate::spans;
use crate::store::Jobs;
use crate::telling::{MARGIN, Telling};

/// What e-mails are sent with.
pub(crate) struct Parts {
    pub jobs: Arc<dyn Jobs>,
    pub follow_ups: Arc<dyn FollowUps>,
    pub mailer: Mailer,
    /// The words of the job types that have some.
    pub words: BTreeMap<JobType, EmailSpec>,
    /// In front of the paths of statuses.
    pub public_url: Option<String>,
    pub settings: NotifierSettings,
    pub metrics: Metrics,
    /// Somebody has made a follow-up in this process. Nobody else may wait for it.
    pub wake: Arc<Notify>,
    /// Whether the store answers.
    pub store: Condition,
}

pub(crate) struct Mailing {
    parts: Parts,
    server: Mutex<Endpoint>,
    /// An e-mail has ended.
    freed: Arc<Notify>,
    telling: Telling,
    /// What is running is to end now.
    abandon: CancellationToken,
}

impl Mailing {
    pub(crate) fn new(parts: Parts, abandon: CancellationToken) -> Arc<Self> {
        let settings = EndpointSettings {
            concurrency: parts.settings.email.connections,
            // It is the only one: it is tried for ever.
            give_up_after: Duration::MAX,
            ..parts.settings.endpoint.clone()
        };
        let freed = Arc::<Notify>::default();
        Arc::new(Self {
            server: Mutex::new(Endpoint::new(settings, Default::default())),
            telling: Telling::new("an e-mail", parts.store.clone(), Arc::clone(&freed)),
            freed,
            abandon,
            parts,
        })
    }

    /// Takes and sends until `stop`; what is under way runs on in `tasks`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken, tasks: TaskTracker) {
        let rounds = Rounds {
            what: "e-mails",
            tick: self.parts.settings.tick,
            store: &self.parts.store,
            wake: &self.parts.wake,
            freed: &self.freed,
        };
        rounds.run(&stop, || self.round(&tasks)).await;
    }

    /// Takes once, as many as may be under way.
    async fn round(self: &Arc<Self>, tasks: &TaskTracker) -> Result<Next, StoreError> {
        if self.telling.is_behind() {
            return Ok(Next::Wait);
        }
        let mut turns = self.turns();
        if turns.is_empty() {
            return Ok(Next::Wait);
        }
        let limit = u32::try_from(turns.len()).unwrap_or(u32::MAX);
        let now = now_millis();
        let lease = self.parts.settings.email.timeout + MARGIN;
        let take = Take {
            kind: FollowUpKind::Email,
            now,
            lease: now.saturating_add(millis(lease)),
            limit,
            per_endpoint: limit,
            except: &[],
        };
        let taken = self.parts.follow_ups.take_follow_ups(&take).await;
        for follow_up in taken.iter().flatten() {
            let Some(turn) = turns.pop() else { break };
            let sending = Sending {
                mailing: Arc::clone(self),
                taken: follow_up.clone(),
                turn: Some(turn),
            };
            let abandon = self.abandon.clone();
            tasks.spawn(abandon.run_until_cancelled_owned(sending.run()));
        }
        for turn in turns {
            self.server().abandon(turn);
        }
        taken?;
        self.parts.store.ok();
        // All that may be under way is; whatever of it ends wakes the next round.
        Ok(Next::Wait)
    }

    /// The right to send so many now.
    fn turns(&self) -> Vec<Turn> {
        let (mut server, now) = (self.server(), now_millis());
        std::iter::from_fn(|| match server.admit(now) {
            Admission::Go(turn) => Some(turn),
            Admission::After(_) | Admission::Busy | Admission::Ended(_) => None,
        })
        .collect()
    }

    fn server(&self) -> MutexGuard<'_, Endpoint> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One e-mail that may be sent. Dropped at any point it makes room for others.
struct Sending {
    mailing: Arc<Mailing>,
    taken: FollowUp,
    /// Until the server's state was told.
    turn: Option<Turn>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.mailing.server().abandon(turn);
        }
        self.mailing.freed.notify_one();
    }
}

impl Sending {
    async fn run(mut self) {
        let mailing = Arc::clone(&self.mailing);
        let (parts, job) = (&mailing.parts, self.taken.job);
        let why = match parts.jobs.job(job).await {
            Ok(Lookup::Row(row)) => match Notice::of(&row, parts.public_url.as_deref()) {
                Some(notice) => return self.attempt(notice).await,
                None => format!("the job is {}", row.status),
            },
            Ok(Lookup::Tombstone(_) | Lookup::Absent) => "the job is not kept any more".to_owned(),
            Err(error) if error.is_transient() => {
                // It is taken again when its lease has run out.
                tracing::warn!(job_id = %job, %error, "the job of an e-mail was not read");
                return;
            }
            Err(error) => error.to_string(),
        };
        parts.metrics.email("over");
        tracing::warn!(job_id = %job, tenant = %self.taken.tenant, why, "an e-mail is given up");
        self.give_back(&Then::GivenUp(why)).await;
    }

    async fn attempt(&mut self, notice: Notice<'_>) {
        let mailing = Arc::clone(&self.mailing);
        let parts = &mailing.parts;
        let (at, begun) = (now_millis(), Instant::now());
        let sent = self.send(notice).await;
        let took = millis(begun.elapsed());
        let schedule = &parts.settings.schedule;
        let Some(judged) = judge(&self.taken, (at, took), &sent, schedule, rand::random()) else {
            // Nothing was tried: another connection is free sooner than any pause ends.
            self.give_back(&Then::At(now_millis())).await;
            return;
        };
        parts.metrics.email(judged.result);
        if let (Some(delivery), Some(turn)) = (judged.server, self.turn.take()) {
            let change = mailing.server().done(turn, delivery, now_millis());
            say(change, &judged);
        }
        let job = self.taken.job;
        if let Then::GivenUp(why) = &judged.then {
            tracing::warn!(job_id = %job, tenant = %self.taken.tenant, why, "an e-mail is given up");
        }
        let Judged { attempt, then, .. } = &judged;
        let write = || parts.follow_ups.attempted(&self.taken, attempt, then);
        if mailing.telling.tell(job, "attempted", write).await == Some(false) {
            tracing::warn!(job_id = %job, "an e-mail took longer than its lease: it may be sent again");
        }
    }

    async fn send(&self, notice: Notice<'_>) -> Result<MailAnswer, MailError> {
        let parts = &self.mailing.parts;
        let mail = Mail {
            notice,
            to: &self.taken.target,
            words: parts.words.get(&notice.job.job_type),
        };
        let span = spans::mail(&self.taken, parts.mailer.server());
        let sent = parts.mailer.send(&mail).instrument(span.clone()).await;
        spans::mail_ended(&span, &sent);
        sent
    }

    async fn give_back(&self, then: &Then) {
        let follow_ups = &self.mailing.parts.follow_ups;
        let write = || follow_ups.give_back(&self.taken, then);
        let telling = &self.mailing.telling;
        telling.tell(self.taken.job, "give_back", write).await;
    }
}

/// Tells operators how the server is.
fn say(change: Option<Change>, judged: &Judged) {
    match change {
        Some(Change::Paused(until)) => {
            let said = judged.attempt.error.as_deref();
            let said = said.unwrap_or(&judged.attempt.excerpt);
            let code = judged.attempt.status;
            tracing::warn!(
                until = rfc3339(until),
                code,
                said,
                "the mail server is paused"
            );
        }
        Some(Change::Resumed) => tracing::info!("the mail server takes e-mails again"),
        Some(Change::Ended(_)) | None => {}
    }
}

#[cfg(test)]
#[path = "mailing_tests.rs"]
mod tests;
