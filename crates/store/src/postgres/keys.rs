//! The statements about idempotency keys. Each stands for itself: a key changes hands by one conditional write.

use sqlx::PgConnection;
use tidegate_contract::{JobId, Millis};
use uuid::Uuid;

use super::rows;
use crate::error::{Fault, StoreError};
use crate::keys::{
    Glanced, Glimpse, KeyRecord, NewKey, Reserved, Verdict, glimpses, judge, key_columns,
};
use crate::types::NewJob;

/// How often a key that changes between two statements is looked at again.
const LOOKS: usize = 5;

pub(super) async fn reserve(
    connection: &mut PgConnection,
    key: &NewKey,
    now: Millis,
    lease: Millis,
) -> Result<Reserved, Fault> {
    for _ in 0..LOOKS {
        if insert(connection, key, now).await? {
            return Ok(Reserved::New);
        }
        let found = sqlx::query_as::<_, KeyRecord>(concat!(
            "SELECT ",
            key_columns!(),
            " FROM idempotency_keys k WHERE k.tenant = $1 AND k.key = $2"
        ))
        .bind(key.tenant.as_str())
        .bind(key.key.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        // It was given back or purged in between.
        let Some(found) = found else { continue };
        match judge(&found, key, now, lease)? {
            Verdict::Said(reserved) => return Ok(reserved),
            Verdict::Stale(job) => {
                let taken = sqlx::query(concat!(
                    "UPDATE idempotency_keys SET reserved_at = $1 WHERE tenant = $2 AND key = $3 ",
                    "AND job_id = $4 AND reserved_at = $5 AND state = 'reserved'",
                ))
                .bind(now)
                .bind(key.tenant.as_str())
                .bind(key.key.as_str())
                .bind(found.job_id)
                .bind(found.reserved_at)
                .execute(&mut *connection)
                .await?;
                if taken.rows_affected() > 0 {
                    return Ok(Reserved::Again(job));
                }
            }
        }
    }
    Err(unsettled().into())
}

fn unsettled() -> StoreError {
    StoreError::Unavailable("an idempotency key changes too often".to_owned())
}

async fn insert(connection: &mut PgConnection, key: &NewKey, now: Millis) -> Result<bool, Fault> {
    let job = &key.job;
    let made = sqlx::query(concat!(
        "INSERT INTO idempotency_keys (tenant, key, fingerprint, state, reserved_at, job_id, reply_partition, ",
        "pool, tier, partition, created_at, deadline) ",
        "VALUES ($1, $2, $3, 'reserved', $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (tenant, key) DO NOTHING",
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
pub(super) async fn produced(connection: &mut PgConnection, job: &NewJob) -> Result<(), Fault> {
    rows::insert(connection, std::slice::from_ref(job)).await?;
    sqlx::query("UPDATE idempotency_keys SET state = 'produced' WHERE job_id = $1")
        .bind(job.id.as_uuid())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn release(
    connection: &mut PgConnection,
    id: JobId,
    reserved_at: Millis,
    forget: bool,
) -> Result<(), Fault> {
    let sql = if forget {
        concat!(
            "DELETE FROM idempotency_keys WHERE job_id = $1 AND reserved_at = $2 AND state = 'reserved' ",
            "AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_id)",
        )
    } else {
        "UPDATE idempotency_keys SET reserved_at = 0 WHERE job_id = $1 AND reserved_at = $2 AND state = 'reserved'"
    };
    sqlx::query(sql)
        .bind(id.as_uuid())
        .bind(reserved_at)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn glance(
    connection: &mut PgConnection,
    ids: &[JobId],
) -> Result<Vec<(JobId, Glimpse)>, Fault> {
    let ids: Vec<Uuid> = ids.iter().map(JobId::as_uuid).collect();
    let lines = sqlx::query_as::<_, Glanced>(concat!(
        "SELECT id, status, updated_at, events, NULL::text FROM jobs WHERE id = ANY($1) UNION ALL ",
        "SELECT job_id, NULL, NULL, NULL, state FROM idempotency_keys WHERE job_id = ANY($1)",
    ))
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(glimpses(lines)?)
}

/// Reservations of jobs that nobody has ever seen, with this deadline or an earlier one.
pub(super) async fn purge(
    connection: &mut PgConnection,
    before: Millis,
    limit: u32,
) -> Result<u64, Fault> {
    let done = sqlx::query(concat!(
        "DELETE FROM idempotency_keys WHERE (tenant, key) IN (SELECT tenant, key FROM idempotency_keys k ",
        "WHERE state = 'reserved' AND deadline <= $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = k.job_id) ",
        "ORDER BY deadline LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ))
    .bind(before)
    .bind(i64::from(limit))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
