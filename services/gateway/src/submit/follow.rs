//! Seeing a job through once it is in the producer's queue.
//!
//! While a request waits for a job that ends quickly, as most do, its own future sees to everything: [`Attended`]. A
//! task of its own takes over ([`Follow`]) when the request is dropped in the middle, when the job takes so long that it
//! needs a row, and for every job that is not waited for or has an idempotency key. So a connection that is cut cannot
//! cut a submit in half, and a quick job costs no task and no switch between threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use futures::FutureExt as _;
use opentelemetry::context::FutureExt as _;
use tidegate_kafka::ProduceError;
use tokio::sync::oneshot;
use tracing::Span;

use super::visible::{Facts, Visible};
use crate::engine::Ack;
use crate::problem::ApiError;
use crate::state::AppState;

/// What the request still wants of the task that follows its job.
pub(super) enum Need {
    /// The outcome is there.
    Nothing,
    /// The request gives up waiting: the status must be readable.
    Status(oneshot::Sender<Visible>),
}

/// A job in the producer's queue.
pub(super) struct Sent {
    pub facts: Facts,
    begun: Instant,
    acked: Acked,
    span: Span,
}

enum Acked {
    Pending(Ack),
    After(Duration),
}

impl Sent {
    pub(super) fn new(facts: Facts, ack: Ack, span: Span) -> Self {
        Self {
            facts,
            begun: Instant::now(),
            acked: Acked::Pending(ack),
            span,
        }
    }

    /// Waits for the acknowledgement: how long it took. Cancel safe. A failure is told once.
    pub(super) async fn acknowledged(
        &mut self,
        state: &AppState,
    ) -> Result<Duration, ProduceError> {
        let ack = match &mut self.acked {
            Acked::After(took) => return Ok(*took),
            Acked::Pending(ack) => ack,
        };
        let delivered = ack.await;
        let took = self.begun.elapsed();
        match delivered {
            Ok(at) => {
                self.span
                    .record("messaging.destination.partition.id", at.partition);
                self.span.record("messaging.kafka.offset", at.offset);
                self.span.in_scope(|| tracing::debug!("job accepted"));
                self.landed(state, took);
                Ok(took)
            }
            Err(error) => {
                self.span.record("otel.status_code", "ERROR");
                self.span.record("error.type", label(&error));
                state
                    .metrics
                    .produced(self.facts.destination(), label(&error), took);
                Err(error)
            }
        }
    }

    fn landed(&mut self, state: &AppState, took: Duration) {
        state.metrics.produced(self.facts.destination(), "ok", took);
        self.acked = Acked::After(took);
        // It ends here.
        self.span = Span::none();
    }

    /// The task that sees it through, and what the request looks on with.
    pub(super) fn followed(self, state: &Data<AppState>, waited: bool) -> (Follow, Looking) {
        let (tell, told) = oneshot::channel();
        let (needs, needed) = oneshot::channel();
        let facts = self.facts.clone();
        let follow = Follow {
            state: state.clone().into_inner(),
            sent: self,
            tell,
            needed: waited.then_some(needed),
        };
        (follow, Looking { facts, told, needs })
    }
}

/// A job that the request itself sees through; a task does when this is dropped before the job has ended.
pub(super) struct Attended {
    state: Data<AppState>,
    /// `None` once nothing is left to see to.
    sent: Option<Sent>,
}

impl Attended {
    pub(super) fn new(state: &Data<AppState>, sent: Sent) -> Self {
        Self {
            state: state.clone(),
            sent: Some(sent),
        }
    }

    /// Waits for the acknowledgement. After a failure nothing is left to see to.
    pub(super) async fn acknowledged(&mut self) -> Result<Duration, ApiError> {
        let Some(sent) = &mut self.sent else {
            return std::future::pending().await;
        };
        match sent.acknowledged(&self.state).await {
            Ok(took) => Ok(took),
            Err(error) => {
                let failed = failed(&sent.facts, error);
                self.sent = None;
                Err(failed)
            }
        }
    }

    /// The job has ended. A worker has read it, so the brokers have it, whether or not they have said so yet.
    pub(super) fn ended(mut self) {
        if let Some(mut sent) = self.sent.take()
            && sent.acknowledged(&self.state).now_or_never().is_none()
        {
            let took = sent.begun.elapsed();
            sent.landed(&self.state, took);
        }
    }

    /// From now on a task sees to it, and the request looks on; `None` if nothing is left to see to.
    pub(super) fn leave(mut self) -> Option<Looking> {
        let sent = self.sent.take()?;
        Some(start(&self.state, sent, true))
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            drop(start(&self.state, sent, true));
        }
    }
}

/// Starts the task that sees a job through.
pub(super) fn start(state: &Data<AppState>, sent: Sent, waited: bool) -> Looking {
    let (follow, looking) = sent.followed(state, waited);
    // Outside the request's span, which would else stay open for as long as the task has something to do.
    state.tasks.spawn(follow.run().with_current_context());
    looking
}

/// What a request knows of its job while a task sees it through.
pub(super) struct Looking {
    pub facts: Facts,
    pub told: oneshot::Receiver<Told>,
    pub needs: oneshot::Sender<Need>,
}

/// How the produce went: the time it took, and for a job that nobody waits for whether its status can be read.
pub(super) type Told = Result<(Duration, Option<Visible>), ApiError>;

pub(super) fn acknowledged(told: Result<Told, oneshot::error::RecvError>) -> Told {
    // The task is gone only with its runtime.
    told.unwrap_or(Err(ApiError::ShuttingDown))
}

/// The task that sees a job through, whatever becomes of the request.
pub(super) struct Follow {
    state: Arc<AppState>,
    sent: Sent,
    tell: oneshot::Sender<Told>,
    /// For a job that is waited for.
    needed: Option<oneshot::Receiver<Need>>,
}

impl Follow {
    pub(super) async fn run(self) {
        let Self {
            state,
            mut sent,
            tell,
            needed,
        } = self;
        let begun = sent.begun;
        let result = sent.acknowledged(&state).await;
        let facts = sent.facts;
        let took = match result {
            Ok(took) => took,
            Err(error) => {
                let unknown = matches!(error, ProduceError::Unknown(_));
                if let Some(hold) = facts.key {
                    hold.give_up(&state, facts.id, unknown).await;
                }
                let _ = tell.send(Err(failed(&facts, error)));
                return;
            }
        };
        let visible = match needed {
            None => {
                let visible = facts.make_visible(&state).await;
                let _ = tell.send(Ok((took, Some(visible.clone()))));
                visible
            }
            Some(needed) => {
                let _ = tell.send(Ok((took, None)));
                let row_at = begun + state.settings.row_after;
                see_through(&state, &facts, needed, row_at).await
            }
        };
        if let Visible::Later(reason) = visible {
            tracing::warn!(job_id = %facts.id, reason, "an accepted job cannot be shown yet, trying again");
            facts.keep_trying(&state).await;
        }
    }
}

/// Makes the row of a job that is waited for when it takes long, or when its client gives up or goes away; at once if it
/// has a key, since others may wait for it as well.
async fn see_through(
    state: &AppState,
    facts: &Facts,
    mut needed: oneshot::Receiver<Need>,
    row_at: Instant,
) -> Visible {
    let mut row = facts.key.is_some() && facts.insert(state).await;
    let need = tokio::select! {
        need = &mut needed => need,
        () = tokio::time::sleep_until(row_at.into()), if !row => {
            row = facts.insert(state).await;
            needed.await
        }
    };
    match need {
        Ok(Need::Nothing) => Visible::Now,
        Ok(Need::Status(answer)) if row => {
            let _ = answer.send(Visible::Now);
            Visible::Now
        }
        Ok(Need::Status(answer)) => {
            let visible = facts.make_visible(state).await;
            let _ = answer.send(visible.clone());
            visible
        }
        // The client has gone.
        Err(_) => facts.left(state).await,
    }
}

pub(super) fn label(error: &ProduceError) -> &'static str {
    match error {
        ProduceError::QueueFull => "queue-full",
        ProduceError::TooLarge { .. } => "too-large",
        ProduceError::Refused(_) | ProduceError::EmbeddedFull(_) => "refused",
        ProduceError::Unknown(_) => "unknown",
    }
}

pub(super) fn failed(facts: &Facts, error: ProduceError) -> ApiError {
    let id = facts.id;
    match error {
        ProduceError::QueueFull => ApiError::QueueFull,
        ProduceError::TooLarge { bytes, limit } => ApiError::RecordTooLarge { bytes, limit },
        ProduceError::Refused(reason) => ApiError::NotWritten { id, reason },
        ProduceError::Unknown(reason) => ApiError::OutcomeUnknown {
            id,
            reason,
            keyed: facts.key.is_some(),
        },
        ProduceError::EmbeddedFull(reason) => ApiError::EmbeddedFull(reason),
    }
}
