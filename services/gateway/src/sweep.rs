//! Ending jobs whose deadline has passed without anybody saying so: no worker ever took them, or the one that did has died.
//!
//! Every gateway looks now and then for rows that are open past their deadline, and writes an `expired` event to the reply
//! partition of each. The log decides: an end that a worker has told before stays. Two gateways that find the same
//! row write two events, of which the second changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::web::Data;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{EventKind, FaultSource, JobId, Millis, now_millis};
use tidegate_store::JobRow;
use tokio_util::sync::CancellationToken;

use crate::engine::Ack;
use crate::events::{self, Subject};
use crate::state::AppState;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(2);
/// How far clocks may differ, in milliseconds: workers end jobs at the deadline by their own.
const SKEW: Millis = 2_000;
/// Jobs of one question to the store, and questions of one round.
const PAGE: u32 = 100;
const PAGES: usize = 50;
/// After an event was written its row is left alone for this long, in milliseconds: the projection may be behind.
const PATIENCE: Millis = 60_000;

/// Sweeps until `stop`.
pub async fn run(state: Data<AppState>, stop: CancellationToken) {
    let mut told = Told::new();
    let rounds = async {
        loop {
            tokio::time::sleep(EVERY).await;
            round(&state, &mut told, now_millis()).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// The jobs whose end was written, and when.
pub type Told = HashMap<JobId, Millis>;

/// Ends what is past its deadline at this time. Whatever keeps that from being done is met again in the next round.
pub async fn round(state: &AppState, told: &mut Told, now: Millis) {
    told.retain(|_, at| now.saturating_sub(*at) < PATIENCE);
    if state.engine.obstacle().is_some() || !state.engine.store_ok() {
        return;
    }
    let mut after = None;
    let mut ended = 0;
    for _ in 0..PAGES {
        let found = state.engine.overdue(now - SKEW, after, PAGE).await;
        let rows = match found {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, "overdue jobs not looked for");
                break;
            }
        };
        let Some(last) = rows.last() else { break };
        after = Some((last.summary.deadline, last.id));
        let rows = rows.iter().filter(|row| !told.contains_key(&row.id));
        let sent: Vec<_> = rows.map(|row| (row.id, expire(state, row, now))).collect();
        let mut failed = false;
        for (id, ack) in sent {
            match acknowledged(ack).await {
                Ok(()) => {
                    told.insert(id, now);
                    ended += 1;
                }
                Err(reason) => {
                    tracing::debug!(job_id = %id, reason, "an overdue job was not ended");
                    failed = true;
                }
            }
        }
        if failed {
            break;
        }
    }
    if ended > 0 {
        state.metrics.jobs_swept(ended);
        tracing::info!(jobs = ended, "jobs past their deadline were ended");
    }
}

async fn acknowledged(ack: Result<Ack, String>) -> Result<(), String> {
    let delivered = ack?.await;
    delivered.map(drop).map_err(|error| error.to_string())
}

fn expire(state: &AppState, row: &JobRow, now: Millis) -> Result<Ack, String> {
    let subject = Subject {
        id: row.id,
        summary: row.summary.clone(),
        reply_partition: row.reply_partition,
        attempt: row.attempt,
        trace: Vec::new(),
    };
    let why = match row.started_at {
        None => "before a worker was free",
        Some(_) => "and no worker has told of an end",
    };
    let message = format!(
        "the deadline {} passed {why}",
        rfc3339(row.summary.deadline)
    );
    let why = ("deadline-passed", message, FaultSource::Job);
    let event = events::end(&subject, EventKind::Expired, now, &state.instance, why);
    events::enqueue(state, &subject, &event)
}
