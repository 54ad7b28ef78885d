//! What each error is to a client: one match.

use std::time::Duration;

use actix_web::http::StatusCode;
use tidegate_contract::{FaultSource, Status};

use super::ApiError;

/// How long clients are asked to stay away while something mends itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What each error is to a client.
pub(super) struct Facts {
    pub status: StatusCode,
    pub code: &'static str,
    pub title: &'static str,
    pub source: FaultSource,
    pub repeat_safe: bool,
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn facts(&self) -> Facts {
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
}
