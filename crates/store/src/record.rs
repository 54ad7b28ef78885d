//! Between a row of the table and a [`JobRow`].

use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_contract::{
    DeadLetterPlace, JobId, JobSummary, Outcome, Progress, Status, Tenant, Timings,
};
use uuid::Uuid;

use crate::error::StoreError;
use crate::plan::Known;
use crate::types::{JobRow, Lookup, Position, Retry, Tombstone};

/// The columns of `jobs`, in the order in which every statement names them.
macro_rules! columns {
    () => {
        "id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, status, attempt, \
         updated_at, started_at, ended_at, progress_percent, progress_message, progress_partial, outcome_status, \
         outcome_content_type, outcome_headers, outcome_body, error, queue_us, handler_us, next_attempt_at, \
         retry_of, error_attempt, error_at, dead_letter_partition, dead_letter_offset, events, history, \
         follow_ups"
    };
}
pub(crate) use columns;

/// The job that does this one again, once it lies in Kafka.
macro_rules! retried_as {
    () => {
        "(SELECT retries.retried_as FROM retries WHERE retries.id = jobs.id AND retries.produced) AS retried_as"
    };
}
pub(crate) use retried_as;

/// What the projection reads: all of a job that has not ended, the id and the end of others. The large columns
/// of ended jobs are not touched.
macro_rules! open_columns {
    () => {
        "id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, status, attempt, \
         updated_at, started_at, ended_at, progress_percent, progress_message, \
         CASE WHEN ended_at IS NULL THEN progress_partial END AS progress_partial, \
         NULL AS outcome_status, NULL AS outcome_content_type, NULL AS outcome_headers, NULL AS outcome_body, \
         CASE WHEN ended_at IS NULL THEN error END AS error, NULL AS queue_us, NULL AS handler_us, \
         next_attempt_at, retry_of, error_attempt, error_at, dead_letter_partition, dead_letter_offset, \
         events, CASE WHEN ended_at IS NULL THEN history END AS history, \
         CASE WHEN ended_at IS NULL THEN follow_ups END AS follow_ups, NULL AS retried_as"
    };
}
pub(crate) use open_columns;

/// The same of jobs that have not ended, for many at once: without anything large.
macro_rules! brief_columns {
    () => {
        "id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, status, attempt, \
         updated_at, started_at, ended_at, NULL AS progress_percent, NULL AS progress_message, \
         NULL AS progress_partial, NULL AS outcome_status, NULL AS outcome_content_type, NULL AS outcome_headers, \
         NULL AS outcome_body, NULL AS error, NULL AS queue_us, NULL AS handler_us, next_attempt_at, retry_of, \
         NULL AS error_attempt, NULL AS error_at, NULL AS dead_letter_partition, NULL AS dead_letter_offset, \
         events, NULL AS history, follow_ups, NULL AS retried_as"
    };
}
pub(crate) use brief_columns;

/// What a list shows of a row. What only the end of a large row tells is read of open jobs alone, which have no result.
macro_rules! listed_columns {
    () => {
        "id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, status, attempt, \
         updated_at, started_at, ended_at, NULL AS progress_percent, NULL AS progress_message, \
         NULL AS progress_partial, NULL AS outcome_status, NULL AS outcome_content_type, NULL AS outcome_headers, \
         NULL AS outcome_body, NULL AS error, NULL AS queue_us, NULL AS handler_us, \
         CASE WHEN ended_at IS NULL THEN next_attempt_at END AS next_attempt_at, NULL AS retry_of, \
         NULL AS error_attempt, NULL AS error_at, NULL AS dead_letter_partition, NULL AS dead_letter_offset, \
         CAST(0 AS BIGINT) AS events, NULL AS history, NULL AS follow_ups, NULL AS retried_as"
    };
}
pub(crate) use listed_columns;

/// One row of the table `jobs`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Record {
    pub id: Uuid,
    #[sqlx(rename = "type")]
    pub job_type: String,
    pub pool: String,
    pub tier: String,
    pub tenant: String,
    pub created_at: i64,
    pub deadline: i64,
    pub trace_id: Option<String>,
    pub reply_partition: i32,
    pub status: String,
    pub attempt: i32,
    pub updated_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub progress_percent: Option<f64>,
    pub progress_message: Option<String>,
    pub progress_partial: Option<Vec<u8>>,
    pub outcome_status: Option<i32>,
    pub outcome_content_type: Option<String>,
    pub outcome_headers: Option<String>,
    pub outcome_body: Option<Vec<u8>>,
    pub error: Option<String>,
    pub queue_us: Option<i64>,
    pub handler_us: Option<i64>,
    pub next_attempt_at: Option<i64>,
    pub retry_of: Option<Uuid>,
    pub error_attempt: Option<i32>,
    pub error_at: Option<i64>,
    pub dead_letter_partition: Option<i32>,
    pub dead_letter_offset: Option<i64>,
    pub follow_ups: Option<String>,
    pub retried_as: Option<Uuid>,
    pub events: i64,
    pub history: Option<String>,
}

fn corrupt(id: Uuid, column: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} of job {id} does not read back"))
}

fn parsed<T: std::str::FromStr>(id: Uuid, column: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| corrupt(id, column))
}

fn job_id(id: Uuid, column: &str, value: Option<Uuid>) -> Result<Option<JobId>, StoreError> {
    let read = |value| JobId::try_from(value).map_err(|_| corrupt(id, column));
    value.map(read).transpose()
}

fn json<T: DeserializeOwned>(id: Uuid, column: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| corrupt(id, column))
}

impl TryFrom<Record> for JobRow {
    type Error = StoreError;

    fn try_from(record: Record) -> Result<Self, StoreError> {
        let id = record.id;
        let outcome = match record.outcome_status {
            None => None,
            Some(status) => Some(Outcome {
                status,
                content_type: record.outcome_content_type,
                headers: match &record.outcome_headers {
                    None => Vec::new(),
                    Some(text) => json(id, "outcome_headers", text)?,
                },
                body: Bytes::from(record.outcome_body.unwrap_or_default()),
            }),
        };
        let timings = match (record.queue_us, record.handler_us) {
            (Some(queue_us), Some(handler_us)) => Some(Timings {
                queue_us,
                handler_us,
            }),
            _ => None,
        };
        Ok(JobRow {
            id: JobId::try_from(id).map_err(|_| corrupt(id, "id"))?,
            summary: JobSummary {
                job_type: parsed(id, "type", &record.job_type)?,
                pool: parsed(id, "pool", &record.pool)?,
                tier: parsed(id, "tier", &record.tier)?,
                tenant: parsed(id, "tenant", &record.tenant)?,
                created_at: record.created_at,
                deadline: record.deadline,
                trace_id: record.trace_id,
                retry_of: job_id(id, "retry_of", record.retry_of)?,
                follow_ups: match &record.follow_ups {
                    None => Vec::new(),
                    Some(text) => json(id, "follow_ups", text)?,
                },
            },
            reply_partition: record.reply_partition,
            status: parsed(id, "status", &record.status)?,
            attempt: record.attempt,
            updated_at: record.updated_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
            progress: record.progress_percent.map(|percent| Progress {
                percent,
                message: record.progress_message,
                partial: record.progress_partial.map(Bytes::from),
            }),
            outcome,
            error: match &record.error {
                None => None,
                Some(text) => Some(json(id, "error", text)?),
            },
            timings,
            next_attempt_at: record.next_attempt_at,
            error_attempt: record.error_attempt,
            error_at: record.error_at,
            dead_letter: match (record.dead_letter_partition, record.dead_letter_offset) {
                (Some(partition), Some(offset)) => Some(DeadLetterPlace { partition, offset }),
                _ => None,
            },
            retried_as: job_id(id, "retried_as", record.retried_as)?,
            events: record.events,
            history: match &record.history {
                None => Vec::new(),
                Some(text) => json(id, "history", text)?,
            },
        })
    }
}

/// The values of a row that are written as JSON.
pub(crate) struct JsonTexts {
    pub outcome_headers: Option<String>,
    pub error: Option<String>,
    pub follow_ups: Option<String>,
    pub history: Option<String>,
}

impl JsonTexts {
    pub(crate) fn of(row: &JobRow) -> Result<Self, StoreError> {
        let outcome = row.outcome.as_ref();
        let follow_ups = Some(&row.summary.follow_ups).filter(|specs| !specs.is_empty());
        let history = Some(&row.history).filter(|entries| !entries.is_empty());
        Ok(Self {
            outcome_headers: text(row, outcome.map(|outcome| &outcome.headers))?,
            error: text(row, row.error.as_ref())?,
            follow_ups: text(row, follow_ups)?,
            history: text(row, history)?,
        })
    }
}

fn text(row: &JobRow, value: Option<&impl Serialize>) -> Result<Option<String>, StoreError> {
    let text = value.map(serde_json::to_string).transpose();
    text.map_err(|_| StoreError::Refused(format!("job {} cannot be written as JSON", row.id)))
}

/// How a folded row meets a row that is there: made by an insert while the fold went on, or read by the fold. What
/// an insert may have added stays; a row that has ended stays as it is.
macro_rules! on_conflict {
    () => {
        "ON CONFLICT (id) DO UPDATE SET trace_id = COALESCE(jobs.trace_id, excluded.trace_id), \
         status = excluded.status, attempt = excluded.attempt, updated_at = excluded.updated_at, \
         started_at = excluded.started_at, ended_at = excluded.ended_at, \
         progress_percent = excluded.progress_percent, progress_message = excluded.progress_message, \
         progress_partial = excluded.progress_partial, outcome_status = excluded.outcome_status, \
         outcome_content_type = excluded.outcome_content_type, outcome_headers = excluded.outcome_headers, \
         outcome_body = excluded.outcome_body, error = excluded.error, queue_us = excluded.queue_us, \
         handler_us = excluded.handler_us, next_attempt_at = excluded.next_attempt_at, \
         retry_of = COALESCE(jobs.retry_of, excluded.retry_of), error_attempt = excluded.error_attempt, \
         error_at = excluded.error_at, dead_letter_partition = excluded.dead_letter_partition, \
         dead_letter_offset = excluded.dead_letter_offset, events = excluded.events, \
         history = excluded.history, \
         follow_ups = COALESCE(jobs.follow_ups, excluded.follow_ups) WHERE jobs.ended_at IS NULL"
    };
}
pub(crate) use on_conflict;

/// How the row of an accepted job meets one that an event has made: it adds what that did not know.
macro_rules! on_known {
    () => {
        "ON CONFLICT (id) DO UPDATE SET trace_id = COALESCE(jobs.trace_id, excluded.trace_id), \
         follow_ups = COALESCE(jobs.follow_ups, excluded.follow_ups) \
         WHERE jobs.ended_at IS NULL AND (jobs.trace_id IS NULL AND excluded.trace_id IS NOT NULL \
         OR jobs.follow_ups IS NULL AND excluded.follow_ups IS NOT NULL)"
    };
}
pub(crate) use on_known;

/// What the projection needs to know of rows that it has read with [`open_columns`]. Rows whose id is none of a job
/// were never asked for.
pub(crate) fn known_rows(records: Vec<Record>) -> HashMap<JobId, Known> {
    let known = records.into_iter().filter_map(|record| {
        let id = JobId::try_from(record.id).ok()?;
        let known = if record.ended_at.is_some() {
            Known::Ended
        } else {
            match JobRow::try_from(record) {
                Ok(row) => Known::Open(Box::new(row)),
                Err(error) => Known::Unreadable(error.to_string()),
            }
        };
        Some((id, known))
    });
    known.collect()
}

/// Rows as they read back; one that does not is somebody else's trouble, and says so there.
pub(crate) fn readable(records: Vec<Record>) -> Vec<JobRow> {
    let rows = records.into_iter().map(JobRow::try_from);
    rows.filter_map(|row| {
        row.inspect_err(|error| tracing::warn!(%error, "row passed over"))
            .ok()
    })
    .collect()
}

impl JobRow {
    /// Roughly how many bytes of unbounded values a write of the row carries.
    pub(crate) fn weight(&self) -> usize {
        let partial = self.progress.as_ref().and_then(|it| it.partial.as_ref());
        let pieces = self.history.iter().filter_map(|it| it.partial.as_ref());
        partial.map_or(0, Bytes::len)
            + self.outcome.as_ref().map_or(0, |it| it.body.len())
            + pieces.map(String::len).sum::<usize>()
    }
}

impl Lookup {
    /// The tombstone with that status and tenant, or nothing at all.
    pub(crate) fn tombstone(found: Option<(String, Option<String>)>) -> Result<Self, StoreError> {
        let Some((status, tenant)) = found else {
            return Ok(Lookup::Absent);
        };
        let corrupt = |what: &str| StoreError::Corrupt(format!("a tombstone has no known {what}"));
        let tenant = tenant.map(|tenant| tenant.parse().map_err(|_| corrupt("tenant")));
        Ok(Lookup::Tombstone(Tombstone {
            status: status.parse().map_err(|_| corrupt("status"))?,
            tenant: tenant.transpose()?,
        }))
    }
}

/// Counts of rows under their statuses.
pub(crate) fn statuses(counts: Vec<(String, i64)>) -> Result<Vec<(Status, u64)>, StoreError> {
    let read = |(status, count): (String, i64)| {
        let status = status.parse().map_err(|_| {
            StoreError::Corrupt(format!("`{status}` in column status of jobs is none"))
        })?;
        Ok((status, u64::try_from(count).unwrap_or_default()))
    };
    counts.into_iter().map(read).collect()
}

/// Counts of rows under their tenants.
pub(crate) fn tenants(counts: Vec<(String, i64)>) -> Result<Vec<(Tenant, u64)>, StoreError> {
    let read = |(tenant, count): (String, i64)| {
        let tenant = tenant
            .parse()
            .map_err(|error| StoreError::Corrupt(format!("column tenant of jobs: {error}")))?;
        Ok((tenant, u64::try_from(count).unwrap_or_default()))
    };
    counts.into_iter().map(read).collect()
}

impl TryFrom<(Uuid, i32, bool, i64)> for Retry {
    type Error = StoreError;

    fn try_from(
        (job, reply_partition, produced, at): (Uuid, i32, bool, i64),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            job: JobId::try_from(job).map_err(|_| corrupt(job, "retried_as"))?,
            reply_partition,
            produced,
            at,
        })
    }
}

impl From<(String, i64, Vec<u8>)> for Position {
    fn from((cluster_id, next_offset, last_key): (String, i64, Vec<u8>)) -> Self {
        Self {
            cluster_id,
            next_offset,
            last_key: String::from_utf8_lossy(&last_key).into_owned(),
        }
    }
}
