//! Everything that an HTTP request can be told in place of what it wanted: one enum, one match.
//!
//! The bodies are problem documents (RFC 9457). `type` is a relative reference, stable, and serves as a name only:
//! nothing is fetched from it. Besides the members of the RFC there are `code` (of the job's error where a job
//! ended, else the last part of `type`), `source` (where the fault lies) and `repeatSafe` (whether sending the same
//! request again can have no effect but the wanted one).

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde_json::{Map, Value, json};
use tidegate_contract::{FaultSource, JobError, JobId, JobType, Status, Tier};

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
        "header {name} asks for something that this version does not do: leave it out; Prefer, Tidegate-Priority and Tidegate-Deadline are known"
    )]
    UnsupportedOption { name: String },
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
    #[error("too many request bodies are being received")]
    Overloaded,
    #[error("the broker does not keep up: too many jobs wait to be written")]
    QueueFull,
    #[error("the embedded broker is full: {0}")]
    EmbeddedFull(String),
    #[error("job {id} was not written: {reason}")]
    NotWritten { id: JobId, reason: String },
    #[error(
        "it is not known whether job {id} was written: {reason}; look at its status before sending it again, or it may run twice"
    )]
    OutcomeUnknown { id: JobId, reason: String },
    #[error("the status store is not available: {0}")]
    StoreUnavailable(String),
    /// The job ended, without an answer of its own.
    #[error("{}", ended_text(*.status, .error))]
    Ended {
        id: JobId,
        status: Status,
        error: Option<JobError>,
        attempt: i32,
        /// Unix milliseconds.
        at: i64,
    },
    #[error("job {id} completed with an answer that cannot be passed on: {reason}")]
    BadOutcome { id: JobId, reason: String },
    #[error("internal error: {0}")]
    Internal(String),
}

fn ended_text(status: Status, error: &Option<JobError>) -> String {
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
            Self::TierNotAllowed { .. } => {
                refused(S::FORBIDDEN, "tier-not-allowed", "Tier not allowed")
            }
            Self::NotJson { .. } => refused(S::BAD_REQUEST, "not-json", "Body is not JSON"),
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
            Self::Overloaded => away("overloaded", "Too much at once", Gateway),
            Self::QueueFull => away("broker-queue-full", "Broker does not keep up", Broker),
            Self::EmbeddedFull(_) => away("broker-full", "Broker is full", Broker),
            Self::NotWritten { .. } => away("not-written", "Job not written", Broker),
            Self::OutcomeUnknown { .. } => Facts {
                repeat_safe: false,
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

    /// The body of the answer.
    pub fn document(&self) -> Value {
        let facts = self.facts();
        let mut doc = Map::new();
        let mut set = |name: &str, value: Value| {
            doc.insert(name.to_owned(), value);
        };
        set("type", json!(format!("/problems/{}", facts.code)));
        set("title", json!(facts.title));
        set("status", json!(facts.status.as_u16()));
        set("detail", json!(self.to_string()));
        set("code", json!(facts.code));
        set("source", json!(facts.source.as_str()));
        set("repeatSafe", json!(facts.repeat_safe));
        match self {
            Self::UnknownJobType { given, nearest } => {
                set("given", json!(given));
                if let Some(nearest) = nearest {
                    set("nearest", json!(nearest));
                }
            }
            Self::UnknownRoute { path, nearest } => {
                set("given", json!(path));
                if let Some(nearest) = nearest {
                    set("nearest", json!(nearest));
                }
            }
            Self::MalformedHeader { name, allowed } => {
                set("header", json!(name));
                set("allowed", json!(allowed));
            }
            Self::UnsupportedOption { name } => set("header", json!(name)),
            Self::TierNotAllowed { allowed, .. } => {
                set("header", json!("Tidegate-Priority"));
                set("allowed", json!(allowed));
            }
            Self::NotJson { line, column, .. } => {
                set("line", json!(line));
                set("column", json!(column));
            }
            Self::BodyTooLarge { limit } | Self::RecordTooLarge { limit, .. } => {
                set("limit", json!(limit));
            }
            Self::UnknownJob(id)
            | Self::StatusBehind(id)
            | Self::NotWritten { id, .. }
            | Self::OutcomeUnknown { id, .. }
            | Self::BadOutcome { id, .. } => set("jobId", json!(id)),
            Self::JobGone { id, status } | Self::NotEnded { id, status } => {
                set("jobId", json!(id));
                set("jobStatus", json!(status));
            }
            Self::Ended {
                id,
                status,
                error,
                attempt,
                at,
            } => {
                set("jobId", json!(id));
                set("jobStatus", json!(status));
                if let Some(error) = error {
                    set("code", json!(error.code));
                    set("error", error_json(error, *attempt, *at));
                }
            }
            _ => {}
        }
        Value::Object(doc)
    }
}

/// The `error` of a job as statuses and problems show it. `at` in Unix milliseconds.
pub fn error_json(error: &JobError, attempt: i32, at: i64) -> Value {
    let details = error.details.as_deref().map(|text| {
        // JSON text by contract; whatever else a worker wrote is shown as text.
        serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
    });
    let mut value = json!({
        "code": error.code,
        "message": error.message,
        "source": error.source.as_str(),
        "retryable": error.retryable,
        "attempt": attempt,
        // Attempts made; until there are retries that is the number of the last one.
        "attempts": attempt,
        "at": tidegate_contract::time::rfc3339(at),
    });
    if let (Value::Object(map), Some(details)) = (&mut value, details) {
        map.insert("details".to_owned(), details);
    }
    value
}

/// Foreign text as it may stand in an answer or a log line: short.
pub fn clip(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().nth(LONGEST).is_none() {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
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
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_whether_again() {
        let id = JobId::generate();
        let unknown = ApiError::OutcomeUnknown {
            id,
            reason: "timed out".into(),
        };
        let doc = unknown.document();
        assert_eq!(doc["type"], "/problems/outcome-unknown");
        assert_eq!(doc["status"], 503);
        assert_eq!(doc["source"], "broker");
        assert_eq!(doc["repeatSafe"], false);
        assert_eq!(doc["jobId"], id.to_string());
        assert_eq!(unknown.outcome_label(), "unknown");
        let response = unknown.error_response();
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "application/problem+json"
        );
    }

    #[test]
    fn ends_of_jobs_have_their_own_statuses_and_the_jobs_code() {
        for (status, http) in [
            (Status::Failed, 502),
            (Status::DeadLettered, 502),
            (Status::Expired, 504),
            (Status::Cancelled, 409),
        ] {
            let error = JobError {
                code: "timeout".into(),
                message: "took too long".into(),
                source: FaultSource::Job,
                retryable: true,
                retry_after_ms: None,
                details: Some("{\"limit\":5}".into()),
            };
            let ended = ApiError::Ended {
                id: JobId::generate(),
                status,
                error: Some(error),
                attempt: 2,
                at: 0,
            };
            let doc = ended.document();
            assert_eq!(
                (&doc["status"], &doc["code"]),
                (&json!(http), &json!("timeout"))
            );
            assert_eq!(doc["error"]["attempt"], 2);
            assert_eq!(doc["error"]["details"]["limit"], 5);
            assert_eq!(doc["jobStatus"], status.as_str());
        }
    }
}
