//! Everything that an HTTP request can be told in place of what it wanted: one enum, one match.
//!
//! The bodies are problem documents (RFC 9457). `type` is a relative reference, stable, and serves as a name only:
//! nothing is fetched from it. Besides the members of the RFC there are `code` (of the job's error where a job
//! ended, else the last part of `type`), `source` (where the fault lies) and `repeatSafe` (whether sending the same
//! request again can have no effect but the wanted one).

mod document;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use tidegate_contract::{FaultSource, JobError, JobId, JobType, Status, Tier};

pub use document::{clip, error_json};

/// How long clients are asked to stay away while something mends itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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

/// What each error is to a client.
struct Facts {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    source: FaultSource,
    repeat_safe: bool,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn facts(&self) -> Facts {
        use FaultSource::{Broker, Client, Gateway, Store, Worker};
        use StatusCode as S;
        // A refusal before anything was done: a repeat does no harm, and helps only once the request is mended.
        let refused = |status, code, title| Facts {
            status,
            code,
            title,
            source: Client,
            repeat_safe: true,
            retry_after: None,
        };
        // Nothing was done, and the same request may work soon.
        let away = |code, title, source| Facts {
            status: S::SERVICE_UNAVAILABLE,
            code,
            title,
            source,
            repeat_safe: true,
            retry_after: Some(RETRY_AFTER),
        };
        match self {
            Self::Unauthenticated(_) => {
                refused(S::UNAUTHORIZED, "unauthenticated", "No valid API key")
            }
            Self::UnknownJobType { .. } => {
                refused(S::NOT_FOUND, "unknown-job-type", "Unknown job type")
            }
            Self::UnknownRoute { .. } => refused(S::NOT_FOUND, "unknown-route", "Unknown route"),
            Self::MethodNotAllowed { .. } => refused(
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
            ),
            Self::MalformedHeader { .. } => {
                refused(S::BAD_REQUEST, "malformed-header", "Malformed header")
            }
            Self::UnsupportedOption { .. } => {
                refused(S::BAD_REQUEST, "unsupported-option", "Option not supported")
            }
            Self::KeyReused => refused(
                S::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "Idempotency key used for another request",
            ),
            Self::TierNotAllowed { .. } => {
                refused(S::FORBIDDEN, "tier-not-allowed", "Tier not allowed")
            }
            Self::NotJson { .. } => refused(S::BAD_REQUEST, "not-json", "Body is not JSON"),
            Self::CallbackRefused { .. } => refused(
                S::UNPROCESSABLE_ENTITY,
                "callback-refused",
                "Callback URL refused",
            ),
            Self::CallbacksOff => refused(
                S::UNPROCESSABLE_ENTITY,
                "callbacks-not-set-up",
                "Callbacks are not set up",
            ),
            Self::NoCallback(..) => {
                refused(S::NOT_FOUND, "no-callback", "Job has nothing to send again")
            }
            Self::UnknownEndpoint(_) => {
                refused(S::NOT_FOUND, "unknown-endpoint", "Unknown endpoint")
            }
            Self::MalformedBody(_) => refused(S::BAD_REQUEST, "malformed-body", "Malformed body"),
            Self::MalformedQuery(_) => {
                refused(S::BAD_REQUEST, "malformed-query", "Malformed query")
            }
            Self::ContentEncoding(_) => refused(
                S::UNSUPPORTED_MEDIA_TYPE,
                "content-encoding",
                "Content encoding not supported",
            ),
            Self::BodyTooLarge { .. } => {
                refused(S::PAYLOAD_TOO_LARGE, "body-too-large", "Body too large")
            }
            Self::BodyTimeout(_) => refused(S::REQUEST_TIMEOUT, "body-timeout", "Body too slow"),
            Self::BodyBroken => refused(S::BAD_REQUEST, "body-broken", "Body incomplete"),
            Self::RecordTooLarge { .. } => {
                refused(S::PAYLOAD_TOO_LARGE, "record-too-large", "Job too large")
            }
            Self::MalformedJobId(_) => {
                refused(S::BAD_REQUEST, "malformed-job-id", "Malformed job id")
            }
            Self::UnknownJob(_) => refused(S::NOT_FOUND, "unknown-job", "Unknown job"),
            Self::StatusBehind(_) => away("status-behind", "Status not known yet", Gateway),
            Self::JobGone { .. } => refused(S::GONE, "job-gone", "Job no longer kept"),
            Self::NotEnded { .. } => Facts {
                retry_after: Some(RETRY_AFTER),
                ..refused(S::CONFLICT, "not-ended", "Job has not ended")
            },
            Self::RetriedAlready { .. } => {
                refused(S::CONFLICT, "already-retried", "Job done again already")
            }
            Self::NotRetried { .. } => refused(S::CONFLICT, "not-retried", "Job not done again"),
            Self::DeadLetterGone(_) => {
                refused(S::GONE, "dead-letter-gone", "Dead letter no longer kept")
            }
            Self::UnknownDeadLetter(_) => {
                refused(S::NOT_FOUND, "unknown-dead-letter", "Unknown dead letter")
            }
            Self::MalformedRedrive(_) => {
                refused(S::BAD_REQUEST, "malformed-redrive", "Malformed redrive")
            }
            Self::RedriveAll => refused(S::BAD_REQUEST, "redrive-all", "Redrive without a filter"),
            Self::EndedOtherwise { .. } => {
                refused(S::CONFLICT, "already-ended", "Job has ended otherwise")
            }
            Self::NotCancelled { .. } => away("not-cancelled", "Not cancelled", Broker),
            Self::NotOrdered { .. } => away("not-ordered", "Not ordered", Broker),
            Self::NotJudged(_) => away("not-judged", "Not judged yet", Gateway),
            Self::ShuttingDown => away("shutting-down", "Shutting down", Gateway),
            Self::BrokerUnavailable(_) => {
                away("broker-unavailable", "Broker not available", Broker)
            }
            Self::RegistryUnavailable(_) => away(
                "registry-unavailable",
                "Schema registry not available",
                Broker,
            ),
            Self::Topics(_) => away("topics", "Topics not as they must be", Broker),
            Self::NoReplies(_) => away("no-replies", "No replies yet", Gateway),
            Self::TenantBacklog { .. } => Facts {
                retry_after: Some(RETRY_AFTER),
                ..refused(
                    S::TOO_MANY_REQUESTS,
                    "tenant-backlog",
                    "Too many unfinished jobs",
                )
            },
            Self::TooManyStreams { .. } => away("too-many-streams", "Too many streams", Gateway),
            Self::TenantStreams { .. } => Facts {
                retry_after: Some(RETRY_AFTER),
                ..refused(
                    S::TOO_MANY_REQUESTS,
                    "tenant-streams",
                    "Too many streams of this tenant",
                )
            },
            Self::ForeignOrigin => refused(S::FORBIDDEN, "foreign-origin", "Page of another site"),
            Self::Overloaded => away("overloaded", "Too much at once", Gateway),
            Self::QueueFull => away("broker-queue-full", "Broker does not keep up", Broker),
            Self::EmbeddedFull(_) => away("broker-full", "Broker is full", Broker),
            Self::NotWritten { .. } => away("not-written", "Job not written", Broker),
            Self::OutcomeUnknown { keyed, .. } => Facts {
                repeat_safe: *keyed,
                ..away("outcome-unknown", "Outcome unknown", Broker)
            },
            Self::StoreUnavailable(_) => {
                away("store-unavailable", "Status store not available", Store)
            }
            Self::Ended { status, error, .. } => {
                let (status, code, title) = match status {
                    Status::Cancelled => (S::CONFLICT, "job-cancelled", "Job cancelled"),
                    Status::Expired => (S::GATEWAY_TIMEOUT, "job-expired", "Job expired"),
                    Status::DeadLettered => {
                        (S::BAD_GATEWAY, "job-dead-lettered", "Job dead-lettered")
                    }
                    Status::Failed
                    | Status::Completed
                    | Status::Pending
                    | Status::Scheduled
                    | Status::Processing
                    | Status::Retrying
                    | Status::AwaitingCompletion => (S::BAD_GATEWAY, "job-failed", "Job failed"),
                };
                Facts {
                    status,
                    code,
                    title,
                    source: error.as_ref().map_or(FaultSource::Job, |e| e.source),
                    // Another request is another job: its handler runs again.
                    repeat_safe: false,
                    retry_after: None,
                }
            }
            Self::BadOutcome { .. } => Facts {
                status: S::BAD_GATEWAY,
                code: "bad-outcome",
                title: "Unusable answer",
                source: Worker,
                repeat_safe: false,
                retry_after: None,
            },
            Self::Internal(_) => Facts {
                status: S::INTERNAL_SERVER_ERROR,
                code: "internal",
                title: "Internal error",
                source: Gateway,
                repeat_safe: false,
                retry_after: None,
            },
        }
    }

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
