//! Submitting a job: [`request`] makes a job of an HTTP request, [`pipeline`] gets it into Kafka, [`keyed`] before that
//! sees whether it has been submitted already ([`joined`]: and waits for that one), [`follow`] sees it through whatever becomes of the request, [`hold`] waits
//! for its end where that was asked for, [`visible`] sees to it that its status can be read, [`answer`] writes the
//! response.

mod answer;
mod body;
mod fingerprint;
mod follow;
mod hold;
mod joined;
mod keyed;
pub mod pipeline;
mod request;
mod visible;

use std::time::Instant;

use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_contract::JobType;

use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;
use pipeline::Terms;

pub use answer::{Context, End, outcome_response};
pub use pipeline::Submitted;

/// `POST /v1/jobs/{type}`.
#[utoipa::path(
    post,
    path = "/v1/jobs/{type}",
    tag = "jobs",
    operation_id = "submitJob",
    summary = "Submit a job",
    description = "Takes a job and answers with its outcome if that comes in time, else with 202 and the job's URL. \
        A 2xx is sent only after Kafka has acknowledged the job.",
    params(
        ("type" = String, Path, description = "A job type of the configuration"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` (seconds, capped) or `respond-async`; without it, what the type says (RFC 7240)"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters. The first request under a key makes a job; the same request again joins it, another one is refused with 422"),
        ("Tidegate-Priority" = Option<String>, Header, description = "`high`, `normal` or `low`, as far as the type allows it"),
        ("Tidegate-Deadline" = Option<String>, Header, description = "RFC 3339, or a duration such as `30s`: after it the job is not started any more"),
        ("Tidegate-Delay" = Option<String>, Header, description = "RFC 3339, or a duration such as `30s`: before it the job is not started"),
        ("Tidegate-Serial-Key" = Option<String>, Header, description = "1 to 255 visible characters. Jobs of one key (of one tenant and pool) run one at a time, in the order in which they came; they travel in the tier `normal`, and `Tidegate-Priority` is refused beside it"),
        ("Tidegate-Callback-Url" = Option<String>, Header, description = "Where the end of the job is told, with a signed `POST`: an `https` URL on the public internet, unless the operator allows others"),
        ("Tidegate-Callback-Events" = Option<String>, Header, description = "The ends that are told, separated by commas: `job.completed`, `job.failed`, `job.cancelled`, `job.expired`, `job.dead_lettered`; all without it"),
        ("Tidegate-On-Disconnect" = Option<String>, Header, description = "What becomes of the job when its client goes away while it waits: `continue` (it goes on) or `cancel`"),
        ("traceparent" = Option<String>, Header, description = "The trace that the job belongs to (W3C Trace Context)"),
    ),
    request_body(description = "For a JSON type one JSON value, else any bytes", content(
        (serde_json::Value = "application/json"),
        ("application/octet-stream"),
    )),
    responses(
        (status = "default", description = "The job ended in time: the status, body, media type and safe headers of its outcome",
            headers(("Tidegate-Job-Id" = String), ("Server-Timing" = String))),
        (status = 202, description = "The job is accepted and has not ended, or was not waited for", body = crate::status::AcceptedBody,
            headers(("Location" = String), ("Retry-After" = String), ("Preference-Applied" = String))),
        (status = 400, description = "Malformed header, option not supported, or a body that is not JSON", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 403, description = "The type does not allow this tier", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job type", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The job was cancelled", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is over the limit", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 422, description = "The idempotency key belongs to another request, the callback URL breaks a rule (`rule`), or callbacks are not set up here", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 429, description = "The tenant has too many unfinished jobs", body = crate::docs::Problem, content_type = "application/problem+json",
            headers(("Retry-After" = String))),
        (status = 502, description = "The job failed without an answer of its own, or was dead-lettered", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The job cannot be taken now, or it is not known whether it was: see `repeatSafe`", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 504, description = "The job's deadline passed", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn by_type(
    state: Data<AppState>,
    req: HttpRequest,
    payload: Payload,
    principal: Principal,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    submit(&state, &req, payload, principal, &name, false).await
}

/// A configured route.
pub async fn by_route(
    state: Data<AppState>,
    req: HttpRequest,
    payload: Payload,
    principal: Principal,
    job_type: JobType,
) -> Result<HttpResponse, ApiError> {
    submit(&state, &req, payload, principal, job_type.as_str(), true).await
}

async fn submit(
    state: &Data<AppState>,
    req: &HttpRequest,
    payload: Payload,
    principal: Principal,
    type_name: &str,
    configured: bool,
) -> Result<HttpResponse, ApiError> {
    let received = Instant::now();
    let mut mode = "async";
    let result = async {
        let ask = request::read(state, req, payload, principal, type_name, configured).await?;
        if ask.waiting.wait.is_some() {
            mode = "wait";
        }
        let answer = answer::Context {
            state,
            applied: ask.waiting.applied.clone(),
            configured,
            scheduled: ask.job.not_before.is_some(),
        };
        let terms = Terms {
            wait: ask.waiting.wait,
            received,
            on_disconnect: ask.on_disconnect,
        };
        let submitted = match ask.key {
            None => pipeline::run(state, ask.job, terms).await?,
            Some(key) => keyed::run(state, ask.job, key, terms).await?,
        };
        Ok((answer, submitted))
    }
    .await;
    let outcome = result
        .as_ref()
        .map_or_else(ApiError::outcome_label, |_| "accepted");
    state.metrics.submit(type_name, mode, outcome);
    let (answer, submitted) = result.inspect_err(log)?;
    answer.respond(submitted)
}

/// What clients do wrong is theirs to see; what we cannot do is ours. A state that lasts is logged where it begins and
/// ends, not with each of the many requests that it turns away.
fn log(error: &ApiError) {
    let lasts = matches!(
        error,
        ApiError::ShuttingDown
            | ApiError::BrokerUnavailable(_)
            | ApiError::RegistryUnavailable(_)
            | ApiError::Topics(_)
            | ApiError::NoReplies(_)
            | ApiError::StoreUnavailable(_)
    );
    if lasts || error.outcome_label() == "rejected" {
        tracing::debug!(code = error.code(), %error, "submit refused");
    } else {
        tracing::warn!(code = error.code(), %error, "submit not possible");
    }
}
