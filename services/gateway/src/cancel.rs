//! `POST /v1/jobs/{id}/cancel`, and what becomes of a job whose client has gone if it asked for that.
//!
//! A job is called off by a `cancelled` event in its reply partition, whose log decides: the first end counts. Whichever
//! that is, the job has ended once the event is written, so that workers are told to leave it alone.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Data};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{EventKind, FaultSource, Status, headers, now_millis};
use tidegate_kafka::Outgoing;
use tokio::sync::oneshot;

use crate::auth::Principal;
use crate::events::{self, Subject};
use crate::problem::ApiError;
use crate::state::AppState;
use crate::status::{find, respond};

/// How long the log may take to judge: the projection is a moment behind, or stands still with the store.
const JUDGED_WITHIN: Duration = Duration::from_secs(10);

/// `POST /v1/jobs/{id}/cancel`.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    tag = "jobs",
    operation_id = "cancelJob",
    summary = "Call a job off",
    description = "A job in line is not begun, one that runs is stopped. Answers when it is known whether the \
        cancellation came before every other end. May be repeated.",
    params(("id" = String, Path, description = "The job's id, a UUID of version 7")),
    responses(
        (status = 200, description = "The job is cancelled: its status", body = crate::status::StatusBody),
        (status = 400, description = "Not a job id", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The job had ended in another way, named in `jobStatus`", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The job is too young to be known, or it is not known yet whether the cancellation counts: ask again", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn cancel(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let row = find(&state, &principal, &id).await?;
    if row.status.is_terminal() {
        return judged(&state, &row);
    }
    if let Some(obstacle) = state.engine.obstacle() {
        return Err(obstacle);
    }
    let mut watch = state
        .watcher
        .watch(row.id)
        .map_err(|_| ApiError::Overloaded)?;
    let subject = Subject {
        id: row.id,
        summary: row.summary.clone(),
        reply_partition: row.reply_partition,
        attempt: row.attempt,
        trace: Vec::new(),
    };
    let (tell, told) = oneshot::channel();
    let shared = state.clone();
    // A client that goes away cancels the job all the same, event and order both.
    state.tasks.spawn(async move {
        let written = call_off(&shared, &subject, "called off by request").await;
        let _ = tell.send(written);
    });
    let id = row.id;
    match told.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Err(ApiError::NotCancelled { id, reason }),
        Err(_) => return Err(ApiError::ShuttingDown),
    }
    tokio::select! {
        () = watch.until(|seen| seen.job.is_some_and(|job| job.status.is_terminal())) => {}
        () = tokio::time::sleep(JUDGED_WITHIN) => return Err(ApiError::NotJudged(id)),
        () = state.stop.waits.cancelled() => return Err(ApiError::NotJudged(id)),
    }
    let row = find(&state, &principal, &id.to_string()).await?;
    judged(&state, &row)
}

/// What the end of a job means to whoever wanted it cancelled.
fn judged(state: &AppState, row: &tidegate_store::JobRow) -> Result<HttpResponse, ApiError> {
    match row.status {
        Status::Cancelled => Ok(respond(state, row, false, &HeaderMap::new())),
        status => Err(ApiError::EndedOtherwise { id: row.id, status }),
    }
}

/// Writes that a job is cancelled, and tells the workers.
///
/// # Errors
/// Why the event is not known to be written. That workers could not be told is no error: what they do for the job
/// comes too late.
pub async fn call_off(state: &AppState, subject: &Subject, why: &str) -> Result<(), String> {
    let end = ("cancelled", why.to_owned(), FaultSource::Client);
    let (now, source) = (now_millis(), &state.instance);
    let event = events::end(subject, EventKind::Cancelled, now, source, end);
    events::send(state, subject, &event).await?;
    let mut order = events::headers(subject, &event);
    order.set(headers::DEADLINE, rfc3339(subject.summary.deadline));
    let ordered = async {
        let out = Outgoing {
            topic: state.topics.control(),
            partition: None,
            key: subject.id.to_string(),
            headers: order,
            payload: state
                .engine
                .encode_event(&event)
                .map_err(|e| e.to_string())?,
        };
        let ack = state.engine.enqueue(out).map_err(|e| e.to_string())?;
        ack.await.map_err(|e| e.to_string())
    };
    let ordered: Result<_, String> = ordered.await;
    let label = if ordered.is_ok() { "ok" } else { "failed" };
    state.metrics.job_called_off(label);
    if let Err(reason) = ordered {
        tracing::warn!(job_id = %subject.id, reason, "workers were not told that a job is cancelled");
    }
    Ok(())
}
