//! A submit with an idempotency key: the first request under a key makes a job, the same request again joins it.
//!
//! The key's row in the store is written before the record: whoever takes it ([`Claim`]) sees to everything from there
//! to the job's row, in a task that outlives the request. A request that finds the key taken waits until the job is
//! known to be in Kafka, and then for its end like any other, but by the store, since the outcome may come to another
//! gateway. A claim that never told its end, because its gateway was killed, is made again with the same record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use bytes::Bytes;
use tidegate_contract::{JobId, JobMessage, Millis, now_millis};
use tidegate_store::{Glimpse, KeyState, KeyedJob, NewKey, Reserved, StoreError};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::follow::{Looking, Sent};
use super::hold;
use super::joined::Joined;
use super::pipeline::{self, Manner, Submitted, Terms};
use super::visible::{Hold, call_label};
use crate::options::{AskedTime, OnDisconnect};
use crate::problem::ApiError;
use crate::state::AppState;
use crate::watch::TICK;

/// For how many leases of others a request waits before it says that it does not know.
const PATIENCE: u32 = 2;

/// A key and what it is worth.
pub struct Key {
    pub text: String,
    pub fingerprint: [u8; 32],
    /// As it was asked for: a repeat makes the first one's of it.
    pub delay: Option<AskedTime>,
    /// To be looked up before the key's first job is produced.
    pub callback_name: Option<String>,
}

/// Gets `job` into Kafka unless the key shows that it is there, and waits for its end as its client wishes.
pub async fn run(
    state: &Data<AppState>,
    mut job: JobMessage,
    key: Key,
    terms: Terms,
) -> Result<Submitted, ApiError> {
    let home = pipeline::home(state)?;
    if !state.engine.store_ok() {
        return Err(away());
    }
    job.reply_partition = home;
    // What cannot become a record takes no key.
    let payload = pipeline::encode(state, &job)?;
    let wanted = NewKey {
        tenant: job.tenant.clone(),
        key: key.text,
        fingerprint: key.fingerprint,
        job: KeyedJob {
            id: job.job_id,
            reply_partition: home,
            pool: job.pool.clone(),
            tier: job.tier,
            // A second produce goes to where the first one did.
            partition: pipeline::place(state, &job)?,
            created_at: job.created_at,
            deadline: job.deadline,
        },
    };
    let (wanted, job) = (Arc::new(wanted), Arc::new(job));
    let patience = terms.received + state.key_lease * PATIENCE;
    loop {
        let (open, crowded) = pipeline::open(state, job.job_id, home, terms);
        let (answer, answered) = oneshot::channel();
        let claim = Claim {
            state: state.clone(),
            wanted: Arc::clone(&wanted),
            job: Arc::clone(&job),
            payload: payload.clone(),
            delay: key.delay,
            callback_name: key.callback_name.clone(),
            waited: open.is_some(),
            on_disconnect: terms.on_disconnect,
            request: Span::current(),
            answer,
        };
        state.tasks.spawn(claim.run());
        // The task is gone only with its runtime.
        let claimed = answered.await.unwrap_or(Err(ApiError::ShuttingDown));
        if matches!(claimed, Err(ApiError::KeyReused)) {
            state.metrics.keyed_submit("conflict");
        }
        match claimed? {
            Claimed::Sent(looking) if looking.facts.id == job.job_id => {
                state.metrics.keyed_submit("first");
                return hold::look_on(state, looking, open, crowded, terms.received).await;
            }
            Claimed::Sent(looking) => {
                drop(open);
                let (id, accepted) = (looking.facts.id, looking.facts.summary.created_at);
                let due = looking.facts.not_before;
                state.metrics.keyed_submit("again");
                hold::look_on(state, looking, None, None, terms.received).await?;
                return Joined { id, accepted, due }.wait(state, &job, terms).await;
            }
            Claimed::Known(known) => {
                drop(open);
                state.metrics.keyed_submit("joined");
                let joined = Joined {
                    id: known.id,
                    accepted: known.created_at,
                    due: due(&known, key.delay),
                };
                return joined.wait(state, &job, terms).await;
            }
            Claimed::Busy { job, until } => {
                drop(open);
                if Instant::now() >= patience {
                    return Err(ApiError::OutcomeUnknown {
                        id: job.id,
                        reason: "another request under this key is still at it".to_owned(),
                        keyed: true,
                    });
                }
                settled(state, job.id, until).await?;
            }
        }
    }
}

fn away() -> ApiError {
    ApiError::StoreUnavailable(
        "a job with an idempotency key cannot be taken without it".to_owned(),
    )
}

/// What came of the wish for a key.
enum Claimed {
    /// The job is on its way: that of this request, or the one that was on its way before.
    Sent(Looking),
    Known(KeyedJob),
    Busy {
        job: KeyedJob,
        until: Millis,
    },
}

/// Takes a key if it can be had, and sees its job through.
struct Claim {
    state: Data<AppState>,
    wanted: Arc<NewKey>,
    job: Arc<JobMessage>,
    payload: Bytes,
    delay: Option<AskedTime>,
    callback_name: Option<String>,
    /// The request has a wait open for its own job.
    waited: bool,
    on_disconnect: OnDisconnect,
    request: Span,
    answer: oneshot::Sender<Result<Claimed, ApiError>>,
}

impl Claim {
    async fn run(self) {
        let reserved_at = now_millis();
        let begun = Instant::now();
        let reserved = self.state.engine.reserve(&self.wanted, reserved_at).await;
        let label = call_label(&reserved);
        self.state
            .metrics
            .store_call("reserve", label, begun.elapsed());
        let hold = |first| Hold { reserved_at, first };
        let (hold, again) = match reserved {
            Ok(Reserved::New) => (hold(true), None),
            Ok(Reserved::Again(first)) => (hold(false), Some(first)),
            other => {
                let _ = self.answer.send(not_ours(other));
                return;
            }
        };
        let judged = match &again {
            None => self.judge().await,
            // Its job may be in Kafka already, and notifiers judge the name at every attempt.
            Some(_) => Ok(()),
        };
        match judged.and_then(|()| self.send(hold, again.as_ref())) {
            Ok(sent) => {
                // Who waits for an older job does so by the store.
                let (follow, looking) = sent.followed(&self.state, self.waited && again.is_none());
                // A request's span ends with the request.
                drop(self.request);
                let _ = self.answer.send(Ok(Claimed::Sent(looking)));
                follow.run().await;
            }
            Err(error) => {
                let id = again.map_or(self.job.job_id, |first| first.id);
                hold.give_up(&self.state, id, false).await;
                let _ = self.answer.send(Err(error));
            }
        }
    }

    /// Whether the job's callback leads somewhere.
    async fn judge(&self) -> Result<(), ApiError> {
        match &self.callback_name {
            None => Ok(()),
            Some(name) => {
                let look_up = self.state.callbacks.look_up(name);
                look_up.instrument(self.request.clone()).await
            }
        }
    }

    /// Hands the request's job to the producer, or the first one's once more.
    fn send(&self, hold: Hold, again: Option<&KeyedJob>) -> Result<Sent, ApiError> {
        let state = &self.state;
        let (job, payload, placed) = match again {
            None => (
                Arc::clone(&self.job),
                self.payload.clone(),
                &self.wanted.job,
            ),
            Some(first) => {
                let job = as_first(&self.job, first, self.delay);
                let payload = pipeline::encode(state, &job)?;
                (Arc::new(job), payload, first)
            }
        };
        let manner = Manner {
            partition: placed.partition,
            key: Some(hold),
            on_disconnect: self.on_disconnect,
        };
        let send = || pipeline::send(state, &job, payload, manner);
        self.request.in_scope(send)
    }
}

fn not_ours(reserved: Result<Reserved, StoreError>) -> Result<Claimed, ApiError> {
    match reserved {
        Ok(Reserved::Produced(job)) => Ok(Claimed::Known(job)),
        Ok(Reserved::Busy { job, until }) => Ok(Claimed::Busy { job, until }),
        // The caller has dealt with the first two.
        Ok(Reserved::Conflict | Reserved::New | Reserved::Again(_)) => Err(ApiError::KeyReused),
        Err(error) => {
            tracing::warn!(%error, "idempotency key not reserved");
            Err(away())
        }
    }
}

/// The job of a repeated request as the first request made it: the fingerprint sees to it that the rest is the same.
fn as_first(job: &JobMessage, first: &KeyedJob, delay: Option<AskedTime>) -> JobMessage {
    JobMessage {
        not_before: due(first, delay),
        job_id: first.id,
        pool: first.pool.clone(),
        tier: first.tier,
        created_at: first.created_at,
        deadline: first.deadline,
        reply_partition: first.reply_partition,
        ..job.clone()
    }
}

/// When the job of the first request is due, if it has a delay.
fn due(first: &KeyedJob, delay: Option<AskedTime>) -> Option<Millis> {
    delay.map(|delay| match delay {
        AskedTime::At(at) => at,
        AskedTime::Within(ms) => first.created_at.saturating_add(ms),
    })
}

/// Until a job that somebody else is producing is known to be in Kafka, or not, or nobody can be at it any more.
async fn settled(state: &AppState, id: JobId, until: Millis) -> Result<(), ApiError> {
    let left = u64::try_from(until.saturating_sub(now_millis())).unwrap_or(0);
    // Another gateway's clock may be anywhere.
    let left = Duration::from_millis(left).min(state.key_lease).max(TICK);
    let moved = async {
        match state.watcher.watch(id) {
            Ok(mut watch) => {
                let open = |seen: &Glimpse| *seen == BUSY;
                watch.until(|seen| !open(seen)).await;
            }
            Err(_) => tokio::time::sleep(TICK).await,
        }
    };
    tokio::select! {
        () = moved => Ok(()),
        () = tokio::time::sleep(left) => Ok(()),
        () = state.stop.waits.cancelled() => Err(ApiError::ShuttingDown),
    }
}

/// A job that is being produced: its key and nothing else.
const BUSY: Glimpse = Glimpse {
    job: None,
    key: Some(KeyState::Reserved),
};
