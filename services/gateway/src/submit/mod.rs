//! Submitting a job: [`request`] makes a job of an HTTP request, [`pipeline`] gets it into Kafka and waits for its
//! end where that was asked for, [`visible`] sees to it that its status can be read, [`answer`] writes the response.

mod answer;
mod body;
mod pipeline;
mod request;
mod visible;

use std::time::Instant;

use actix_web::web::{self, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_contract::JobType;

use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;

pub use answer::{End, outcome_response};
pub use request::is_json;

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
        ("Tidegate-Priority" = Option<String>, Header, description = "`high`, `normal` or `low`, as far as the type allows it"),
        ("Tidegate-Deadline" = Option<String>, Header, description = "RFC 3339, or a duration such as `30s`: after it the job is not started any more"),
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
            id: ask.job.job_id,
            applied: ask.waiting.applied.clone(),
            configured,
        };
        let submitted = pipeline::run(state, ask.job, ask.waiting.wait, received).await?;
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
