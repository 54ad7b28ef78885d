//! The events that gateways write themselves: each goes to the reply partition of its job, whose log decides.

use tidegate_contract::{
    EventKind, FaultSource, JobError, JobEvent, JobId, JobSummary, Millis, RecordHeaders,
};
use tidegate_kafka::Outgoing;

use crate::engine::Ack;
use crate::state::AppState;

/// A job as far as its events need to know it.
#[derive(Clone, Debug)]
pub struct Subject {
    pub id: JobId,
    pub summary: JobSummary,
    pub reply_partition: i32,
    /// The execution it is at; 0 before the first.
    pub attempt: i32,
    /// `traceparent` and `tracestate`, where they are known.
    pub trace: Vec<(String, String)>,
}

/// An event without any of what only some kinds carry.
pub fn event(subject: &Subject, kind: EventKind, at: Millis, source: &str) -> JobEvent {
    JobEvent {
        job_id: subject.id,
        kind,
        at,
        attempt: subject.attempt,
        job: subject.summary.clone(),
        source: source.to_owned(),
        outcome: None,
        error: None,
        progress: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
    }
}

/// An end that no handler came to.
pub fn end(
    subject: &Subject,
    kind: EventKind,
    at: Millis,
    source: &str,
    (code, message, fault): (&str, String, FaultSource),
) -> JobEvent {
    JobEvent {
        error: Some(JobError {
            code: code.to_owned(),
            message,
            source: fault,
            retryable: false,
            retry_after_ms: None,
            details: None,
            attempts: None,
        }),
        ..event(subject, kind, at, source)
    }
}

/// Puts an event on its way to the job's reply partition.
///
/// # Errors
/// Why it was not taken, in words.
pub fn enqueue(state: &AppState, subject: &Subject, event: &JobEvent) -> Result<Ack, String> {
    let payload = state.engine.encode_event(event);
    let out = Outgoing {
        topic: state.topics.replies(),
        partition: Some(subject.reply_partition),
        key: subject.id.to_string(),
        headers: headers(subject, event),
        payload: payload.map_err(|error| error.to_string())?,
    };
    state.engine.enqueue(out).map_err(|error| error.to_string())
}

/// The headers of an event, in the trace of its job.
pub fn headers(subject: &Subject, event: &JobEvent) -> RecordHeaders {
    let mut headers = RecordHeaders::of_event(event, subject.reply_partition);
    for (name, value) in &subject.trace {
        headers.set(name.as_str(), value.as_str());
    }
    headers
}

/// The same, until it is acknowledged.
///
/// # Errors
/// Why it is not known to be written, in words.
pub async fn send(state: &AppState, subject: &Subject, event: &JobEvent) -> Result<(), String> {
    let delivered = enqueue(state, subject, event)?.await;
    delivered.map(drop).map_err(|error| error.to_string())
}
