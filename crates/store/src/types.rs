//! What goes into the store and what comes out of it.

use std::collections::HashMap;

use tidegate_contract::{
    DeadLetterPlace, JobError, JobEvent, JobId, JobSummary, Millis, Outcome, Progress, Status,
    Tenant, Timings,
};

use crate::history::HistoryEntry;

/// A job that was just accepted: its row begins as `pending`, or as `scheduled` if it is to wait.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub id: JobId,
    pub summary: JobSummary,
    pub reply_partition: i32,
    /// The first attempt is not to begin before this.
    pub not_before: Option<Millis>,
}

/// An ended job that is to be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRetry {
    pub of: JobId,
    /// The job that does it again.
    pub job: JobId,
    /// Of that job.
    pub reply_partition: i32,
    pub at: Millis,
}

/// How an ended job is done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub job: JobId,
    pub reply_partition: i32,
    /// The job is known to lie in Kafka.
    pub produced: bool,
    /// When it was claimed.
    pub at: Millis,
}

/// All that is kept of a job. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    pub id: JobId,
    pub summary: JobSummary,
    /// Where the job's events lie on the replies topic.
    pub reply_partition: i32,
    pub status: Status,
    /// The highest attempt that any event told of; 0 before the first.
    pub attempt: i32,
    /// The latest time that any event told of.
    pub updated_at: Millis,
    /// When the first attempt began.
    pub started_at: Option<Millis>,
    /// Set exactly when `status` is terminal.
    pub ended_at: Option<Millis>,
    /// The last report; kept after the end.
    pub progress: Option<Progress>,
    /// What the terminal event carried, as `timings` and `dead_letter`.
    pub outcome: Option<Outcome>,
    /// Of the last failed attempt, until the job completes.
    pub error: Option<JobError>,
    /// Which attempt that was, and when.
    pub error_attempt: Option<i32>,
    pub error_at: Option<Millis>,
    pub timings: Option<Timings>,
    /// While it is scheduled or waits for another attempt.
    pub next_attempt_at: Option<Millis>,
    pub dead_letter: Option<DeadLetterPlace>,
    /// The job that does this one again.
    pub retried_as: Option<JobId>,
    /// How many events the job had between its creation and its end.
    pub events: i64,
    /// The latest of them. Lists of many jobs leave both out.
    pub history: Vec<HistoryEntry>,
}

/// What the store knows of an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    Row(Box<JobRow>),
    /// The row was purged.
    Tombstone(Tombstone),
    Absent,
}

/// What is left of a purged job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The last status; not terminal if the job never ended.
    pub status: Status,
    /// Whose job it was; `None` where it was purged by a version that did not note it.
    pub tenant: Option<Tenant>,
}

/// How far a partition of the replies topic has been projected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The Kafka cluster that the offsets belong to.
    pub cluster_id: String,
    /// The offset of the first record that has not been applied.
    pub next_offset: i64,
    /// The key of the record before it, so that a recreated topic is noticed.
    pub last_key: String,
}

/// Consecutive records of one partition, to be applied as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub partition: i32,
    pub cluster_id: String,
    /// The offset at which the batch begins: it is applied only if the stored position is this one.
    pub expected: i64,
    /// The offset after its last record.
    pub next: i64,
    /// The key of its last record.
    pub last_key: String,
    /// The caller found no position for the partition and begins where the log begins. Only such a batch may
    /// make a position; any other finds a store that was emptied under it and is told so.
    pub first: bool,
    /// In the order of the log. Records that could not be read are missing here and passed over.
    pub events: Vec<JobEvent>,
    /// What the follow-ups of jobs that end with this batch are made with. `None`: none are made, because somebody has
    /// been told of these ends long ago.
    pub follow_ups: Option<Making>,
}

/// What a batch gives to the follow-ups that it makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Making {
    /// When they are made, and due.
    pub at: Millis,
    /// The `traceparent` of the event that ended a job, as far as it is known.
    pub traces: HashMap<JobId, String>,
}

/// What became of a [`Batch`].
#[derive(Clone, Debug, PartialEq)]
pub enum Projected {
    Applied(Applied),
    /// Nothing was changed: somebody else was faster, or the position belongs to another cluster. `None` if the
    /// partition has no position and the batch did not say that it is the first.
    Stale {
        stored: Option<Position>,
    },
}

/// Counts of an applied batch, in events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Came after the end of their job and were dropped.
    pub late: u64,
    /// Belong to a purged job and were dropped.
    pub buried: u64,
    /// Of a kind that this version does not know.
    pub skipped: u64,
    /// Jobs whose rows the database refused for good, and why: their events in this batch are passed over, the
    /// others are applied.
    pub refused: Vec<(JobId, String)>,
    /// Follow-ups that were made.
    pub follow_ups: u64,
}

/// What one call of [`crate::Store::purge`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Rows of ended jobs that became tombstones.
    pub rows: u64,
    /// Rows of jobs that never ended and became tombstones long after their deadline.
    pub unfinished: u64,
    /// Tombstones that were removed.
    pub tombstones: u64,
    /// Notes of jobs that were done again, long ago.
    pub retries: u64,
    /// Idempotency keys whose job was never seen, long after its deadline. Those of jobs go with the jobs' rows.
    pub keys: u64,
    /// What was kept of endpoints that nobody uses any more.
    pub endpoints: u64,
    /// The limit was reached: call again.
    pub more: bool,
}
