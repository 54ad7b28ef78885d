//! A job on its way into Kafka, and the wait for its end.
//!
//! Once the record is in the producer's queue, whatever becomes of it is seen to by a task of its own
//! ([`follow`]): it takes the acknowledgement and makes the job's row. The request's own future only looks on, and
//! may be dropped at any await when its client goes away; that drops its [`Wait`], and tells the task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use opentelemetry::trace::TraceContextExt;
use tidegate_contract::{JobMessage, JobSummary, RecordHeaders, headers};
use tidegate_kafka::{CodecError, Outgoing, ProduceError};
use tidegate_runtime::telemetry;
use tokio::sync::oneshot;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::visible::{Facts, Visible};
use crate::engine::Ack;
use crate::problem::ApiError;
use crate::reason;
use crate::state::AppState;
use crate::waits::{Ended, Wait};

/// What a record takes besides key and value.
const HEADERS_SIZE: usize = 1024;

/// How a submit went.
pub enum Submitted {
    /// The job ended while its client waited.
    Ended {
        ended: Ended,
        /// From hand-over to acknowledgement, if that came before the outcome.
        produce: Option<Duration>,
        /// From the request's head to the outcome.
        total: Duration,
    },
    /// It is accepted.
    Pending {
        /// Why there is no outcome yet, where it can be told.
        reason: Option<String>,
        produce: Option<Duration>,
        visible: Visible,
        waited: bool,
    },
}

/// What the request still wants of the task that follows its job.
enum Need {
    /// The outcome is there.
    Nothing,
    /// The request gives up waiting: the status must be readable.
    Status(oneshot::Sender<Visible>),
}

/// Gets `job` into Kafka, and waits for its end for as long as `wait` says, counted from `received`.
pub async fn run(
    state: &Data<AppState>,
    mut job: JobMessage,
    wait: Option<Duration>,
    received: Instant,
) -> Result<Submitted, ApiError> {
    let engine = &state.engine;
    if let Some(obstacle) = engine.obstacle() {
        return Err(obstacle);
    }
    let home = engine
        .home()
        .ok_or_else(|| ApiError::NoReplies("it has just started, or joins its group".to_owned()))?;
    job.reply_partition = home;
    // Registered before anything is produced, or the outcome could be quicker.
    let mut crowded = None;
    let open = match wait {
        Some(wait) => match state.waits.open(job.job_id, home) {
            Ok(open) => Some((open, received + wait)),
            Err(full) => {
                crowded = Some(full.to_string());
                None
            }
        },
        None => None,
    };
    if open.is_none() && !engine.store_ok() {
        return Err(ApiError::StoreUnavailable(
            "jobs can be submitted with a wait only".to_owned(),
        ));
    }
    let (facts, ack, span) = produce(state, &job)?;
    let (tell, told) = oneshot::channel();
    let (needs, needed) = oneshot::channel();
    let follow = Follow {
        state: state.clone().into_inner(),
        facts: facts.clone(),
        span,
        tell,
        needed: open.is_some().then_some(needed),
    };
    // Outside the request's span, which would else stay open for as long as the task has something to do.
    state.tasks.spawn(follow.run(ack));
    match open {
        Some((wait, deadline)) => {
            let guard = state.metrics.wait_opened();
            let (result, why) = hold(state, &facts, wait, deadline, told, needs, received).await;
            guard.ended(why);
            result
        }
        None => {
            let (took, visible) = acknowledged(told.await)?;
            Ok(Submitted::Pending {
                reason: crowded,
                produce: Some(took),
                visible: visible.unwrap_or(Visible::Now),
                waited: false,
            })
        }
    }
}

/// Encodes the job and hands it to the producer.
fn produce(state: &AppState, job: &JobMessage) -> Result<(Facts, Ack, Span), ApiError> {
    let id = job.job_id;
    let topic = state.topics.jobs(&job.pool, job.tier);
    let payload = state.engine.encode_job(job).map_err(|error| match error {
        CodecError::NotReady => ApiError::RegistryUnavailable(error.to_string()),
        CodecError::Encode(_) => ApiError::Internal(error.to_string()),
    })?;
    let (bytes, limit) = (payload.len() + HEADERS_SIZE, state.max_record_bytes);
    if bytes > limit {
        return Err(ApiError::RecordTooLarge { bytes, limit });
    }
    let span = tracing::info_span!(
        "send",
        otel.name = format!("send {topic}"),
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = topic,
        messaging.destination.partition.id = tracing::field::Empty,
        messaging.kafka.offset = tracing::field::Empty,
        messaging.message.conversation_id = %id,
        messaging.message.body.size = job.body.len(),
        job_id = %id,
        tidegate.job.type = %job.job_type,
        tidegate.tenant = %job.tenant,
    );
    let mut record_headers = RecordHeaders::of_job(job);
    let context = span.context();
    if context.span().span_context().is_valid() {
        tidegate_kafka::trace::inject(&context, &mut record_headers);
    }
    let trace = [headers::TRACEPARENT, headers::TRACESTATE]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), record_headers.get(name)?.to_owned())))
        .collect();
    let facts = Facts {
        id,
        summary: JobSummary::of(job, telemetry::trace_id(&span)),
        reply_partition: job.reply_partition,
        trace,
    };
    let out = Outgoing {
        topic,
        partition: None,
        key: id.to_string(),
        headers: record_headers,
        payload,
    };
    let ack = state.engine.enqueue(out).map_err(|error| {
        state
            .metrics
            .produced("jobs", label(&error), Duration::ZERO);
        failed(&facts, error)
    })?;
    Ok((facts, ack, span))
}

fn label(error: &ProduceError) -> &'static str {
    match error {
        ProduceError::QueueFull => "queue-full",
        ProduceError::TooLarge { .. } => "too-large",
        ProduceError::Refused(_) | ProduceError::EmbeddedFull(_) => "refused",
        ProduceError::Unknown(_) => "unknown",
    }
}

fn failed(facts: &Facts, error: ProduceError) -> ApiError {
    let id = facts.id;
    match error {
        ProduceError::QueueFull => ApiError::QueueFull,
        ProduceError::TooLarge { bytes, limit } => ApiError::RecordTooLarge { bytes, limit },
        ProduceError::Refused(reason) => ApiError::NotWritten { id, reason },
        ProduceError::Unknown(reason) => ApiError::OutcomeUnknown { id, reason },
        ProduceError::EmbeddedFull(reason) => ApiError::EmbeddedFull(reason),
    }
}

/// How the produce went: the time it took, and for a job that nobody waits for whether its status can be read.
type Told = Result<(Duration, Option<Visible>), ApiError>;

fn acknowledged(told: Result<Told, oneshot::error::RecvError>) -> Told {
    // The task is gone only with its runtime.
    told.unwrap_or(Err(ApiError::ShuttingDown))
}

/// The task that sees a job through, whatever becomes of the request.
struct Follow {
    state: Arc<AppState>,
    facts: Facts,
    span: Span,
    tell: oneshot::Sender<Told>,
    /// For a job that is waited for.
    needed: Option<oneshot::Receiver<Need>>,
}

impl Follow {
    async fn run(self, ack: Ack) {
        let Self {
            state,
            facts,
            span,
            tell,
            needed,
        } = self;
        let begun = Instant::now();
        let delivered = ack.await;
        let took = begun.elapsed();
        match delivered {
            Ok(at) => {
                span.record("messaging.destination.partition.id", at.partition);
                span.record("messaging.kafka.offset", at.offset);
                state.metrics.produced("jobs", "ok", took);
                span.in_scope(|| tracing::debug!("job accepted"));
            }
            Err(error) => {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", label(&error));
                state.metrics.produced("jobs", label(&error), took);
                let _ = tell.send(Err(failed(&facts, error)));
                return;
            }
        }
        drop(span);
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

/// Makes the row of a job that is waited for when it takes long, or when its client gives up or goes away.
async fn see_through(
    state: &AppState,
    facts: &Facts,
    mut needed: oneshot::Receiver<Need>,
    row_at: Instant,
) -> Visible {
    let mut row = false;
    let need = tokio::select! {
        need = &mut needed => need,
        () = tokio::time::sleep_until(row_at.into()) => {
            row = facts.insert(state).await;
            needed.await
        }
    };
    match need {
        Ok(Need::Nothing) => Visible::Now,
        Ok(Need::Status(_)) | Err(_) if row => {
            if let Ok(Need::Status(answer)) = need {
                let _ = answer.send(Visible::Now);
            }
            Visible::Now
        }
        Ok(Need::Status(answer)) => {
            let visible = facts.make_visible(state).await;
            let _ = answer.send(visible.clone());
            visible
        }
        Err(_) => facts.make_visible(state).await,
    }
}

/// Holds the request until the job ends, the time is up or the gateway stops. With the reason for the metric.
async fn hold(
    state: &Data<AppState>,
    facts: &Facts,
    mut wait: Wait,
    deadline: Instant,
    mut told: oneshot::Receiver<Told>,
    needs: oneshot::Sender<Need>,
    received: Instant,
) -> (Result<Submitted, ApiError>, &'static str) {
    let ended = |ended: Ended, produce| {
        let total = ended.received.saturating_duration_since(received);
        let submitted = Submitted::Ended {
            ended,
            produce,
            total,
        };
        (Ok(submitted), "outcome")
    };
    let produce = tokio::select! {
        biased;
        told = &mut told => match acknowledged(told) {
            Ok((took, _)) => took,
            Err(error) => return (Err(error), "not-produced"),
        },
        // A worker has read it, so the brokers have it: that is as good as the acknowledgement.
        outcome = wait.outcome() => {
            let _ = needs.send(Need::Nothing);
            return ended(outcome, None);
        }
    };
    let why = tokio::select! {
        biased;
        outcome = wait.outcome() => {
            let _ = needs.send(Need::Nothing);
            return ended(outcome, Some(produce));
        }
        () = tokio::time::sleep_until(deadline.into()) => "timeout",
        () = state.stop.waits.cancelled() => "shutdown",
    };
    let (answer, visible) = oneshot::channel();
    let _ = needs.send(Need::Status(answer));
    let look = async {
        let visible = visible.await;
        let reason = match why {
            "shutdown" => Some("this gateway is shutting down; the job goes on".to_owned()),
            _ => reason::why_no_outcome(state, facts.id, &facts.summary).await,
        };
        (visible, reason)
    };
    tokio::select! {
        biased;
        // It may still come at the last moment.
        outcome = wait.outcome() => ended(outcome, Some(produce)),
        (visible, reason) = look => {
            let later = || Visible::Later("this gateway is shutting down".to_owned());
            let submitted = Submitted::Pending {
                reason,
                produce: Some(produce),
                visible: visible.unwrap_or_else(|_| later()),
                waited: true,
            };
            (Ok(submitted), why)
        }
    }
}
