//! The statements about idempotency keys. Those that write run in a transaction of the caller, in which nobody else does.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use tidegate_contract::{JobId, Millis};

use super::rows;
use crate::error::Fault;
use crate::keys::{
    Glanced, Glimpse, KeyRecord, NewKey, Reserved, Verdict, glimpses, judge, key_columns,
};
use crate::types::NewJob;

/// Ids of one statement at most.
const IDS: usize = 500;

pub(super) async fn reserve(
    connection: &mut SqliteConnection,
    key: &NewKey,
    now: Millis,
    lease: Millis,
) -> Result<Reserved, Fault> {
    if insert(connection, key, now).await? {
        return Ok(Reserved::New);
    }
    let found = sqlx::query_as::<_, KeyRecord>(concat!(
        "SELECT ",
        key_columns!(),
        " FROM idempotency_keys k WHERE k.tenant = ?1 AND k.key = ?2"
    ))
    .bind(key.tenant.as_str())
    .bind(key.key.as_str())
    .fetch_one(&mut *connection)
    .await?;
    match judge(&found, key, now, lease)? {
        Verdict::Said(reserved) => Ok(reserved),
        Verdict::Stale(job) => {
            sqlx::query("UPDATE idempotency_keys SET reserved_at = ?1 WHERE job_id = ?2")
                .bind(now)
                .bind(found.job_id)
                .execute(connection)
                .await?;
            Ok(Reserved::Again(job))
        }
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    key: &NewKey,
    now: Millis,
) -> Result<bool, Fault> {
    let job = &key.job;
    let made = sqlx::query(concat!(
        "INSERT INTO idempotency_keys (tenant, key, fingerprint, state, reserved_at, job_id, reply_partition, ",
        "pool, tier, partition, created_at, deadline) ",
        "VALUES (?1, ?2, ?3, 'reserved', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (tenant, key) DO NOTHING",
    ))
    .bind(key.tenant.as_str())
    .bind(key.key.as_str())
    .bind(&key.fingerprint[..])
    .bind(now)
    .bind(job.id.as_uuid())
    .bind(job.reply_partition)
    .bind(job.pool.as_str())
    .bind(job.tier.as_str())
    .bind(job.partition)
    .bind(job.created_at)
    .bind(job.deadline)
    .execute(connection)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// In the order of the purge: the job's row first.
pub(super) async fn produced(connection: &mut SqliteConnection, job: &NewJob) -> Result<(), Fault> {
    rows::insert(connection, std::slice::from_ref(job)).await?;
    sqlx::query("UPDATE idempotency_keys SET state = 'produced' WHERE job_id = ?1")
        .bind(job.id.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn release(
    connection: &mut SqliteConnection,
    id: JobId,
    reserved_at: Millis,
    forget: bool,
) -> Result<(), Fault> {
    let sql = if forget {
        concat!(
            "DELETE FROM idempotency_keys WHERE job_id = ?1 AND reserved_at = ?2 AND state = 'reserved' ",
            "AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_id)",
        )
    } else {
        "UPDATE idempotency_keys SET reserved_at = 0 WHERE job_id = ?1 AND reserved_at = ?2 AND state = 'reserved'"
    };
    sqlx::query(sql)
        .bind(id.as_uuid())
        .bind(reserved_at)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn glance(
    connection: &mut SqliteConnection,
    ids: &[JobId],
) -> Result<Vec<(JobId, Glimpse)>, Fault> {
    let mut lines: Vec<Glanced> = Vec::new();
    for ids in ids.chunks(IDS) {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "SELECT id, status, updated_at, events, NULL AS state FROM jobs WHERE id IN (",
        );
        list(&mut sql, ids);
        sql.push(
            ") UNION ALL SELECT job_id, NULL, NULL, NULL, state FROM idempotency_keys WHERE job_id IN (",
        );
        list(&mut sql, ids);
        sql.push(")");
        lines.extend(sql.build_query_as().fetch_all(&mut *connection).await?);
    }
    Ok(glimpses(lines)?)
}

fn list(sql: &mut QueryBuilder<Sqlite>, ids: &[JobId]) {
    let mut list = sql.separated(", ");
    for id in ids {
        list.push_bind(id.as_uuid());
    }
}

/// Reservations of jobs that nobody has ever seen, with this deadline or an earlier one.
pub(super) async fn purge(
    connection: &mut SqliteConnection,
    before: Millis,
    limit: u32,
) -> Result<u64, Fault> {
    let done = sqlx::query(concat!(
        "DELETE FROM idempotency_keys WHERE (tenant, key) IN (SELECT tenant, key FROM idempotency_keys k ",
        "WHERE state = 'reserved' AND deadline <= ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = k.job_id) ",
        "ORDER BY deadline LIMIT ?2)",
    ))
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
