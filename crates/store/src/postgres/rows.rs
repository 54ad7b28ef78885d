//! The statements. Batches travel as one array a column, so that each is one statement whatever its size.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use sqlx::PgConnection;
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

/// Rows that one statement writes at most, and bytes of bodies after which it takes no more of them.
const ROWS: usize = 500;
const BYTES: usize = 8 << 20;

pub(super) async fn insert(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<(), Fault> {
    // One statement may not meet a row twice; the order of ids is the order of locks.
    let jobs: BTreeMap<JobId, JobRow> = jobs.iter().map(|job| (job.id, pending(job))).collect();
    let jobs: Vec<JobRow> = jobs.into_values().collect();
    for jobs in jobs.chunks(ROWS) {
        let texts = jobs.iter().map(JsonTexts::of);
        let texts = texts.map(|texts| Ok(texts?.follow_ups));
        let texts = texts.collect::<Result<Vec<_>, StoreError>>()?;
        sqlx::query(concat!(
            "INSERT INTO jobs (id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, ",
            "status, next_attempt_at, retry_of, follow_ups, attempt, updated_at) ",
            "SELECT n.*, 0, n.created_at ",
            "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], ",
            "$8::text[], $9::integer[], $10::text[], $11::bigint[], $12::uuid[], $13::text[]) ",
            "AS n (id, type, pool, tier, tenant, created_at, deadline, trace_id, reply_partition, status, ",
            "next_attempt_at, retry_of, follow_ups) ",
            "WHERE NOT EXISTS (SELECT FROM tombstones WHERE tombstones.id = n.id) ",
            "ORDER BY n.id ",
            on_known!(),
        ))
        .bind(column(jobs, |job| job.id.as_uuid()))
        .bind(column(jobs, |job| job.summary.job_type.as_str()))
        .bind(column(jobs, |job| job.summary.pool.as_str()))
        .bind(column(jobs, |job| job.summary.tier.as_str()))
        .bind(column(jobs, |job| job.summary.tenant.as_str()))
        .bind(column(jobs, |job| job.summary.created_at))
        .bind(column(jobs, |job| job.summary.deadline))
        .bind(column(jobs, |job| job.summary.trace_id.as_deref()))
        .bind(column(jobs, |job| job.reply_partition))
        .bind(column(jobs, |job| job.status.as_str()))
        .bind(column(jobs, |job| job.next_attempt_at))
        .bind(column(jobs, |job| job.summary.retry_of.as_ref().map(JobId::as_uuid)))
        .bind(texts)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

pub(super) async fn job(connection: &mut PgConnection, id: JobId) -> Result<Lookup, Fault> {
    let record = sqlx::query_as::<_, Record>(concat!(
        "SELECT ",
        columns!(),
        ", ",
        retried_as!(),
        " FROM jobs WHERE id = $1"
    ))
    .bind(id.as_uuid())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(record) = record {
        return Ok(Lookup::Row(Box::new(record.try_into()?)));
    }
    let found = sqlx::query_as("SELECT status, tenant FROM tombstones WHERE id = $1")
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    Ok(Lookup::tombstone(found)?)
}

pub(super) async fn claim_retry(
    connection: &mut PgConnection,
    retry: NewRetry,
) -> Result<Option<Retry>, Fault> {
    let made = sqlx::query(concat!(
        "INSERT INTO retries (id, retried_as, reply_partition, produced, created_at) ",
        "VALUES ($1, $2, $3, FALSE, $4) ON CONFLICT (id) DO NOTHING",
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
    connection: &mut PgConnection,
    of: JobId,
    job: JobId,
) -> Result<(), Fault> {
    sqlx::query("UPDATE retries SET produced = TRUE WHERE id = $1 AND retried_as = $2")
        .bind(of.as_uuid())
        .bind(job.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn retry(
    connection: &mut PgConnection,
    of: JobId,
) -> Result<Option<Retry>, Fault> {
    let row = sqlx::query_as::<_, (Uuid, i32, bool, Millis)>(
        "SELECT retried_as, reply_partition, produced, created_at FROM retries WHERE id = $1",
    )
    .bind(of.as_uuid())
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Retry::try_from).transpose()?)
}

pub(super) async fn overdue(
    connection: &mut PgConnection,
    deadline: Millis,
    after: Option<(Millis, JobId)>,
    limit: u32,
) -> Result<Vec<JobRow>, Fault> {
    let (passed, id) = after.map_or((Millis::MIN, Uuid::nil()), |(at, id)| (at, id.as_uuid()));
    let records = sqlx::query_as::<_, Record>(concat!(
        "SELECT ",
        brief_columns!(),
        " FROM jobs WHERE ended_at IS NULL AND deadline <= $1 AND (deadline, id) > ($2, $3) ",
        "ORDER BY deadline, id LIMIT $4"
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
    connection: &mut PgConnection,
    partition: i32,
) -> Result<Option<Position>, Fault> {
    let row = sqlx::query_as::<_, (String, i64, Vec<u8>)>(
        "SELECT cluster_id, next_offset, last_key FROM projections WHERE partition = $1",
    )
    .bind(partition)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(Position::from))
}

/// The Kafka clusters that positions are of.
pub(super) async fn clusters(connection: &mut PgConnection) -> Result<Vec<String>, Fault> {
    let sql = "SELECT DISTINCT cluster_id FROM projections ORDER BY 1";
    Ok(sqlx::query_scalar(sql).fetch_all(connection).await?)
}

pub(super) async fn mark_caught_up(
    connection: &mut PgConnection,
    partitions: &[(i32, Millis)],
) -> Result<(), Fault> {
    let mut marks = BTreeMap::new();
    for (partition, at) in partitions {
        let mark = marks.entry(*partition).or_insert(*at);
        *mark = (*mark).max(*at);
    }
    let (partitions, times): (Vec<i32>, Vec<Millis>) = marks.into_iter().unzip();
    sqlx::query(concat!(
        "INSERT INTO caught_up (partition, at) ",
        "SELECT * FROM UNNEST($1::integer[], $2::bigint[]) AS n (partition, at) ORDER BY partition ",
        "ON CONFLICT (partition) DO UPDATE SET at = excluded.at WHERE caught_up.at < excluded.at",
    ))
    .bind(partitions)
    .bind(times)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn caught_up(
    connection: &mut PgConnection,
) -> Result<BTreeMap<i32, Option<Millis>>, Fault> {
    let marks = sqlx::query_as::<_, (i32, Option<Millis>)>(concat!(
        "SELECT partition, max(at) FROM (",
        "SELECT partition, NULL::bigint AS at FROM projections UNION ALL SELECT partition, at FROM caught_up",
        ") AS marks GROUP BY partition",
    ))
    .fetch_all(connection)
    .await?;
    Ok(marks.into_iter().collect())
}

pub(super) async fn holds_something(connection: &mut PgConnection) -> Result<bool, Fault> {
    let found: bool = sqlx::query_scalar(concat!(
        "SELECT EXISTS (SELECT 1 FROM jobs) OR EXISTS (SELECT 1 FROM tombstones) ",
        "OR EXISTS (SELECT 1 FROM projections) OR EXISTS (SELECT 1 FROM idempotency_keys)",
    ))
    .fetch_one(connection)
    .await?;
    Ok(found)
}

pub(super) async fn by_status(connection: &mut PgConnection) -> Result<Vec<(Status, u64)>, Fault> {
    let counts = sqlx::query_as::<_, (String, i64)>(
        "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status",
    )
    .fetch_all(connection)
    .await?;
    Ok(statuses(counts)?)
}

pub(super) async fn unfinished(connection: &mut PgConnection) -> Result<Vec<(Tenant, u64)>, Fault> {
    let counts = sqlx::query_as::<_, (String, i64)>(
        "SELECT tenant, count(*) FROM jobs WHERE ended_at IS NULL GROUP BY tenant",
    )
    .fetch_all(connection)
    .await?;
    Ok(tenants(counts)?)
}

#[async_trait]
impl Projecting for PgConnection {
    async fn move_position(&mut self, batch: &Batch) -> Result<bool, Fault> {
        let expected = batch.expected;
        // Wherever it stands is fine.
        #[cfg(feature = "sabotage")]
        let expected = match tidegate_contract::sabotage::is_on("skip-cas") {
            true => position(self, batch.partition)
                .await?
                .map_or(expected, |position| position.next_offset),
            false => expected,
        };
        let moved = sqlx::query(concat!(
            "UPDATE projections SET next_offset = $1, last_key = $2 ",
            "WHERE partition = $3 AND next_offset = $4 AND cluster_id = $5",
        ))
        .bind(batch.next)
        .bind(batch.last_key.as_bytes())
        .bind(batch.partition)
        .bind(expected)
        .bind(batch.cluster_id.as_str())
        .execute(&mut *self)
        .await?;
        if moved.rows_affected() > 0 || !batch.first {
            return Ok(moved.rows_affected() > 0);
        }
        let made = sqlx::query(concat!(
            "INSERT INTO projections (partition, cluster_id, next_offset, last_key) VALUES ($1, $2, $3, $4) ",
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
        let uuids: Vec<Uuid> = ids.iter().map(JobId::as_uuid).collect();
        let records = sqlx::query_as::<_, Record>(concat!(
            "SELECT ",
            open_columns!(),
            " FROM jobs WHERE id = ANY($1)"
        ))
        .bind(&uuids)
        .fetch_all(&mut *self)
        .await?;
        let mut known = known_rows(records);
        let missing: Vec<Uuid> = ids
            .iter()
            .filter(|id| !known.contains_key(id))
            .map(JobId::as_uuid)
            .collect();
        if !missing.is_empty() {
            let buried =
                sqlx::query_scalar::<_, Uuid>("SELECT id FROM tombstones WHERE id = ANY($1)")
                    .bind(missing)
                    .fetch_all(&mut *self)
                    .await?;
            let buried = buried.into_iter().filter_map(|id| JobId::try_from(id).ok());
            known.extend(buried.map(|id| (id, Known::Buried)));
        }
        Ok(known)
    }

    async fn write(&mut self, rows: &[JobRow]) -> Result<(), Fault> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(statement_size(rest));
            upsert(self, now).await?;
            rest = later;
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

/// How many of the rows go into one statement; at least one.
fn statement_size(rows: &[JobRow]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take(ROWS).take_while(|row| {
        let before = bytes;
        bytes += row.weight();
        before < BYTES
    });
    fits.count()
}

async fn upsert(connection: &mut PgConnection, rows: &[JobRow]) -> Result<(), Fault> {
    let (mut headers, mut errors, mut histories) = (Vec::new(), Vec::new(), Vec::new());
    let mut follow_ups = Vec::new();
    for row in rows {
        let texts = JsonTexts::of(row)?;
        headers.push(texts.outcome_headers);
        errors.push(texts.error);
        histories.push(texts.history);
        follow_ups.push(texts.follow_ups);
    }
    // What has ended is opened again, so that it is written over.
    #[cfg(feature = "sabotage")]
    if tidegate_contract::sabotage::is_on("ignore-terminal") {
        sqlx::query("UPDATE jobs SET status = 'processing', ended_at = NULL WHERE id = ANY($1)")
            .bind(column(rows, |row| row.id.as_uuid()))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(concat!(
        "INSERT INTO jobs (",
        columns!(),
        ") SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], ",
        "$7::bigint[], $8::text[], $9::integer[], $10::text[], $11::integer[], $12::bigint[], $13::bigint[], ",
        "$14::bigint[], $15::float8[], $16::text[], $17::bytea[], $18::integer[], $19::text[], $20::text[], ",
        "$21::bytea[], $22::text[], $23::bigint[], $24::bigint[], $25::bigint[], $26::uuid[], $27::integer[], ",
        "$28::bigint[], $29::integer[], $30::bigint[], $31::bigint[], $32::text[], $33::text[]) AS n (",
        columns!(),
        ") ORDER BY id ",
        on_conflict!(),
    ))
    .bind(column(rows, |row| row.id.as_uuid()))
    .bind(column(rows, |row| row.summary.job_type.as_str()))
    .bind(column(rows, |row| row.summary.pool.as_str()))
    .bind(column(rows, |row| row.summary.tier.as_str()))
    .bind(column(rows, |row| row.summary.tenant.as_str()))
    .bind(column(rows, |row| row.summary.created_at))
    .bind(column(rows, |row| row.summary.deadline))
    .bind(column(rows, |row| row.summary.trace_id.as_deref()))
    .bind(column(rows, |row| row.reply_partition))
    .bind(column(rows, |row| row.status.as_str()))
    .bind(column(rows, |row| row.attempt))
    .bind(column(rows, |row| row.updated_at))
    .bind(column(rows, |row| row.started_at))
    .bind(column(rows, |row| row.ended_at))
    .bind(column(rows, |row| row.progress.as_ref().map(|it| it.percent)))
    .bind(column(rows, |row| row.progress.as_ref()?.message.as_deref()))
    .bind(column(rows, |row| row.progress.as_ref()?.partial.as_deref()))
    .bind(column(rows, |row| row.outcome.as_ref().map(|it| it.status)))
    .bind(column(rows, |row| row.outcome.as_ref()?.content_type.as_deref()))
    .bind(headers)
    .bind(column(rows, |row| row.outcome.as_ref().map(|it| &it.body[..])))
    .bind(errors)
    .bind(column(rows, |row| row.timings.map(|it| it.queue_us)))
    .bind(column(rows, |row| row.timings.map(|it| it.handler_us)))
    .bind(column(rows, |row| row.next_attempt_at))
    .bind(column(rows, |row| row.summary.retry_of.as_ref().map(JobId::as_uuid)))
    .bind(column(rows, |row| row.error_attempt))
    .bind(column(rows, |row| row.error_at))
    .bind(column(rows, |row| row.dead_letter.map(|it| it.partition)))
    .bind(column(rows, |row| row.dead_letter.map(|it| it.offset)))
    .bind(column(rows, |row| row.events))
    .bind(histories)
    .bind(follow_ups)
    .execute(connection)
    .await?;
    Ok(())
}
