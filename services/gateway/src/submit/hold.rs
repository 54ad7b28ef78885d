//! Holding a request until its job ends, its time is up or the gateway stops.

use std::time::{Duration, Instant};

use actix_web::web::Data;
use tokio::sync::oneshot;

use super::follow::{Attended, Looking, Need, acknowledged};
use super::pipeline::{Open, Pending, Submitted};
use super::visible::Visible;
use crate::problem::ApiError;
use crate::reason;
use crate::state::AppState;
use crate::waits::{Ended, Wait};

/// Waits for the end of a job in the request itself; once it takes long, as one that a task sees through.
pub(super) async fn attend(
    state: &Data<AppState>,
    mut attended: Attended,
    (mut wait, deadline): Open,
    received: Instant,
) -> Result<Submitted, ApiError> {
    let guard = state.metrics.wait_opened();
    let long = Instant::now() + state.settings.row_after;
    let mut produce = None;
    loop {
        tokio::select! {
            biased;
            took = attended.acknowledged(), if produce.is_none() => match took {
                Ok(took) => produce = Some(took),
                Err(error) => {
                    guard.ended("not-produced");
                    return Err(error);
                }
            },
            outcome = wait.outcome() => {
                attended.ended();
                guard.ended("outcome");
                return Ok(ended(outcome, produce, received));
            }
            () = tokio::time::sleep_until(long.min(deadline).into()) => break,
            () = state.stop.waits.cancelled() => break,
        }
    }
    let Some(looking) = attended.leave() else {
        return Err(ApiError::Internal("a job was seen to twice".to_owned()));
    };
    let (result, why) = hold(state, looking, wait, deadline, received).await;
    guard.ended(why);
    result
}

fn ended(outcome: Ended, produce: Option<Duration>, received: Instant) -> Submitted {
    let total = outcome.received.saturating_duration_since(received);
    Submitted::Ended {
        ended: outcome,
        produce,
        total,
    }
}

/// Looks on until the job ends, the wait is over, or, without a wait, its status can be read.
pub(super) async fn look_on(
    state: &Data<AppState>,
    looking: Looking,
    open: Option<Open>,
    crowded: Option<String>,
    received: Instant,
) -> Result<Submitted, ApiError> {
    match open {
        Some((wait, deadline)) => {
            let guard = state.metrics.wait_opened();
            let (result, why) = hold(state, looking, wait, deadline, received).await;
            guard.ended(why);
            result
        }
        None => {
            let (took, visible) = acknowledged(looking.told.await)?;
            Ok(Submitted::Pending(Pending {
                id: looking.facts.id,
                retry_after: looking.facts.retry_after(state),
                reason: crowded,
                produce: Some(took),
                visible: visible.unwrap_or(Visible::Now),
                waited: false,
            }))
        }
    }
}

/// Holds the request until the job ends, the time is up or the gateway stops. With the reason for the metric.
async fn hold(
    state: &Data<AppState>,
    looking: Looking,
    mut wait: Wait,
    deadline: Instant,
    received: Instant,
) -> (Result<Submitted, ApiError>, &'static str) {
    let Looking {
        facts,
        mut told,
        needs,
    } = looking;
    let ended = |outcome, produce| (Ok(ended(outcome, produce, received)), "outcome");
    let produce = tokio::select! {
        biased;
        told = &mut told => match acknowledged(told) {
            Ok((took, _)) => took,
            Err(error) => return (Err(error), "not-produced"),
        },
        // A worker has read it, so the brokers have it: that is as good as the acknowledgement.
        outcome = wait.outcome() => {
            let _ = needs.send(Need::Nothing);
            return ended(outcome, None);
        }
    };
    let why = tokio::select! {
        biased;
        outcome = wait.outcome() => {
            let _ = needs.send(Need::Nothing);
            return ended(outcome, Some(produce));
        }
        () = tokio::time::sleep_until(deadline.into()) => "timeout",
        () = state.stop.waits.cancelled() => "shutdown",
    };
    let (answer, visible) = oneshot::channel();
    let _ = needs.send(Need::Status(answer));
    let look = async {
        let visible = visible.await;
        let reason = match why {
            "shutdown" => Some("this gateway is shutting down; the job goes on".to_owned()),
            _ => reason::why_no_outcome(state, facts.id, &facts.summary).await,
        };
        (visible, reason)
    };
    tokio::select! {
        biased;
        // It may still come at the last moment.
        outcome = wait.outcome() => ended(outcome, Some(produce)),
        (visible, reason) = look => {
            let later = || Visible::Later("this gateway is shutting down".to_owned());
            let pending = Pending {
                id: facts.id,
                retry_after: facts.retry_after(state),
                reason,
                produce: Some(produce),
                visible: visible.unwrap_or_else(|_| later()),
                waited: true,
            };
            (Ok(Submitted::Pending(pending)), why)
        }
    }
}
