//! A job on its way into Kafka.
//!
//! Once the record is in the producer's queue, whatever becomes of it is seen to: [`super::follow`] takes the
//! acknowledgement and makes the job's row, also when the client goes away. [`super::hold`] waits for the job's end. What
//! comes before the produce for a job with an idempotency key is in [`super::keyed`].

use std::time::{Duration, Instant};

use actix_web::web::Data;
use bytes::Bytes;
use opentelemetry::trace::TraceContextExt;
use tidegate_contract::{
    JobId, JobMessage, JobSummary, RecordHeaders, headers, ladder, now_millis,
};
use tidegate_kafka::{CodecError, Outgoing};
use tidegate_runtime::telemetry;
use tidegate_store::JobRow;

use super::follow::{self, Attended, Sent};
use super::hold;
use super::visible::{Facts, Hold, Visible};
use crate::options::OnDisconnect;
use crate::problem::ApiError;
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
    /// It had been submitted before under the same key, and has ended: this is its row.
    Known { row: Box<JobRow> },
    /// It is accepted.
    Pending(Pending),
}

/// A job that is accepted and has not ended, as far as its request has seen.
pub struct Pending {
    pub id: JobId,
    /// When to ask for its status, in seconds.
    pub retry_after: u64,
    /// Why there is no outcome yet, where it can be told.
    pub reason: Option<String>,
    pub produce: Option<Duration>,
    pub visible: Visible,
    pub waited: bool,
}

/// What a submit asks for besides the job.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long the request waits for the outcome, if it does, counted from `received`.
    pub wait: Option<Duration>,
    pub received: Instant,
    pub on_disconnect: OnDisconnect,
}

/// Gets `job` into Kafka, and waits for its end as its client wishes.
pub async fn run(
    state: &Data<AppState>,
    mut job: JobMessage,
    terms: Terms,
) -> Result<Submitted, ApiError> {
    let home = home(state)?;
    // A job that was claimed before has its partition already.
    if job.reply_partition < 0 {
        job.reply_partition = home;
    }
    let (open, crowded) = open(state, job.job_id, job.reply_partition, terms);
    if open.is_none() && !state.engine.store_ok() {
        return Err(ApiError::StoreUnavailable(
            "jobs can be submitted with a wait only".to_owned(),
        ));
    }
    let payload = encode(state, &job)?;
    let manner = Manner {
        partition: place(state, &job)?,
        key: None,
        on_disconnect: terms.on_disconnect,
    };
    let sent = send(state, &job, payload, manner)?;
    match open {
        Some(open) => hold::attend(state, Attended::new(state, sent), open, terms.received).await,
        None => {
            let looking = follow::start(state, sent, false);
            hold::look_on(state, looking, None, crowded, terms.received).await
        }
    }
}

/// The partition that a new job's outcome comes to, if jobs can be taken now.
pub(super) fn home(state: &AppState) -> Result<i32, ApiError> {
    if let Some(obstacle) = state.engine.obstacle() {
        return Err(obstacle);
    }
    let starting = || ApiError::NoReplies("it has just started, or joins its group".to_owned());
    state.engine.home().ok_or_else(starting)
}

/// The partition that a job is put in, to be asked once for each; `None` leaves it to the hash of its id, as for one
/// that is not due yet. A job with a serial key always has one, in which the others of its key are.
pub(super) fn place(state: &AppState, job: &JobMessage) -> Result<Option<i32>, ApiError> {
    if job.not_before.is_some() && job.serial_key.is_none() {
        return Ok(None);
    }
    let topic = state.topics.jobs(&job.pool, job.tier);
    let partition = state.engine.place(&topic, job);
    if partition.is_none() && job.serial_key.is_some() {
        let reason = format!("the partitions of {topic} are not known yet");
        return Err(ApiError::Topics(reason));
    }
    Ok(partition)
}

/// A wait and when it is over.
pub(super) type Open = (Wait, Instant);

/// Opens the wait for a job that may have one; before anything is produced, or the outcome could be quicker. Without
/// room for it, the reason for the client.
pub(super) fn open(
    state: &AppState,
    id: JobId,
    home: i32,
    terms: Terms,
) -> (Option<Open>, Option<String>) {
    let wait = terms.wait;
    match wait.map(|wait| (state.waits.open(id, home), terms.received + wait)) {
        None => (None, None),
        Some((Ok(open), until)) => (Some((open, until)), None),
        Some((Err(full), _)) => (None, Some(full.to_string())),
    }
}

/// The job as the value of a record, if it is not too large for one.
pub(super) fn encode(state: &AppState, job: &JobMessage) -> Result<Bytes, ApiError> {
    let payload = state.engine.encode_job(job).map_err(|error| match error {
        CodecError::NotReady => ApiError::RegistryUnavailable(error.to_string()),
        CodecError::Encode(_) => ApiError::Internal(error.to_string()),
    })?;
    let (bytes, limit) = (payload.len() + HEADERS_SIZE, state.max_record_bytes);
    if bytes > limit {
        return Err(ApiError::RecordTooLarge { bytes, limit });
    }
    Ok(payload)
}

/// How a job is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Of its topic; `None` leaves it to the hash of its id.
    pub partition: Option<i32>,
    pub key: Option<Hold>,
    pub on_disconnect: OnDisconnect,
}

/// Hands a job to the producer.
pub(super) fn send(
    state: &AppState,
    job: &JobMessage,
    payload: Bytes,
    manner: Manner,
) -> Result<Sent, ApiError> {
    let id = job.job_id;
    let target = state.topics.jobs(&job.pool, job.tier);
    let topic = match job.not_before {
        None => target.clone(),
        Some(due) => {
            let left = ladder::remaining(due, now_millis());
            state.topics.delay(state.ladder.first_rung(left))
        }
    };
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
    if let Some(due) = job.not_before {
        record_headers.delay(due, &target, manner.partition);
    }
    let context = telemetry::context(&span);
    if context.span().span_context().is_valid() {
        tidegate_kafka::trace::inject(&context, &mut record_headers);
    }
    let trace = [headers::TRACEPARENT, headers::TRACESTATE]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), record_headers.get(name)?.to_owned())))
        .collect();
    let facts = Facts {
        id,
        summary: JobSummary::of(job, telemetry::trace_id_of(&context)),
        reply_partition: job.reply_partition,
        not_before: job.not_before,
        trace,
        key: manner.key,
        on_disconnect: manner.on_disconnect,
    };
    let out = Outgoing {
        topic,
        // What is not due yet goes to its partition from the ladder.
        partition: manner.partition.filter(|_| job.not_before.is_none()),
        key: id.to_string(),
        headers: record_headers,
        payload,
    };
    let ack = state.engine.enqueue(out).map_err(|error| {
        state
            .metrics
            .produced(facts.destination(), follow::label(&error), Duration::ZERO);
        follow::failed(&facts, error)
    })?;
    Ok(Sent::new(facts, ack, span))
}
