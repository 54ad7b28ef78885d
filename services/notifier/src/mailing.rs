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
use tidegate_contract::{CallbackEvent, EmailSpec, FollowUpKind, JobType, now_millis};
use tidegate_runtime::{Backoff, Condition, Metrics};
use tidegate_store::{FollowUp, FollowUps, JobRow, Lookup, StoreError, Take, Then};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::judge::{Judged, judge};
use crate::email::{Mail, MailAnswer, MailError, Mailer};
use crate::endpoint::{Admission, Change, Endpoint, Turn, millis};
use crate::payload::{Links, Notice};
use crate::settings::{EndpointSettings, NotifierSettings};
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
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match self.round(&tasks).await {
                Ok(()) => {
                    failures = 0;
                    self.parts.settings.tick
                }
                Err(error) => {
                    if self.parts.store.is_ok() {
                        tracing::warn!(%error, "e-mails wait for the store");
                    }
                    self.parts.store.fail(error.to_string());
                    failures += 1;
                    Backoff::default().delay(failures - 1, rand::random())
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.parts.wake.notified(), if failures == 0 => {}
                () = self.freed.notified(), if failures == 0 => {}
            }
        }
    }

    /// Takes once, as many as may be under way.
    async fn round(self: &Arc<Self>, tasks: &TaskTracker) -> Result<(), StoreError> {
        if self.telling.is_behind() {
            return Ok(());
        }
        let mut turns = self.turns();
        if turns.is_empty() {
            return Ok(());
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
        taken.map(|_| self.parts.store.ok())
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
        let job = self.taken.job;
        let row = match self.mailing.parts.jobs.job(job).await {
            Ok(Lookup::Row(row)) => Ok(row),
            Ok(Lookup::Tombstone(_) | Lookup::Absent) => {
                Err("the job is not kept any more".to_owned())
            }
            Err(error) if error.is_transient() => {
                // It is taken again when its lease has run out.
                tracing::warn!(job_id = %job, %error, "the job of an e-mail was not read");
                return;
            }
            Err(error) => Err(error.to_string()),
        };
        let ended = row.and_then(|row| match CallbackEvent::of(row.status) {
            Some(event) => Ok((row, event)),
            None => Err(format!("the job is {}", row.status)),
        });
        match ended {
            Ok((row, event)) => self.attempt(&row, event).await,
            Err(why) => {
                self.mailing.parts.metrics.email("over");
                let then = Then::GivenUp(why);
                self.give_back(&then).await;
            }
        }
    }

    async fn attempt(&mut self, row: &JobRow, event: CallbackEvent) {
        let mailing = Arc::clone(&self.mailing);
        let parts = &mailing.parts;
        let (at, begun) = (now_millis(), Instant::now());
        let sent = self.send(row, event).await;
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

    async fn send(&self, row: &JobRow, event: CallbackEvent) -> Result<MailAnswer, MailError> {
        let parts = &self.mailing.parts;
        let base = parts.public_url.as_deref().unwrap_or_default();
        let status = format!("{}/v1/jobs/{}", base.trim_end_matches('/'), row.id);
        let mail = Mail {
            notice: Notice {
                id: row.id,
                event,
                ended_at: row.ended_at.unwrap_or(row.updated_at),
                attempt: row.attempt,
                job: &row.summary,
                outcome: None,
                error: row.error.as_ref(),
            },
            links: Links {
                status: &status,
                result: &format!("{status}/result"),
            },
            to: &self.taken.target,
            words: parts.words.get(&row.summary.job_type),
        };
        parts.mailer.send(&mail).await
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
