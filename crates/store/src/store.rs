//! The interface that every backend implements.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tidegate_contract::{JobId, Millis, Status};

use crate::error::StoreError;
use crate::types::{Batch, JobRow, Lookup, NewJob, Position, Projected, Purged};

/// The status store. Every call ends within the configured time; every write may be repeated, and a call that is
/// dropped half-way leaves nothing half-written.
#[async_trait]
pub trait Store: Send + Sync {
    /// Connects and brings the tables up to date. May be called again, also by several processes at once.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Asks for a sign of life.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Makes rows of jobs that have none. A row that exists keeps its state and is only told facts that it
    /// lacks; a purged job stays purged.
    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError>;

    /// What is known of a job.
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError>;

    /// How far a partition has been projected; `None` if nobody has begun.
    async fn position(&self, partition: i32) -> Result<Option<Position>, StoreError>;

    /// Applies a batch of events and moves the partition's position, both or neither.
    async fn project(&self, batch: Batch) -> Result<Projected, StoreError>;

    /// Notes for partitions that everything produced before that time has been applied. A time before the one
    /// already noted changes nothing.
    async fn mark_caught_up(&self, partitions: &[(i32, Millis)]) -> Result<(), StoreError>;

    /// For every partition that has a position or a mark: the time that was marked.
    async fn caught_up_by_partition(&self) -> Result<BTreeMap<i32, Option<Millis>>, StoreError>;

    /// The time before which everything produced has been applied on all partitions that the store knows of;
    /// `None` if it knows of none, or if one was never marked.
    async fn caught_up(&self) -> Result<Option<Millis>, StoreError> {
        let marks = self.caught_up_by_partition().await?;
        // `None` sorts before every time.
        Ok(marks.into_values().min().flatten())
    }

    /// Whether nothing at all is stored: no job, no tombstone, no position.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// How many rows there are of each status that occurs. Reads the whole table.
    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError>;

    /// Removes what is older than the settings say, at most `limit` rows and `limit` tombstones a call.
    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError>;

    /// `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;

    /// Closes all connections. Later calls fail.
    async fn close(&self);
}

/// A row, if that is what was found.
impl Lookup {
    pub fn row(self) -> Option<JobRow> {
        match self {
            Lookup::Row(row) => Some(*row),
            Lookup::Tombstone(_) | Lookup::Absent => None,
        }
    }
}
