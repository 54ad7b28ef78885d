//! The statements. Batches travel as many rows of values in one statement.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use tidegate_contract::{JobId, Millis, Status, Tenant};
use uuid::Uuid;

use super::follow_ups;
use crate::error::{Fault, StoreError};
use crate::follow_up_record::NewFollowUp;
use crate::merge::pending;
use crate::plan::Known;
use crate::project::Projecting;
use crate::record::{
    JsonTexts, Record, brief_columns, columns, known_rows, on_conflict, on_known, open_columns,
    readable, retried_as, statuses, tenants,
};
use crate::types::{Batch, JobRow, Lookup, NewJob, NewRetry, Position, Retry};

/// Rows of one statement at most: enough that running it does not count, far below the limit on values. A statement
/// has a power of two of them, so that a few statements do for all batches and stay prepared: preparing one anew takes
/// longer than running it.
const ROWS: usize = 64;

/// The rows in portions of as many as statements have.
fn portions<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let most = rows.len().checked_ilog2()?;
        let portion;
        (portion, rows) = rows.split_at((1 << most).min(ROWS));
        Some(portion)
    })
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    jobs: &[NewJob],
) -> Result<(), Fault> {
    let jobs: BTreeMap<JobId, JobRow> = jobs.iter().map(|job| (job.id, pending(job))).collect();
    let jobs: Vec<JobRow> = jobs.into_values().collect();
    for jobs in portions(&jobs) {
        let mut sql = QueryBuilder::<Sqlite>::new(concat!(
            "INSERT INTO jobs (id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, ",
            "status, attempt, updated_at, next_attempt_at, retry_of, follow_ups) SELECT * FROM (",
        ));
        let texts = jobs.iter().map(JsonTexts::of);
        let texts = texts.collect::<Result<Vec<_>, StoreError>>()?;
        sql.push_values(jobs.iter().zip(texts), |mut values, (job, texts)| {
            values
                .push_bind(job.id.as_uuid())
                .push_bind(job.summary.job_type.as_str())
                .push_bind(job.summary.pool.as_str())
                .push_bind(job.summary.tier.as_str())
                .push_bind(job.summary.tenant.as_str())
                .push_bind(job.summary.created_at)
                .push_bind(job.summary.deadline)
                .push_bind(job.summary.trace_id.as_deref())
                .push_bind(job.reply_partition)
                .push_bind(job.status.as_str())
                .push_bind(job.attempt)
                .push_bind(job.updated_at)
                .push_bind(job.next_attempt_at)
                .push_bind(job.summary.retry_of.as_ref().map(JobId::as_uuid))
                .push_bind(texts.follow_ups);
        });
        sql.push(") WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE id = column1) ");
        sql.push(on_known!());
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn job(connection: &mut SqliteConnection, id: JobId) -> Result<Lookup, Fault> {
    let record = sqlx::query_as::<_, Record>(concat!(
        "SELECT ",
        columns!(),
        ", ",
        retried_as!(),
        " FROM jobs WHERE id = ?1"
    ))
    .bind(id.as_uuid())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(record) = record {
        return Ok(Lookup::Row(Box::new(record.try_into()?)));
    }
    let found = sqlx::query_as("SELECT status, tenant FROM tombstones WHERE id = ?1")
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    Ok(Lookup::tombstone(found)?)
}

pub(super) async fn claim_retry(
    connection: &mut SqliteConnection,
    retry: NewRetry,
) -> Result<Option<Retry>, Fault> {
    let made = sqlx::query(concat!(
        "INSERT INTO retries (id, retried_as, reply_partition, produced, created_at) ",
        "VALUES (?1, ?2, ?3, 0, ?4) ON CONFLICT (id) DO NOTHING",
    ))
    .bind(retry.of.as_uuid())
    .bind(retry.job.as_uuid())
    .bind(retry.reply_partition)
    .bind(retry.at)
    .execute(&mut *connection)
    .await?;
    match made.rows_affected() {
        0 => self::retry(connection, retry.of).await,
        _ => Ok(None),
    }
}

pub(super) async fn retry_produced(
    connection: &mut SqliteConnection,
    of: JobId,
    job: JobId,
) -> Result<(), Fault> {
    sqlx::query("UPDATE retries SET produced = 1 WHERE id = ?1 AND retried_as = ?2")
        .bind(of.as_uuid())
        .bind(job.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn retry(
    connection: &mut SqliteConnection,
    of: JobId,
) -> Result<Option<Retry>, Fault> {
    let row = sqlx::query_as::<_, (Uuid, i32, bool, Millis)>(
        "SELECT retried_as, reply_partition, produced, created_at FROM retries WHERE id = ?1",
    )
    .bind(of.as_uuid())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Retry::try_from).transpose()?)
}

pub(super) async fn overdue(
    connection: &mut SqliteConnection,
    deadline: Millis,
    after: Option<(Millis, JobId)>,
    limit: u32,
) -> Result<Vec<JobRow>, Fault> {
    let (passed, id) = after.map_or((Millis::MIN, Uuid::nil()), |(at, id)| (at, id.as_uuid()));
    let records = sqlx::query_as::<_, Record>(concat!(
        "SELECT ",
        brief_columns!(),
        " FROM jobs WHERE ended_at IS NULL AND deadline <= ?1 AND (deadline, id) > (?2, ?3) ",
        "ORDER BY deadline, id LIMIT ?4"
    ))
    .bind(deadline)
    .bind(passed)
    .bind(id)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    Ok(readable(records))
}

pub(super) async fn position(
    connection: &mut SqliteConnection,
    partition: i32,
) -> Result<Option<Position>, Fault> {
    let row = sqlx::query_as::<_, (String, i64, Vec<u8>)>(
        "SELECT cluster_id, next_offset, last_key FROM projections WHERE partition = ?1",
    )
    .bind(partition)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Position::from))
}

/// The Kafka clusters that positions are of.
pub(super) async fn clusters(connection: &mut SqliteConnection) -> Result<Vec<String>, Fault> {
    let sql = "SELECT DISTINCT cluster_id FROM projections ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(connection).await?)
}

pub(super) async fn mark_caught_up(
    connection: &mut SqliteConnection,
    partitions: &[(i32, Millis)],
) -> Result<(), Fault> {
    for (partition, at) in partitions {
        sqlx::query(concat!(
            "INSERT INTO caught_up (partition, at) VALUES (?1, ?2) ",
            "ON CONFLICT (partition) DO UPDATE SET at = excluded.at WHERE caught_up.at < excluded.at",
        ))
        .bind(partition)
        .bind(at)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) async fn caught_up(
    connection: &mut SqliteConnection,
) -> Result<BTreeMap<i32, Option<Millis>>, Fault> {
    let marks = sqlx::query_as::<_, (i32, Option<Millis>)>(concat!(
        "SELECT partition, max(at) FROM (",
        "SELECT partition, NULL AS at FROM projections UNION ALL SELECT partition, at FROM caught_up",
        ") GROUP BY partition",
    ))
    .fetch_all(connection)
    .await?;
    Ok(marks.into_iter().collect())
}

pub(super) async fn holds_something(connection: &mut SqliteConnection) -> Result<bool, Fault> {
    let found: i64 = sqlx::query_scalar(concat!(
        "SELECT EXISTS (SELECT 1 FROM jobs) OR EXISTS (SELECT 1 FROM tombstones) ",
        "OR EXISTS (SELECT 1 FROM projections) OR EXISTS (SELECT 1 FROM idempotency_keys)",
    ))
    .fetch_one(connection)
    .await?;
    Ok(found != 0)
}

pub(super) async fn by_status(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Status, u64)>, Fault> {
    let counts = sqlx::query_as::<_, (String, i64)>(
        "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status",
    )
    .fetch_all(connection)
    .await?;
    Ok(statuses(counts)?)
}

pub(super) async fn unfinished(
    connection: &mut SqliteConnection,
) -> Result<Vec<(Tenant, u64)>, Fault> {
    let counts = sqlx::query_as::<_, (String, i64)>(
        "SELECT tenant, count(*) FROM jobs WHERE ended_at IS NULL GROUP BY tenant",
    )
    .fetch_all(connection)
    .await?;
    Ok(tenants(counts)?)
}

#[async_trait]
impl Projecting for SqliteConnection {
    async fn move_position(&mut self, batch: &Batch) -> Result<bool, Fault> {
        let moved = sqlx::query(concat!(
            "UPDATE projections SET next_offset = ?1, last_key = ?2 ",
            "WHERE partition = ?3 AND next_offset = ?4 AND cluster_id = ?5",
        ))
        .bind(batch.next)
        .bind(batch.last_key.as_bytes())
        .bind(batch.partition)
        .bind(batch.expected)
        .bind(batch.cluster_id.as_str())
        .execute(&mut *self)
        .await?;
        if moved.rows_affected() > 0 || !batch.first {
            return Ok(moved.rows_affected() > 0);
        }
        let made = sqlx::query(concat!(
            "INSERT INTO projections (partition, cluster_id, next_offset, last_key) VALUES (?1, ?2, ?3, ?4) ",
            "ON CONFLICT (partition) DO NOTHING",
        ))
        .bind(batch.partition)
        .bind(batch.cluster_id.as_str())
        .bind(batch.next)
        .bind(batch.last_key.as_bytes())
        .execute(&mut *self)
        .await?;
        Ok(made.rows_affected() > 0)
    }

    async fn stored_position(&mut self, partition: i32) -> Result<Option<Position>, Fault> {
        position(self, partition).await
    }

    async fn known(&mut self, ids: &[JobId]) -> Result<HashMap<JobId, Known>, Fault> {
        let mut known = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(ROWS) {
            let rows = concat!("SELECT ", open_columns!(), " FROM jobs WHERE id IN (");
            let records = among(rows, ids)
                .build_query_as::<Record>()
                .fetch_all(&mut *self)
                .await?;
            let buried = among("SELECT id FROM tombstones WHERE id IN (", ids)
                .build_query_scalar::<Uuid>()
                .fetch_all(&mut *self)
                .await?;
            let buried = buried.into_iter().filter_map(|id| JobId::try_from(id).ok());
            known.extend(buried.map(|id| (id, Known::Buried)));
            known.extend(known_rows(records));
        }
        Ok(known)
    }

    async fn write(&mut self, rows: &[JobRow]) -> Result<(), Fault> {
        for rows in portions(rows) {
            upsert(self, rows).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, made: &[NewFollowUp]) -> Result<u64, Fault> {
        follow_ups::make(self, made).await
    }

    async fn savepoint(&mut self, statement: &'static str) -> Result<(), Fault> {
        sqlx::raw_sql(statement).execute(self).await?;
        Ok(())
    }
}

/// The statement with the ids and a closing bracket behind it. The last id is said again until they are a power of two.
fn among(statement: &'static str, ids: &[JobId]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(statement);
    let mut list = sql.separated(", ");
    let again = ids.len().next_power_of_two() - ids.len();
    for id in ids
        .iter()
        .chain(std::iter::repeat_n(ids, again).filter_map(|ids| ids.last()))
    {
        list.push_bind(id.as_uuid());
    }
    sql.push(")");
    sql
}

async fn upsert(connection: &mut SqliteConnection, rows: &[JobRow]) -> Result<(), Fault> {
    let texts = rows
        .iter()
        .map(JsonTexts::of)
        .collect::<Result<Vec<_>, StoreError>>()?;
    let mut sql = QueryBuilder::<Sqlite>::new(concat!("INSERT INTO jobs (", columns!(), ") "));
    sql.push_values(rows.iter().zip(texts), |mut values, (row, texts)| {
        let progress = row.progress.as_ref();
        let outcome = row.outcome.as_ref();
        values
            .push_bind(row.id.as_uuid())
            .push_bind(row.summary.job_type.as_str())
            .push_bind(row.summary.pool.as_str())
            .push_bind(row.summary.tier.as_str())
            .push_bind(row.summary.tenant.as_str())
            .push_bind(row.summary.created_at)
            .push_bind(row.summary.deadline)
            .push_bind(row.summary.trace_id.as_deref())
            .push_bind(row.reply_partition)
            .push_bind(row.status.as_str())
            .push_bind(row.attempt)
            .push_bind(row.updated_at)
            .push_bind(row.started_at)
            .push_bind(row.ended_at)
            .push_bind(progress.map(|it| it.percent))
            .push_bind(progress.and_then(|it| it.message.as_deref()))
            .push_bind(progress.and_then(|it| it.partial.as_deref()))
            .push_bind(outcome.map(|it| it.status))
            .push_bind(outcome.and_then(|it| it.content_type.as_deref()))
            .push_bind(texts.outcome_headers)
            .push_bind(outcome.map(|it| &it.body[..]))
            .push_bind(texts.error)
            .push_bind(row.timings.map(|it| it.queue_us))
            .push_bind(row.timings.map(|it| it.handler_us))
            .push_bind(row.next_attempt_at)
            .push_bind(row.summary.retry_of.as_ref().map(JobId::as_uuid))
            .push_bind(row.error_attempt)
            .push_bind(row.error_at)
            .push_bind(row.dead_letter.map(|it| it.partition))
            .push_bind(row.dead_letter.map(|it| it.offset))
            .push_bind(row.events)
            .push_bind(texts.history)
            .push_bind(texts.follow_ups);
    });
    sql.push(" ");
    sql.push(on_conflict!());
    sql.build().execute(connection).await?;
    Ok(())
}
