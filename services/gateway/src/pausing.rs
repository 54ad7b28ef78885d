//! `POST /v1/job-types/{type}/pause` and `/resume`: an order on the control topic, which workers read. Jobs of a paused
//! type are taken as ever, and wait on the delay ladder.

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde_json::{Value, json};
use tidegate_contract::pause::{self, TypeOrder};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobType, now_millis};
use tidegate_kafka::Outgoing;
use tokio::sync::oneshot;

use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::types::known_type;

/// `POST /v1/job-types/{type}/pause`.
#[utoipa::path(
    post,
    path = "/v1/job-types/{type}/pause",
    tag = "job types",
    operation_id = "pauseJobType",
    summary = "Begin no more jobs of a type",
    description = "For seven days, or until it is resumed; asked again, for seven days from then. Jobs are accepted as ever and \
        wait, at most until their deadlines; those that run go on. For all tenants.",
    params(("type" = String, Path, description = "A configured job type")),
    responses(
        (status = 200, description = "The order is written: `type`, `paused`, `until`", body = Object),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job type", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka is away, or did not acknowledge the order: ask again", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn pause(
    state: Data<AppState>,
    _principal: Principal,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    give(&state, &name, TypeOrder::pause(now_millis())).await
}

/// `POST /v1/job-types/{type}/resume`.
#[utoipa::path(
    post,
    path = "/v1/job-types/{type}/resume",
    tag = "job types",
    operation_id = "resumeJobType",
    summary = "Begin jobs of a type again",
    description = "What waited begins within about a minute. A type that is not paused stays as it is.",
    params(("type" = String, Path, description = "A configured job type")),
    responses(
        (status = 200, description = "The order is written: `type`, `paused`", body = Object),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job type", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka is away, or did not acknowledge the order: ask again", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn resume(
    state: Data<AppState>,
    _principal: Principal,
    name: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    give(&state, &name, TypeOrder::Resumed).await
}

/// Writes an order, and answers when it is acknowledged.
async fn give(
    state: &Data<AppState>,
    name: &str,
    order: TypeOrder,
) -> Result<HttpResponse, ApiError> {
    if state.stop.intake.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let job_type = known_type(&state.types.now(), name)?.0.clone();
    if let Some(obstacle) = state.engine.obstacle() {
        return Err(obstacle);
    }
    let not_written = |reason: String| ApiError::NotOrdered {
        name: job_type.to_string(),
        reason,
    };
    let out = Outgoing {
        topic: state.topics.control(),
        partition: None,
        key: pause::key(&job_type),
        headers: order.headers(&job_type),
        payload: web::Bytes::new(),
    };
    let ack = state.engine.enqueue(out);
    let ack = ack.map_err(|error| not_written(error.to_string()))?;
    // A client that goes away has given the order all the same.
    let (tell, told) = oneshot::channel();
    state.tasks.spawn(async move {
        let _ = tell.send(ack.await);
    });
    match told.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(not_written(error.to_string())),
        Err(_) => return Err(ApiError::ShuttingDown),
    }
    tracing::info!(%job_type, ?order, "job type ordered");
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(told_of(&job_type, &order)))
}

fn told_of(job_type: &JobType, order: &TypeOrder) -> Value {
    match order {
        TypeOrder::Paused(until) => {
            json!({ "type": job_type.as_str(), "paused": true, "until": rfc3339(*until) })
        }
        TypeOrder::Resumed => json!({ "type": job_type.as_str(), "paused": false }),
    }
}
