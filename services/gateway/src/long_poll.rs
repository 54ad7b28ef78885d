//! `?wait=N`: a status that is answered once it is another one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::IF_NONE_MATCH;
use tidegate_contract::JobId;
use tidegate_store::{JobRow, Version};

use crate::auth::Principal;
use crate::problem::{ApiError, clip};
use crate::query;
use crate::state::AppState;
use crate::status::{body, etag, find, matches};
use crate::watch::{TICK, Watch};

/// How long the request may be held; `None`, or more than nothing.
///
/// # Errors
/// [`ApiError::MalformedQuery`].
pub fn wait(req: &HttpRequest, longest: Duration) -> Result<Option<Duration>, ApiError> {
    let pairs = query::pairs(req)?;
    let Some((_, value)) = pairs.iter().find(|(name, _)| name == "wait") else {
        return Ok(None);
    };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::MalformedQuery(format!(
            "wait is `{}`: expected whole seconds",
            clip(value)
        )));
    }
    // More digits than fit mean: as long as possible.
    let wait = value.parse().map_or(longest, Duration::from_secs);
    Ok(Some(wait.min(longest)).filter(|wait| !wait.is_zero()))
}

/// The row of a job as soon as it has ended or its status is another one: than the client knows, or if it does not say
/// what it knows, than at first. After `wait` the row as it is.
///
/// # Errors
/// As of [`find`].
pub async fn hold(
    state: &AppState,
    principal: &Principal,
    id: &str,
    req: &HttpRequest,
    wait: Duration,
) -> Result<Box<JobRow>, ApiError> {
    let until = Instant::now() + wait;
    // Before the row is read, so that no change comes in between. Without room nothing is held.
    let parsed = id.parse::<JobId>().ok();
    let watch = parsed.and_then(|id| state.watcher.watch_row(id).ok());
    let row = find(state, principal, id).await?;
    let configured = !req.path().starts_with("/v1/");
    let tag = |row: &JobRow| etag(&body(state, row, configured));
    let first = tag(&row);
    let headers = req.headers();
    let known = !headers.contains_key(IF_NONE_MATCH) || matches(headers, &first);
    let Some(watch) = watch.filter(|_| known && !row.status.is_terminal()) else {
        return Ok(row);
    };
    let guard = state.metrics.wait_opened();
    let version = row.version();
    let changed = changed(watch, version, |row| tag(row) != first);
    let why = tokio::select! {
        biased;
        changed = changed => {
            guard.ended("outcome");
            return match changed {
                Some(row) => Ok(Box::new(Arc::unwrap_or_clone(row))),
                // It is gone, and this says how.
                None => find(state, principal, id).await,
            };
        }
        () = tokio::time::sleep_until(until.into()) => "timeout",
        () = state.stop.intake.cancelled() => "shutdown",
    };
    guard.ended(why);
    Ok(row)
}

/// The row once it is as wished; `None` if there is none any more.
async fn changed(
    mut watch: Watch,
    mut version: Version,
    wished: impl Fn(&JobRow) -> bool,
) -> Option<Arc<JobRow>> {
    loop {
        match watch.later_than(version).await {
            Ok(Some(row)) if wished(&row) => return Some(row),
            Ok(Some(row)) => version = row.version(),
            Ok(None) => return None,
            // It may come back within the wait.
            Err(_) => tokio::time::sleep(TICK).await,
        }
    }
}
