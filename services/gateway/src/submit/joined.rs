//! Joining a job that another request has submitted: its end comes by the store, since its outcome may come to another
//! gateway.

use actix_web::web::Data;
use tidegate_contract::{JobId, JobMessage, JobSummary, Millis};
use tidegate_store::{Glimpse, Lookup};

use super::pipeline::{Pending, Submitted, Terms};
use super::visible::Visible;
use crate::problem::ApiError;
use crate::reason;
use crate::state::AppState;
use crate::watch::{TICK, Watch};

/// A job that another request has submitted.
pub(super) struct Joined {
    pub id: JobId,
    pub accepted: Millis,
    /// When it is due, if it has a delay.
    pub due: Option<Millis>,
}

impl Joined {
    /// Waits for its end, or says at once that it is there. `job` is the one that this request would have made.
    pub(super) async fn wait(
        self,
        state: &Data<AppState>,
        job: &JobMessage,
        terms: Terms,
    ) -> Result<Submitted, ApiError> {
        let id = self.id;
        let pending = |reason, waited| {
            Submitted::Pending(Pending {
                id,
                retry_after: state.retry_after(&job.job_type, self.accepted, self.due),
                reason,
                produce: None,
                // A key that shows a job has its row beside it.
                visible: Visible::Now,
                waited,
            })
        };
        let Some(wait) = terms.wait else {
            return Ok(pending(None, false));
        };
        let mut watch = match state.watcher.watch(id) {
            Ok(watch) => watch,
            Err(full) => return Ok(pending(Some(full.to_string()), false)),
        };
        let guard = state.metrics.wait_opened();
        let why = tokio::select! {
            biased;
            ended = ended(state, id, &mut watch) => {
                guard.ended("outcome");
                return ended;
            }
            () = tokio::time::sleep_until((terms.received + wait).into()) => "timeout",
            () = state.stop.waits.cancelled() => "shutdown",
        };
        guard.ended(why);
        let reason = match why {
            "shutdown" => Some("this gateway is shutting down; the job goes on".to_owned()),
            _ => reason::why_no_outcome(state, id, &JobSummary::of(job, None)).await,
        };
        Ok(pending(reason, true))
    }
}

/// The row of a job once it has ended.
async fn ended(state: &AppState, id: JobId, watch: &mut Watch) -> Result<Submitted, ApiError> {
    loop {
        match state.engine.job(id).await {
            Ok(Lookup::Row(row)) if row.status.is_terminal() => {
                return Ok(Submitted::Known { row });
            }
            Ok(Lookup::Tombstone(gone)) => {
                let status = gone.status;
                return Err(ApiError::JobGone { id, status });
            }
            Ok(_) => {}
            // It may come back within the wait.
            Err(error) => {
                tracing::debug!(job_id = %id, %error, "row not read");
                tokio::time::sleep(TICK).await;
                continue;
            }
        }
        let ended = |seen: &Glimpse| seen.job.is_some_and(|job| job.status.is_terminal());
        watch.until(ended).await;
    }
}
