//! Doing an ended job again: a new job, linked to the old one, which stays as it ended.
//!
//! The store says who was first. The claim comes before the produce, with the new job's id and reply partition, so that
//! of any number of operators one makes the job; a claim whose job never got into Kafka is taken up again later, with the
//! same id.

use std::time::{Duration, Instant};

use actix_web::web::Data;
use tidegate_contract::{DeadLetter, JobId, JobMessage, Millis, now_millis};
use tidegate_store::NewRetry;
use tokio::sync::oneshot;

use super::read::Found;
use crate::options::OnDisconnect;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::submit::Submitted;
use crate::submit::pipeline::{self, Terms};

/// A claim this old whose job is not known to lie in Kafka is taken up again: much longer than any produce takes.
const STALE: Millis = 30_000;

/// What became of a wish to do a job again.
pub enum Again {
    /// A new job.
    Made {
        job: JobId,
        submitted: Box<Submitted>,
    },
    /// Somebody was first.
    Already(JobId),
    /// It cannot be, and why.
    Not(String),
}

/// Does the job of a dead letter again.
///
/// # Errors
/// When it cannot be done now: what hinders any submit, or a store that is away.
pub async fn again(
    state: &Data<AppState>,
    found: Found,
    max_redrives: i32,
) -> Result<Again, ApiError> {
    let old = match readable(state, &found.letter).await {
        Ok(job) => job,
        Err(why) => return Ok(Again::Not(why)),
    };
    let types = state.types.now();
    let Some(spec) = types.get(&old.job_type) else {
        return Ok(Again::Not(format!(
            "there is no job type {} any more",
            old.job_type
        )));
    };
    if old.redrives >= max_redrives {
        return Ok(Again::Not(format!(
            "it is the {}. job of its chain, over the limit of {max_redrives}",
            old.redrives.saturating_add(1)
        )));
    }
    let now = now_millis();
    let lifetime = Millis::try_from(spec.deadline.as_millis()).unwrap_or(Millis::MAX);
    let job = JobMessage {
        attempt: 1,
        pool: spec.pool.clone(),
        created_at: now,
        deadline: now.saturating_add(lifetime),
        not_before: None,
        retry_of: Some(old.job_id),
        redrives: old.redrives.saturating_add(1),
        ..old.clone()
    };
    // In a task of its own: a connection that drops leaves no claim without a job.
    let (tell, told) = oneshot::channel();
    let (state, made_by) = (state.clone(), state.tasks.clone());
    made_by.spawn(async move {
        let _ = tell.send(make(&state, job, old.job_id).await);
    });
    told.await.unwrap_or(Err(ApiError::ShuttingDown))
}

async fn make(state: &Data<AppState>, mut job: JobMessage, of: JobId) -> Result<Again, ApiError> {
    if let Some(obstacle) = state.engine.obstacle() {
        return Err(obstacle);
    }
    let home = state.engine.home();
    let home = home.ok_or_else(|| ApiError::NoReplies("it joins its group".to_owned()))?;
    let away = |error: tidegate_store::StoreError| ApiError::StoreUnavailable(error.to_string());
    let claim = NewRetry {
        of,
        job: JobId::generate(),
        reply_partition: home,
        at: job.created_at,
    };
    let first = state.engine.claim_retry(claim).await.map_err(away)?;
    (job.job_id, job.reply_partition) = match first {
        None => (claim.job, home),
        Some(retry) if retry.produced || job.created_at - retry.at < STALE => {
            return Ok(Again::Already(retry.job));
        }
        Some(retry) => (retry.job, retry.reply_partition),
    };
    let id = job.job_id;
    let terms = Terms {
        wait: None,
        received: Instant::now(),
        on_disconnect: OnDisconnect::Continue,
    };
    let submitted = pipeline::run(state, job, terms).await?;
    // Tried a few times: without it the same job might be produced again when somebody asks for it again.
    for pause in [0, 200, 1_000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match state.engine.retry_produced(of, id).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(job_id = %of, retried_as = %id, %error, "a retry is not noted")
            }
        }
    }
    Ok(Again::Made {
        job: id,
        submitted: Box::new(submitted),
    })
}

/// The job that a letter keeps.
async fn readable(state: &AppState, letter: &DeadLetter) -> Result<JobMessage, String> {
    if letter.last_error.is_none() {
        return Err("its record could not be read as a job".to_owned());
    }
    let Some(value) = &letter.value else {
        return Err("its record was too large to be kept".to_owned());
    };
    let job = state.engine.decode_job(value).await;
    job.map_err(|error| format!("its record cannot be read: {error}"))
}
