//! `GET /v1/jobs/{id}/result`: the result's own bytes, media type and status.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Data};

use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::status::find;
use crate::submit::{End, outcome_response};

/// `GET /v1/jobs/{id}/result`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/result",
    tag = "jobs",
    operation_id = "jobResult",
    summary = "Result of a job",
    description = "Answers as a wait would have: with the outcome's own status, media type, headers and bytes, or with \
        the problem that the job ended in.",
    params(("id" = String, Path, description = "The job's id, a UUID of version 7")),
    responses(
        (status = "default", description = "The outcome itself"),
        (status = 400, description = "Not a job id", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The job has not ended (with `Retry-After`), or was cancelled", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 502, description = "The job failed without an answer of its own, or was dead-lettered", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 504, description = "The job's deadline passed", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn result(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let row = find(&state, &principal, &id).await?;
    if !row.status.is_terminal() {
        return Err(ApiError::NotEnded {
            id: row.id,
            status: row.status,
        });
    }
    let mut response = outcome_response(End::of(&row))?;
    // It never changes, but it is its tenant's alone and is purged one day.
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    Ok(response)
}
