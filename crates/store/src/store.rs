//! The interface that every backend implements.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use tidegate_contract::{JobId, Millis, Status, Tenant};

use crate::error::StoreError;
use crate::follow_ups::FollowUps;
use crate::inspect::Inspection;
use crate::keys::{Glimpse, NewKey, Reserved};
use crate::listing::{Listed, Listing};
use crate::types::{Batch, JobRow, Lookup, NewJob, NewRetry, Position, Projected, Purged, Retry};

/// The status store. Every call ends within the configured time; every write may be repeated, and a call that is
/// dropped half-way leaves nothing half-written.
#[async_trait]
pub trait Store: FollowUps {
    /// Connects and brings the tables up to date. May be called again, also by several processes at once.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Looks at the database as it is, without making or changing anything; needs no [`Store::prepare`].
    async fn inspect(&self) -> Result<Inspection, StoreError>;

    /// Asks for a sign of life.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Makes rows of jobs that have none. A row that exists keeps its state and is only told facts that it
    /// lacks; a purged job stays purged.
    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError>;

    /// What is known of a job.
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError>;

    /// A page of jobs, newest first. However little the filter takes, a bounded number of rows is looked at.
    async fn list(&self, listing: &Listing) -> Result<Listed, StoreError>;

    /// Turns the row of an ended job into a tombstone now, as the purge does it later; its idempotency key goes with it.
    /// `false`: there is no such row, or the job has not ended.
    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError>;

    /// Claims an ended job for the one that is to do it again. `None`: it is claimed. Otherwise somebody was first, and
    /// this is what they made of it.
    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError>;

    /// Notes that the job which does another one again lies in Kafka.
    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError>;

    /// How an ended job is done again, if it is.
    async fn retry(&self, of: JobId) -> Result<Option<Retry>, StoreError>;

    /// Takes an idempotency key for a job, or says whose it is. A reservation older than `lease` milliseconds, of whose
    /// job nothing was seen, changes hands. Between several callers one gets [`Reserved::New`] or [`Reserved::Again`].
    async fn reserve(
        &self,
        key: &NewKey,
        now: Millis,
        lease: Millis,
    ) -> Result<Reserved, StoreError>;

    /// The job of a key is in Kafka: makes its row if it has none, and notes that on the key.
    async fn produced(&self, job: &NewJob) -> Result<(), StoreError>;

    /// Gives a reservation up, which was made at `reserved_at`: nobody produces the job any more. With `forget` it was
    /// certainly never produced, and the key is free; without, the next caller gets [`Reserved::Again`] at once. Nothing
    /// happens if somebody else has taken the key over, or a row shows that there is a job.
    async fn release(&self, id: JobId, reserved_at: Millis, forget: bool)
    -> Result<(), StoreError>;

    /// How jobs and their keys stand, for those of which there is anything. Cheap, for whoever watches many.
    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError>;

    /// Jobs that have not ended and whose deadline is this or an earlier one, by deadline and id, those behind `after`
    /// only; at most `limit`. Partial results are left out.
    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError>;

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

    /// Whether nothing at all is stored: no job, no tombstone, no key, no position.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// How many rows there are of each status that occurs. Reads the whole table.
    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError>;

    /// How many jobs without an end each tenant has that has any. Reads their part of an index.
    async fn unfinished_by_tenant(&self) -> Result<Vec<(Tenant, u64)>, StoreError>;

    /// Removes what is older than the settings say, at most `limit` rows, tombstones, notes of retries and keys each a call.
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
