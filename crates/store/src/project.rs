//! One projection transaction, the same for every backend.

use std::collections::HashMap;

use async_trait::async_trait;
use tidegate_contract::JobId;

use crate::error::{Fault, StoreError};
use crate::follow_up_record::{NewFollowUp, made};
use crate::plan::{Known, ids, plan};
use crate::types::{Applied, Batch, JobRow, Position, Projected};

/// What a backend does inside the transaction.
#[async_trait]
pub(crate) trait Projecting: Send {
    /// Moves the position if it is where the batch begins, or makes it for a first batch. `false`: it is not.
    async fn move_position(&mut self, batch: &Batch) -> Result<bool, Fault>;
    async fn stored_position(&mut self, partition: i32) -> Result<Option<Position>, Fault>;
    /// Rows are read before tombstones, so that a purge in between hides no job.
    async fn known(&mut self, ids: &[JobId]) -> Result<HashMap<JobId, Known>, Fault>;
    /// Writes rows, given in the order of their ids; a row that has ended meanwhile stays as it is.
    async fn write(&mut self, rows: &[JobRow]) -> Result<(), Fault>;
    /// Makes follow-ups of rows that have just been written, those that are not there yet, and counts them.
    async fn follow(&mut self, made: &[NewFollowUp]) -> Result<u64, Fault>;
    /// `SAVEPOINT`, `RELEASE` and `ROLLBACK TO`, as given.
    async fn savepoint(&mut self, statement: &'static str) -> Result<(), Fault>;
}

/// How the rows of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// All at once.
    Together,
    /// With savepoints, so that rows which the database refuses are found and left out: the second try of a
    /// batch that was refused.
    Isolating,
}

/// Runs inside a transaction that the caller has begun, commits after `Applied`, and rolls back after anything else.
pub(crate) async fn project(
    tx: &mut impl Projecting,
    batch: &Batch,
    writing: Writing,
) -> Result<Projected, Fault> {
    if batch.next < batch.expected {
        let reason = format!(
            "a batch of partition {} ends before it begins",
            batch.partition
        );
        return Err(StoreError::Settings(reason).into());
    }
    if !tx.move_position(batch).await? {
        let stored = tx.stored_position(batch.partition).await?;
        return Ok(Projected::Stale { stored });
    }
    let mut known = tx.known(&ids(batch)).await?;
    let mut plan = plan(batch, &mut known);
    match writing {
        Writing::Together => plan.applied.follow_ups = write(tx, batch, &plan.rows).await?,
        Writing::Isolating => write_isolating(tx, batch, &plan.rows, &mut plan.applied).await?,
    }
    Ok(Projected::Applied(plan.applied))
}

/// Writes rows and what their ends cause; counts the latter.
async fn write(tx: &mut impl Projecting, batch: &Batch, rows: &[JobRow]) -> Result<u64, Fault> {
    tx.write(rows).await?;
    match made(rows, batch.follow_ups.as_ref()) {
        made if made.is_empty() => Ok(0),
        made => tx.follow(&made).await,
    }
}

/// Halves what is refused until only the refused rows are left over.
async fn write_isolating(
    tx: &mut impl Projecting,
    batch: &Batch,
    rows: &[JobRow],
    applied: &mut Applied,
) -> Result<(), Fault> {
    let mut todo = vec![rows];
    while let Some(rows) = todo.pop() {
        tx.savepoint("SAVEPOINT rows").await?;
        match write(tx, batch, rows).await {
            Ok(follow_ups) => {
                tx.savepoint("RELEASE SAVEPOINT rows").await?;
                applied.follow_ups += follow_ups;
            }
            Err(fault) => {
                let StoreError::Refused(reason) = fault.error else {
                    return Err(fault);
                };
                tx.savepoint("ROLLBACK TO SAVEPOINT rows").await?;
                tx.savepoint("RELEASE SAVEPOINT rows").await?;
                match rows {
                    [] => {}
                    [row] => applied.refused.push((row.id, reason)),
                    _ => {
                        let (left, right) = rows.split_at(rows.len() / 2);
                        todo.extend([right, left]);
                    }
                }
            }
        }
    }
    Ok(())
}
