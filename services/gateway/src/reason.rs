//! Why a job has no outcome yet, in words for the client that stopped waiting.

use std::time::Duration;

use tidegate_contract::{JobId, JobSummary, Status};
use tidegate_store::Lookup;

use crate::state::AppState;

/// A client that has waited long enough waits no longer than this for the reason.
const LIMIT: Duration = Duration::from_millis(500);

/// What is known of a job that was waited for in vain. `None` if nothing can be told in time.
pub async fn why_no_outcome(state: &AppState, id: JobId, job: &JobSummary) -> Option<String> {
    tokio::time::timeout(LIMIT, ask(state, id, job)).await.ok()
}

async fn ask(state: &AppState, id: JobId, job: &JobSummary) -> String {
    if state.engine.store_ok()
        && let Ok(Lookup::Row(row)) = state.engine.job(id).await
        && let Some(text) = of_status(row.status)
    {
        return text.to_owned();
    }
    match state.engine.workers(&job.pool, job.tier).await {
        Some(0) => format!(
            "no worker is connected for pool {}, tier {}",
            job.pool, job.tier
        ),
        Some(_) | None => "no worker has started this job yet".to_owned(),
    }
}

fn of_status(status: Status) -> Option<&'static str> {
    match status {
        Status::Pending => None,
        Status::Scheduled => Some("the job is not due yet"),
        Status::Processing => Some("a worker is running the job"),
        Status::Retrying => Some("an attempt failed, another follows"),
        Status::AwaitingCompletion => Some("the job is completed by an outside party"),
        Status::Completed
        | Status::Failed
        | Status::DeadLettered
        | Status::Cancelled
        | Status::Expired => Some("the job has just ended"),
    }
}
