//! Everything that an HTTP request can be told in place of what it wanted: one enum, and one match of
//! what each is to a client ([`facts`]).
//!
//! The bodies are problem documents (RFC 9457). `type` is a relative reference, stable, and serves as a name only:
//! nothing is fetched from it. Besides the members of the RFC there are `code` (of the job's error where a job
//! ended, else the last part of `type`), `source` (where the fault lies) and `repeatSafe` (whether sending the same
//! request again can have no effect but the wanted one).

mod document;
mod facts;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use tidegate_contract::{JobError, JobId, JobType, Status, Tier};

pub use document::{clip, error_json};

/// Why a request was not answered as it wished.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    Unauthenticated(&'static str),
    #[error("no job type is named `{given}`")]
    UnknownJobType {
        given: String,
        nearest: Option<String>,
    },
    #[error("there is no route {path}")]
    UnknownRoute {
        path: String,
        nearest: Option<String>,
    },
    #[error("{path} does not take {method}, but {allow}")]
    MethodNotAllowed {
        method: String,
        path: String,
        /// As in the header `Allow`.
        allow: String,
    },
    #[error("header {name} is malformed: allowed is {allowed}")]
    MalformedHeader { name: &'static str, allowed: String },
    #[error(
        "header {name} asks for something that this version does not do: leave it out; Prefer, Idempotency-Key, Tidegate-Priority, Tidegate-Deadline, Tidegate-Delay, Tidegate-Serial-Key, Tidegate-Callback-Url, Tidegate-Callback-Events and Tidegate-On-Disconnect are known"
    )]
    UnsupportedOption { name: String },
    #[error(
        "this idempotency key was used for another request: a repeat sends the same type, body and options, a new job a new key"
    )]
    KeyReused,
    #[error("jobs of type {job_type} may not ask for tier {tier}, only for {allowed}")]
    TierNotAllowed {
        tier: Tier,
        job_type: JobType,
        allowed: String,
    },
    #[error("body is not JSON at line {line} column {column}: {reason}")]
    NotJson {
        line: usize,
        column: usize,
        reason: String,
    },
    #[error("{reason}")]
    CallbackRefused { rule: &'static str, reason: String },
    #[error(
        "callbacks are not set up here: leave Tidegate-Callback-Url out, or have callbacks.keys configured"
    )]
    CallbacksOff,
    #[error("job {0} has no {1}")]
    NoCallback(JobId, &'static str),
    #[error("endpoint `{0}` is not known to have failed")]
    UnknownEndpoint(String),
    #[error("body is malformed: {0}")]
    MalformedBody(String),
    #[error("query is malformed: {0}")]
    MalformedQuery(String),
    #[error("content encoding `{0}` is not supported: send the body as it is")]
    ContentEncoding(String),
    #[error("body is over the limit of {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("body did not arrive within {} s", .0.as_secs())]
    BodyTimeout(Duration),
    #[error("body ended before its time")]
    BodyBroken,
    #[error("as a record the job would take {bytes} bytes, over the limit of {limit}")]
    RecordTooLarge { bytes: usize, limit: usize },
    #[error("`{0}` is not a job id: expected a UUID of version 7")]
    MalformedJobId(String),
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    #[error("job {0} is too young to be known here if it exists: ask again")]
    StatusBehind(JobId),
    #[error("job {id} is not kept any more; its last status was {status}")]
    JobGone { id: JobId, status: Status },
    #[error("job {id} has not ended: it is {status}")]
    NotEnded { id: JobId, status: Status },
    #[error("job {id} was done again already, as job {job}")]
    RetriedAlready { id: JobId, job: JobId },
    #[error("job {id} cannot be done again: {why}")]
    NotRetried { id: JobId, why: String },
    #[error("the dead letter of job {0} is not kept any more")]
    DeadLetterGone(JobId),
    #[error(
        "there is no dead letter {0}: places are PARTITION/OFFSET, and letters are kept for a while only"
    )]
    UnknownDeadLetter(String),
    #[error("what is to be redriven is malformed: {0}")]
    MalformedRedrive(String),
    #[error(
        "no filter means every dead letter: give type, tenant, reason, since or until, or say `all`"
    )]
    RedriveAll,
    #[error("job {id} was not cancelled: it had ended as {status}")]
    EndedOtherwise { id: JobId, status: Status },
    #[error("the cancellation of job {id} is not known to be written: {reason}; send it again")]
    NotCancelled { id: JobId, reason: String },
    #[error("job type `{name}` was not paused or resumed: {reason}: ask again")]
    NotOrdered { name: String, reason: String },
    #[error(
        "the cancellation of job {0} is written, and it is not known yet whether another end came first: ask again"
    )]
    NotJudged(JobId),
    #[error("this gateway is shutting down: send the request again, to another one")]
    ShuttingDown,
    #[error("kafka is not available: {0}")]
    BrokerUnavailable(String),
    #[error("the schema registry has not answered yet: {0}")]
    RegistryUnavailable(String),
    #[error("the topics are not as they must be: {0}")]
    Topics(String),
    #[error("this gateway reads no replies yet: {0}")]
    NoReplies(String),
    #[error(
        "{jobs} jobs of this tenant have not ended and the limit is {limit}: send it again when some have"
    )]
    TenantBacklog { jobs: u64, limit: u64 },
    #[error(
        "{limit} streams are open already, which is the limit of this gateway: ask again, or another one"
    )]
    TooManyStreams { limit: usize },
    #[error(
        "{limit} streams of this tenant are open already, which is the limit: close one, or ask for the status"
    )]
    TenantStreams { limit: usize },
    #[error(
        "a page of another site may not open a WebSocket here: Origin must be this host, or that of gateway.public_url"
    )]
    ForeignOrigin,
    #[error("too many request bodies are being received")]
    Overloaded,
    #[error("the broker does not keep up: too many jobs wait to be written")]
    QueueFull,
    #[error("the embedded broker is full: {0}")]
    EmbeddedFull(String),
    #[error("job {id} was not written: {reason}")]
    NotWritten { id: JobId, reason: String },
    #[error("it is not known whether job {id} was written: {reason}; {}", what_next(*.keyed))]
    OutcomeUnknown {
        id: JobId,
        reason: String,
        /// It has an idempotency key, so that a repeat is the same job.
        keyed: bool,
    },
    #[error("the status store is not available: {0}")]
    StoreUnavailable(String),
    /// The job ended, without an answer of its own.
    #[error("{}", ended_text(*.status, .error))]
    Ended {
        id: JobId,
        status: Status,
        error: Option<Box<JobError>>,
        attempt: i32,
        /// Unix milliseconds.
        at: i64,
    },
    #[error("job {id} completed with an answer that cannot be passed on: {reason}")]
    BadOutcome { id: JobId, reason: String },
    #[error("internal error: {0}")]
    Internal(String),
}

fn what_next(keyed: bool) -> &'static str {
    if keyed {
        "send it again under the same key"
    } else {
        "look at its status before sending it again, or it may run twice"
    }
}

fn ended_text(status: Status, error: &Option<Box<JobError>>) -> String {
    match error {
        Some(error) => format!("job ended as {status}: {}", clip(&error.message)),
        None => format!("job ended as {status}"),
    }
}

impl ApiError {
    /// The last part of the problem's `type`.
    pub fn code(&self) -> &'static str {
        self.facts().code
    }

    /// For the metric of submits.
    pub fn outcome_label(&self) -> &'static str {
        match self.facts() {
            _ if matches!(self, Self::OutcomeUnknown { .. }) => "unknown",
            facts if facts.status.is_client_error() => "rejected",
            _ => "unavailable",
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.facts().status
    }

    fn error_response(&self) -> HttpResponse {
        let facts = self.facts();
        let mut response = HttpResponseBuilder::new(facts.status);
        response
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(after) = facts.retry_after {
            response.insert_header((header::RETRY_AFTER, after.as_secs().to_string()));
        }
        match self {
            Self::Unauthenticated(_) => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"tidegate\""));
            }
            Self::MethodNotAllowed { allow, .. } => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    response.insert_header((header::ALLOW, allow));
                }
            }
            // What is left of the body is not read: the connection cannot be used again.
            Self::BodyTooLarge { .. }
            | Self::BodyTimeout(_)
            | Self::Overloaded
            | Self::ShuttingDown => {
                response.force_close();
            }
            Self::Ended { id, .. }
            | Self::BadOutcome { id, .. }
            | Self::OutcomeUnknown { id, .. }
            | Self::NotWritten { id, .. } => {
                response.insert_header(("Tidegate-Job-Id", id.to_string()));
            }
            _ => {}
        }
        response.body(self.document().to_string())
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
