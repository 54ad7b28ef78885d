//! The statements of the purge.

use sqlx::PgConnection;
use tidegate_contract::{Millis, Status};

use crate::error::Fault;
use crate::purge::Aged;

/// A statement that turns the rows of `$old` into tombstones; their keys and follow-ups go with them. Unless `$lock` says otherwise,
/// rows that somebody else is at are left for the next call: a purge never waits and is never waited for in a circle.
macro_rules! bury {
    ($old:literal) => {
        $crate::postgres::purging::bury!($old, "FOR UPDATE SKIP LOCKED")
    };
    ($old:literal, $lock:literal) => {
        concat!(
            "WITH old AS (SELECT id, status, tenant FROM jobs WHERE ",
            $old,
            " ",
            $lock,
            "), ",
            "buried AS (INSERT INTO tombstones (id, status, tenant, created_at) ",
            "SELECT id, status, tenant, $1 FROM old ON CONFLICT (id) DO NOTHING), ",
            "keys AS (DELETE FROM idempotency_keys USING old WHERE job_id = old.id), ",
            "attempts AS (DELETE FROM follow_up_attempts USING old WHERE job_id = old.id), ",
            "follow_ups AS (DELETE FROM follow_ups USING old WHERE job_id = old.id) ",
            "DELETE FROM jobs USING old WHERE jobs.id = old.id",
        )
    };
}

pub(super) use bury;

/// A row whose follow-up is still to be delivered stays until that is settled: it is what the other side is told of.
pub(super) async fn ended(
    connection: &mut PgConnection,
    status: Status,
    before: Millis,
    now: Millis,
    limit: i64,
) -> Result<u64, Fault> {
    let done = sqlx::query(bury!(
        "status = $4 AND ended_at IS NOT NULL AND ended_at <= $2 AND NOT EXISTS (SELECT FROM follow_ups \
         WHERE follow_ups.job_id = jobs.id AND state = 'pending') ORDER BY ended_at LIMIT $3"
    ))
    .bind(now)
    .bind(before)
    .bind(limit)
    .bind(status.as_str())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn unfinished(
    connection: &mut PgConnection,
    before: Millis,
    now: Millis,
    limit: i64,
) -> Result<u64, Fault> {
    let done = sqlx::query(bury!(
        "ended_at IS NULL AND deadline <= $2 ORDER BY deadline LIMIT $3"
    ))
    .bind(now)
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A statement that deletes the oldest rows of a table, known by `$key`, whose time `$at` is $1 or earlier: $2 at most.
macro_rules! oldest {
    ($table:literal, $key:literal, $at:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $key,
            " IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $at,
            " <= $1 ORDER BY ",
            $at,
            " LIMIT $2 FOR UPDATE SKIP LOCKED)"
        )
    };
}

/// Rows that go by their age alone.
pub(super) async fn aged(
    connection: &mut PgConnection,
    kind: Aged,
    before: Millis,
    limit: u32,
) -> Result<u64, Fault> {
    let sql = match kind {
        Aged::Tombstones => oldest!("tombstones", "id", "created_at"),
        Aged::Retries => oldest!("retries", "id", "created_at"),
        Aged::Endpoints => oldest!("endpoints", "key", "updated_at"),
    };
    let done = sqlx::query(sql)
        .bind(before)
        .bind(i64::from(limit))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
