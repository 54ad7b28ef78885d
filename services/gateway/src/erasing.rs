//! `DELETE /v1/jobs/{id}`: what is kept of an ended job is gone before its time.

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use tidegate_contract::now_millis;

use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::status::find;

/// `DELETE /v1/jobs/{id}`.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "jobs",
    operation_id = "eraseJob",
    summary = "Erase what the store keeps of an ended job",
    description = "Its status, result, errors and idempotency key, at once instead of when they are old enough; from then on \
        the job is `410`, which is also what a repeat is told. What Kafka keeps of it (the job's record, its events, its dead \
        letter) goes when that is old enough, and a dead letter can be redriven until then.",
    params(("id" = String, Path, description = "The job's id, a UUID of version 7")),
    responses(
        (status = 204, description = "It is erased"),
        (status = 400, description = "Not a job id", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not ended: it is as `jobStatus` says", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "It was erased already, or is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn erase(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let row = find(&state, &principal, &id).await?;
    let (id, status) = (row.id, row.status);
    if !status.is_terminal() {
        return Err(ApiError::NotEnded { id, status });
    }
    let away = || ApiError::StoreUnavailable("the job cannot be erased now".to_owned());
    match state.engine.erase(id, now_millis()).await {
        Ok(true) => {
            tracing::info!(job_id = %id, "job erased by request");
            Ok(HttpResponse::NoContent()
                .insert_header(("Cache-Control", "no-store"))
                .finish())
        }
        // What has ended stays so: the purge, or another request, was first.
        Ok(false) => match find(&state, &principal, &id.to_string()).await {
            Ok(_) => Err(away()),
            Err(gone) => Err(gone),
        },
        Err(error) => {
            tracing::warn!(job_id = %id, %error, "job not erased");
            Err(away())
        }
    }
}
