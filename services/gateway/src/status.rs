//! `GET /v1/jobs/{id}` and configured status routes: what is known of a job.

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tidegate_contract::media::is_json;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobId, Outcome, now_millis};
use tidegate_store::{JobRow, Lookup};
use utoipa::ToSchema;

use crate::auth::Principal;
use crate::long_poll;
use crate::problem::{self, ApiError, clip};
use crate::state::AppState;

/// How far another gateway's clock may be ahead of ours, in milliseconds. An id from further in the future was made
/// by nobody.
const SKEW: i64 = 60_000;

/// The body of `202`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Accepted)]
pub struct AcceptedBody {
    #[schema(value_type = String, format = Uuid)]
    pub job_id: JobId,
    /// `pending`, or `scheduled` for a job with a delay, as it was accepted. How far the job is stands at `statusUrl`.
    pub status: &'static str,
    pub status_url: String,
    /// 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Why there is no outcome yet, where it was waited for and can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// If the status cannot be read at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is known of a job. Times are RFC 3339 in UTC.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobStatus)]
pub struct StatusBody<'a> {
    #[schema(value_type = String, format = Uuid)]
    job_id: JobId,
    #[serde(rename = "type")]
    job_type: &'a str,
    tenant: &'a str,
    tier: &'a str,
    pool: &'a str,
    /// `pending`, `scheduled`, `processing`, `retrying`, `awaiting-completion`; and once it has ended `completed`,
    /// `failed`, `dead-lettered`, `cancelled`, `expired`, which never changes again.
    status: &'a str,
    /// The execution it is at, from 1; 0 before the first is known of.
    attempt: i32,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// After this the job is not started any more.
    deadline: String,
    /// While it is `scheduled` or `retrying`: when the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressBody<'a>>,
    /// A JSON result that is small enough to stand here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    result: Option<&'a RawValue>,
    /// Where the result is, with its own status and media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_url: Option<String>,
    /// Why its last failed attempt failed, until it completes: code, message, source, retryable, attempt, attempts (that
    /// the type allows), at, details.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
    /// Where its record lies on the dead-letters topic, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DeadLetterBody>,
    /// The ended job that this one does again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    retry_of: Option<JobId>,
    /// The job that does this one again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    retried_as: Option<JobId>,
    /// 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    status_url: String,
}

/// Where a record lies on the dead-letters topic.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterPlace)]
struct DeadLetterBody {
    partition: i32,
    offset: i64,
}

/// How far a handler is.
#[derive(Serialize, ToSchema)]
#[schema(as = JobProgress)]
struct ProgressBody<'a> {
    /// 0 to 100.
    percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    /// A piece of the result that is ready, where it is JSON or text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    partial: Option<Value>,
}

/// `GET /v1/jobs/{id}`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    operation_id = "jobStatus",
    summary = "Status of a job",
    params(
        ("id" = String, Path, description = "The job's id, a UUID of version 7"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the status as last seen"),
        ("wait" = Option<u64>, Query, description = "Seconds that the request is held until the status changes; more than \
            gateway.max_long_poll count as that"),
    ),
    responses(
        (status = 200, description = "What is known of the job", body = StatusBody,
            headers(("ETag" = String), ("Retry-After" = Option<String>, description = "Seconds, while it has not ended"))),
        (status = 304, description = "Nothing has changed since"),
        (status = 400, description = "Not a job id, or a malformed `wait`", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn status(
    state: Data<AppState>,
    req: HttpRequest,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let configured = !req.path().starts_with("/v1/");
    let wait = long_poll::wait(&req, state.settings.max_long_poll)?;
    let row = match wait {
        Some(wait) => long_poll::hold(&state, &principal, &id, &req, wait).await?,
        None => find(&state, &principal, &id).await?,
    };
    Ok(respond(&state, &row, configured, req.headers()))
}

/// The row of a job, if it is one of the caller's tenant. A job of another tenant is as unknown as none.
///
/// # Errors
/// [`ApiError::MalformedJobId`], [`ApiError::UnknownJob`], [`ApiError::StatusBehind`], [`ApiError::JobGone`],
/// [`ApiError::StoreUnavailable`].
pub async fn find(
    state: &AppState,
    principal: &Principal,
    id: &str,
) -> Result<Box<JobRow>, ApiError> {
    let id: JobId = id.parse().map_err(|_| ApiError::MalformedJobId(clip(id)))?;
    let begun = std::time::Instant::now();
    let found = state.engine.job(id).await;
    let label = match &found {
        Ok(_) => "ok",
        Err(error) if error.is_transient() => "unavailable",
        Err(_) => "failed",
    };
    state.metrics.store_call("job", label, begun.elapsed());
    match found {
        Ok(Lookup::Row(row)) if row.summary.tenant == principal.tenant => Ok(row),
        Ok(Lookup::Tombstone(gone)) if gone.tenant.as_ref() == Some(&principal.tenant) => {
            let status = gone.status;
            Err(ApiError::JobGone { id, status })
        }
        Ok(Lookup::Row(_) | Lookup::Tombstone(_)) => Err(ApiError::UnknownJob(id)),
        Ok(Lookup::Absent) => Err(absent(state, id).await),
        Err(error) => {
            tracing::warn!(job_id = %id, %error, "status not read");
            Err(ApiError::StoreUnavailable(
                "the status cannot be read now".to_owned(),
            ))
        }
    }
}

/// Whether an id without a row is unknown, or only not known yet.
async fn absent(state: &AppState, id: JobId) -> ApiError {
    let made = id.created_at();
    if made > now_millis() + SKEW {
        return ApiError::UnknownJob(id);
    }
    match state.engine.lag_horizon().await {
        // The look came before the horizon was taken, so the row may have come in between: look once more.
        Some(horizon) if made <= horizon => match state.engine.job(id).await {
            Ok(Lookup::Absent) => ApiError::UnknownJob(id),
            Ok(_) => ApiError::StatusBehind(id),
            Err(_) => ApiError::StoreUnavailable("the status cannot be read now".to_owned()),
        },
        Some(_) | None => ApiError::StatusBehind(id),
    }
}

/// The status of a job as an answer to a request with these headers.
pub fn respond(
    state: &AppState,
    row: &JobRow,
    configured: bool,
    asked: &HeaderMap,
) -> HttpResponse {
    let body = body(state, row, configured);
    let etag = etag(&body);
    let known = matches(asked, &etag);
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::VARY, "Authorization, X-Api-Key"))
        .insert_header(("Tidegate-Job-Id", row.id.to_string()));
    if !row.status.is_terminal() {
        let summary = &row.summary;
        let seconds = state.retry_after(&summary.job_type, summary.created_at, row.next_attempt_at);
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    if known {
        return response.finish();
    }
    response.content_type("application/json").body(body)
}

/// The status of a job as JSON.
pub fn body(state: &AppState, row: &JobRow, configured: bool) -> String {
    let status = shown(state, row, configured);
    // Maps with text keys and checked JSON: there is nothing that could fail.
    serde_json::to_string(&status).unwrap_or_else(|_| "{}".to_owned())
}

/// The status of a job as far as its row tells.
pub fn shown<'a>(state: &AppState, row: &'a JobRow, configured: bool) -> StatusBody<'a> {
    let summary = &row.summary;
    let limit = state.settings.inline_result_limit;
    let outcome = row.outcome.as_ref();
    StatusBody {
        job_id: row.id,
        job_type: summary.job_type.as_str(),
        tenant: summary.tenant.as_str(),
        tier: summary.tier.as_str(),
        pool: summary.pool.as_str(),
        status: row.status.as_str(),
        attempt: row.attempt,
        created_at: rfc3339(summary.created_at),
        updated_at: rfc3339(row.updated_at),
        started_at: row.started_at.map(rfc3339),
        ended_at: row.ended_at.map(rfc3339),
        deadline: rfc3339(summary.deadline),
        progress: row.progress.as_ref().map(|progress| ProgressBody {
            percent: progress.percent,
            message: progress.message.as_deref(),
            partial: progress.partial.as_deref().and_then(partial),
        }),
        result: outcome.and_then(|outcome| inline(outcome, limit)),
        result_url: outcome.map(|_| state.result_url(row.id)),
        next_attempt_at: row.next_attempt_at.map(rfc3339),
        error: row.error.as_ref().map(|error| {
            let at = row.error_at.or(row.ended_at).unwrap_or(row.updated_at);
            problem::error_json(error, row.error_attempt.unwrap_or(row.attempt), at)
        }),
        dead_letter: row.dead_letter.map(|place| DeadLetterBody {
            partition: place.partition,
            offset: place.offset,
        }),
        retry_of: summary.retry_of,
        retried_as: row.retried_as,
        trace_id: summary.trace_id.as_deref(),
        status_url: state.status_url(row.id, configured),
    }
}

/// A result that may stand in the status: JSON, small, and in truth JSON whatever its media type says.
fn inline(outcome: &Outcome, limit: usize) -> Option<&RawValue> {
    let json = outcome.content_type.as_deref().is_some_and(is_json);
    if !json || outcome.body.len() > limit {
        return None;
    }
    serde_json::from_slice(&outcome.body).ok()
}

/// A piece of a result as it is shown, where it is JSON or text.
pub fn partial(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}

/// A strong tag: of the bytes themselves.
pub fn etag(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    let hex: String = hash
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

/// `If-None-Match` (RFC 9110, 13.1.2): weak comparison with each tag of the list.
pub fn matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
