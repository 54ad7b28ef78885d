//! `GET /v1/jobs/{id}/callbacks` and `POST /v1/jobs/{id}/callbacks/resend`.

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{FollowUpKind, FollowUpSpec, now_millis};
use tidegate_store::{Attempt, FollowUp, FollowUpState};

use super::{away, read};
use crate::auth::Principal;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::status::find;

/// `GET /v1/jobs/{id}/callbacks`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/callbacks",
    tag = "callbacks",
    operation_id = "jobCallbacks",
    summary = "Whom the end of a job was told to",
    description = "`asked`: what the job asks for. `callbacks`: what its end has made of that, each with its `state` \
        (`pending`, `delivered`, `failed`), `nextAttemptAt`, and its last 50 `attempts` with their time, duration, HTTP status, \
        the beginning of the answer, or the error. Each has its `kind`, `callback` or `email`. Of an e-mail neither the \
        addresses nor what the mail server says are shown: the operator has chosen them, and `status` is the reply code.",
    params(("id" = String, Path, description = "The job's id, a UUID of version 7")),
    responses(
        (status = 200, description = "What is kept: `jobId`, `asked`, `callbacks`", body = Object),
        (status = 400, description = "Not a job id", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn list(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let row = find(&state, &principal, &id).await?;
    let found = state.engine.follow_ups(row.id).await.map_err(away)?;
    let callbacks: Vec<_> = found.iter().map(|(it, tried)| shown(it, tried)).collect();
    let asked: Vec<_> = row.summary.follow_ups.iter().map(wish).collect();
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({
            "jobId": row.id,
            "asked": asked,
            "callbacks": callbacks,
        })))
}

/// `POST /v1/jobs/{id}/callbacks/resend`.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/callbacks/resend",
    tag = "callbacks",
    operation_id = "resendCallback",
    summary = "Send a job's callback or e-mail again",
    description = "At once, whatever became of it, and with all its attempts before it. The receiver sees the same \
        `webhook-id` as before, the reader the same `Message-ID`. Of one `kind`, `callback` or `email`; without a body, or \
        without `kind` in it, whatever the job's end has made.",
    params(("id" = String, Path, description = "The id of a job that has ended")),
    request_body(description = "`kind`", content((Option<Object> = "application/json"))),
    responses(
        (status = 202, description = "It is due: `jobId`, `kinds`, `state`", body = Object),
        (status = 400, description = "Not a job id, or a malformed body", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job, or its end has made nothing of that kind", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "The job has not ended", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn resend(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let kind = match body.is_empty() {
        true => None,
        false => read::<Which>(&body)?.kind,
    };
    let row = find(&state, &principal, &id).await?;
    let (id, status) = (row.id, row.status);
    if !status.is_terminal() {
        return Err(ApiError::NotEnded { id, status });
    }
    let due = state.engine.resend(id, kind, now_millis()).await;
    let kinds: Vec<_> = due.map_err(away)?.iter().map(|it| it.as_str()).collect();
    if kinds.is_empty() {
        let what = kind.map_or("callback and no e-mail", FollowUpKind::noun);
        return Err(ApiError::NoCallback(id, what));
    }
    tracing::info!(job_id = %id, ?kinds, "sent again by request");
    Ok(HttpResponse::Accepted()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({ "jobId": id, "kinds": kinds, "state": FollowUpState::Pending.as_str() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default, deserialize_with = "super::kind")]
    kind: Option<FollowUpKind>,
}

/// Addresses stand in the operator's configuration: they are not for clients.
fn wish(it: &FollowUpSpec) -> Value {
    let is_email = it.kind == FollowUpKind::Email.as_str();
    json!({
        "kind": it.kind,
        "target": (!is_email).then_some(&it.target),
        "events": it.events,
    })
}

fn shown(it: &FollowUp, attempts: &[Attempt]) -> Value {
    let is_email = it.kind == FollowUpKind::Email;
    let pending = it.state == FollowUpState::Pending;
    // What a mail server says names addresses.
    let reason = it.reason.as_deref().map(|why| match is_email {
        true => unnamed(attempts.last()),
        false => why.to_owned(),
    });
    let attempts: Vec<_> = attempts.iter().map(|it| attempt(it, is_email)).collect();
    json!({
        "kind": it.kind.as_str(),
        "target": (!is_email).then_some(&it.target),
        "endpoint": (!is_email).then_some(&it.endpoint),
        "state": it.state.as_str(),
        "createdAt": rfc3339(it.created_at),
        "nextAttemptAt": pending.then(|| rfc3339(it.due_at)),
        "settledAt": it.settled_at.map(rfc3339),
        "reason": reason,
        "attempts": attempts,
    })
}

/// Why an e-mail was given up, as far as it names nobody.
fn unnamed(last: Option<&Attempt>) -> String {
    match last.map(|it| it.status) {
        Some(Some(code)) => format!("the mail server's last reply was {code}"),
        Some(None) => "the last attempt came to no reply".to_owned(),
        None => "no attempt was made".to_owned(),
    }
}

fn attempt(it: &Attempt, is_email: bool) -> Value {
    json!({
        "number": it.number,
        "at": rfc3339(it.at),
        "durationMs": it.duration,
        "status": it.status,
        "error": it.error.as_ref().filter(|_| !is_email),
        "answer": (!is_email).then_some(&it.excerpt),
    })
}
