//! One callback from its place to its record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_contract::now_millis;
use tidegate_contract::time::rfc3339;
use tidegate_store::{EndpointRow, FollowUp, JobRow, Lookup, StoreError, Then};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;
use url::Url;

use super::judge::{Judged, Made, judge};
use super::{Dispatcher, later};
use crate::client::{Answer, SendError};
use crate::endpoint::{Change, Record, Turn};
use crate::payload::Notice;
use crate::sign::Signer;
use crate::spans;

/// When a callback of a tenant without a key is due again: an operator has to give it one.
const WITHOUT_KEY: Duration = Duration::from_secs(60);

/// A callback that may go now. Dropped at any point it makes room for others.
pub(super) struct Delivering {
    dispatcher: Arc<Dispatcher>,
    taken: FollowUp,
    url: Url,
    /// Until the endpoint was told.
    turn: Option<Turn>,
    slot: Option<OwnedSemaphorePermit>,
}

struct Message {
    id: String,
    body: Bytes,
}

enum Ready {
    Send(Message, Signer),
    /// There is nothing to send.
    Back(Then),
}

impl Drop for Delivering {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let mut endpoints = self.dispatcher.endpoints();
            let after = endpoints.abandon(&self.taken.endpoint, turn);
            drop(endpoints);
            if after.wake {
                self.dispatcher.freed.notify_one();
            }
        }
        let were_full = self.dispatcher.slots.available_permits() == 0;
        drop(self.slot.take());
        if were_full {
            self.dispatcher.freed.notify_one();
        }
    }
}

impl Delivering {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        taken: FollowUp,
        url: Url,
        turn: Turn,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            dispatcher,
            taken,
            url,
            turn: Some(turn),
            slot: Some(slot),
        }
    }

    pub(super) async fn run(mut self) {
        let ready = match self.ready().await {
            Ok(ready) => ready,
            Err(error) => {
                // It is taken again when its lease has run out.
                tracing::warn!(job_id = %self.taken.job, %error, "the job of a callback was not read");
                return;
            }
        };
        match ready {
            Ready::Send(message, signer) => self.attempt(message, &signer).await,
            Ready::Back(then) => {
                let follow_ups = &self.dispatcher.parts.follow_ups;
                self.tell("give_back", || follow_ups.give_back(&self.taken, &then))
                    .await;
            }
        }
    }

    /// What is to be sent, and who signs it.
    async fn ready(&self) -> Result<Ready, StoreError> {
        let parts = &self.dispatcher.parts;
        let Some(signer) = parts.keys.of(&self.taken.tenant) else {
            tracing::error!(tenant = %self.taken.tenant, "no key signs its callbacks: they wait");
            let then = Then::At(later(now_millis(), WITHOUT_KEY));
            return Ok(Ready::Back(then));
        };
        // Nothing closes it.
        let _read = self.dispatcher.reads.acquire().await;
        let lookup = match parts.jobs.job(self.taken.job).await {
            Err(error) if !error.is_transient() => Err(error.to_string()),
            lookup => Ok(lookup?),
        };
        let row = match lookup {
            Ok(Lookup::Row(row)) => row,
            Ok(Lookup::Tombstone(_) | Lookup::Absent) => {
                return Ok(self.over("job-not-kept", "the job is not kept any more".to_owned()));
            }
            Err(problem) => return Ok(self.over("job-unreadable", problem)),
        };
        Ok(match self.message(&row) {
            Some(message) => Ready::Send(message, signer.clone()),
            None => self.over("job-unreadable", format!("the job is {}", row.status)),
        })
    }

    fn over(&self, reason: &'static str, why: String) -> Ready {
        self.dispatcher.parts.metrics.callback_given_up(reason);
        Ready::Back(Then::GivenUp(why))
    }

    /// What the callback says. `None`: the job has not ended.
    fn message(&self, row: &JobRow) -> Option<Message> {
        let parts = &self.dispatcher.parts;
        let notice = Notice::of(row, parts.public_url.as_deref())?;
        Some(Message {
            id: notice.message_id(),
            body: notice.body(parts.settings.inline_limit),
        })
    }

    async fn attempt(&mut self, message: Message, signer: &Signer) {
        let dispatcher = Arc::clone(&self.dispatcher);
        let parts = &dispatcher.parts;
        let running = parts.metrics.callback_attempt();
        let (made, sent) = self.send(message, signer).await;
        let schedule = &parts.settings.schedule;
        let judged = judge(&self.taken, made, &sent, schedule, rand::random());
        running.ended(judged.result, made.took);
        let after = self.turn.take().map(|turn| {
            let mut endpoints = dispatcher.endpoints();
            endpoints.done(&self.taken.endpoint, turn, judged.delivery, now_millis())
        });
        let after = after.unwrap_or_default();
        self.say(&judged, after.change);
        if after.wake {
            dispatcher.freed.notify_one();
        }
        let Judged { attempt, then, .. } = &judged;
        let follow_ups = &parts.follow_ups;
        let told = self
            .tell("attempted", || {
                follow_ups.attempted(&self.taken, attempt, then)
            })
            .await;
        if let (Some(true), Some(reason)) = (told, judged.given_up) {
            parts.metrics.callback_given_up(reason);
        }
        if told == Some(false) {
            tracing::warn!(job_id = %self.taken.job, "a callback took longer than its lease: it may be delivered again");
        }
        self.keep_endpoint().await;
        // What is held must not move: only once no attempt of it is open here.
        if let Some(until) = after.postpone {
            let endpoint = &self.taken.endpoint;
            self.tell("postpone", || follow_ups.postpone(endpoint, until))
                .await;
        }
    }

    async fn send(&self, message: Message, signer: &Signer) -> (Made, Result<Answer, SendError>) {
        let client = self.dispatcher.parts.clients.of(&self.taken.target);
        let at = now_millis();
        let signed = signer.sign(&message.id, at / 1000, &message.body);
        let parent = spans::parent(&self.taken);
        let span = spans::attempt(&self.taken, &self.url, &parent);
        let trace = spans::headers(&span, &parent);
        let begun = Instant::now();
        let sent = client.send(&self.url, &signed, trace, message.body);
        let sent = sent.instrument(span.clone()).await;
        spans::ended(&span, &sent);
        let took = begun.elapsed();
        (Made { at, took }, sent)
    }

    /// Tells operators; without the URL's path, which may be a secret.
    fn say(&self, judged: &Judged, change: Option<Change>) {
        let (job, tenant) = (self.taken.job, &self.taken.tenant);
        let host = self.url.host_str().unwrap_or_default();
        if let Then::GivenUp(why) = &judged.then {
            tracing::warn!(job_id = %job, %tenant, host, why, "a callback is given up");
        }
        match change {
            Some(Change::Paused(until)) => {
                tracing::warn!(%tenant, host, until = rfc3339(until), "a callback endpoint is paused");
            }
            Some(Change::Resumed) => {
                tracing::info!(%tenant, host, "a callback endpoint is called again");
            }
            Some(Change::Ended(why)) => {
                tracing::warn!(%tenant, host, %why, "a callback endpoint is disabled");
            }
            None => {}
        }
    }

    /// Writes what has changed of the endpoint, until what is written is how it is.
    async fn keep_endpoint(&self) {
        let (key, tenant) = (&self.taken.endpoint, &self.taken.tenant);
        let follow_ups = &self.dispatcher.parts.follow_ups;
        loop {
            let Some(record) = self.dispatcher.endpoints().unwritten(key) else {
                return;
            };
            let told = if record == Record::default() {
                let forget = || follow_ups.forget_endpoint(tenant, key);
                self.tell("forget_endpoint", forget).await.is_some()
            } else {
                let row = self.row(record);
                let keep = || follow_ups.keep_endpoint(&row);
                self.tell("keep_endpoint", keep).await.is_some()
            };
            if !told {
                return;
            }
            self.dispatcher.endpoints().written(key, record);
        }
    }

    fn row(&self, record: Record) -> EndpointRow {
        let mut url = self.url.clone();
        url.set_query(None);
        let now = now_millis();
        EndpointRow {
            key: self.taken.endpoint.clone(),
            tenant: self.taken.tenant.clone(),
            url: url.into(),
            // Numbers and names: there is nothing that could fail.
            record: serde_json::to_string(&record).unwrap_or_default(),
            ended_at: record.ended.map(|_| now),
            updated_at: now,
        }
    }

    async fn tell<T, F>(&self, call: &'static str, write: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let telling = &self.dispatcher.telling;
        telling.tell(self.taken.job, call, write).await
    }
}
