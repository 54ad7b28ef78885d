//! `GET /v1/jobs/{id}/events`: a job's events as they happen, on any gateway, as an event stream or over a WebSocket.
//!
//! The [`cursor`] knows which of the row's events a client still lacks, [`feed`] gives them as the watcher sees them come,
//! and [`sse`] and [`socket`] send them.

mod cursor;
mod event;
mod feed;
mod limit;
mod socket;
mod sse;

use actix_web::http::header;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use tidegate_contract::JobId;

pub use limit::Streams;

use self::cursor::{Asked, Cursor};
use self::feed::Feed;
use crate::auth::Principal;
use crate::problem::{ApiError, clip};
use crate::query;
use crate::state::AppState;
use crate::status::find;

/// `GET /v1/jobs/{id}/events`.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/events",
    tag = "jobs",
    operation_id = "followJob",
    summary = "The events of a job as they happen",
    description = "An event stream: `accepted`, `started`, `progress`, `retry-scheduled`, `awaiting-completion`, and last one with \
        the name of the status that the job ended with, whose data is the body of `GET /v1/jobs/{id}`; then it ends. The others \
        have `jobId`, `status`, `attempt`, `at`, and `progress`, `nextAttemptAt`, `error` where there is one. It begins with all \
        that is kept, or after the event that is named; where that is not possible with a `snapshot`, the present status with a \
        `reason`. With `Upgrade: websocket` the same over a WebSocket, each event one message with `id` and `event` beside the data.",
    params(
        ("id" = String, Path, description = "The job's id, a UUID of version 7"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen"),
        ("after" = Option<u64>, Query, description = "The same, where a header cannot be set"),
    ),
    responses(
        (status = 101, description = "A WebSocket, as asked for"),
        (status = 200, description = "Events", content_type = "text/event-stream", body = String),
        (status = 204, description = "The job has ended, and the event that is named was the last"),
        (status = 400, description = "Not a job id, a malformed `after`, or no proper handshake", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 403, description = "A WebSocket for a page of another site", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many streams of this tenant", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many streams, a stop, the store is away, or the job too young to be known", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn events(
    state: Data<AppState>,
    req: HttpRequest,
    payload: web::Payload,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    if state.stop.intake.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let socket = socket::is_wanted(req.headers());
    if socket {
        socket::check_origin(req.headers(), state.settings.public_url.as_deref())?;
    }
    let asked = asked(&req)?;
    let slot = state.streams.take(&principal.tenant)?;
    let parsed: JobId = id
        .parse()
        .map_err(|_| ApiError::MalformedJobId(clip(&id)))?;
    // Before the row is read, so that no change comes in between.
    let watch = state.watcher.follow(parsed);
    let row = find(&state, &principal, &id).await?;
    let cursor = Cursor::start(&row, asked);
    let feed = cursor.map(|cursor| Feed::new(state.clone(), watch, cursor, *row, slot));
    if socket {
        let open = state.metrics.stream_opened("websocket");
        return socket::respond(&req, payload, feed, open);
    }
    Ok(match feed {
        Some(feed) => sse::respond(feed, state.metrics.stream_opened("sse")),
        // What makes a browser's EventSource stop asking.
        None => HttpResponse::NoContent()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .finish(),
    })
}

/// After which event the client wants to go on.
///
/// # Errors
/// [`ApiError::MalformedQuery`]. A header that says nothing sensible is no error: a browser would send it for ever.
fn asked(req: &HttpRequest) -> Result<Option<Asked>, ApiError> {
    if let Some(value) = req.headers().get("last-event-id") {
        let text = String::from_utf8_lossy(value.as_bytes());
        return Ok(Asked::read(&text));
    }
    let pairs = query::pairs(req)?;
    let Some((_, after)) = pairs.iter().find(|(name, _)| name == "after") else {
        return Ok(None);
    };
    match Asked::read(after) {
        Some(asked @ Asked::After(_)) => Ok(Some(asked)),
        _ => Err(ApiError::MalformedQuery(format!(
            "after is `{}`: expected the id of an event",
            clip(after)
        ))),
    }
}
