//! The statements of the purge.

use sqlx::SqliteConnection;
use tidegate_contract::{Millis, Status};

use crate::error::Fault;
use crate::purge::Aged;

/// The statements that turn the rows of `$old` into tombstones, the last being the one that removes them; their keys
/// and follow-ups go with them. They pick the same rows, because nothing comes between them.
macro_rules! bury {
    ($old:literal) => {
        [
            concat!(
                "INSERT INTO tombstones (id, status, tenant, created_at) SELECT id, status, tenant, ?1 FROM jobs WHERE ",
                $old,
                " ON CONFLICT (id) DO NOTHING"
            ),
            // The first parameter is named so that all statements have the same ones.
            concat!(
                "DELETE FROM idempotency_keys WHERE ?1 IS NOT NULL AND job_id IN (SELECT id FROM jobs WHERE ",
                $old,
                ")"
            ),
            concat!(
                "DELETE FROM follow_up_attempts WHERE ?1 IS NOT NULL AND job_id IN (SELECT id FROM jobs WHERE ",
                $old,
                ")"
            ),
            concat!(
                "DELETE FROM follow_ups WHERE ?1 IS NOT NULL AND job_id IN (SELECT id FROM jobs WHERE ",
                $old,
                ")"
            ),
            concat!("DELETE FROM jobs WHERE ?1 IS NOT NULL AND id IN (SELECT id FROM jobs WHERE ", $old, ")"),
        ]
    };
}

pub(super) use bury;

/// A row whose follow-up is still to be delivered stays until that is settled: it is what the other side is told of.
pub(super) async fn ended(
    connection: &mut SqliteConnection,
    status: Status,
    before: Millis,
    now: Millis,
    limit: i64,
) -> Result<u64, Fault> {
    let mut gone = 0;
    for sql in bury!(
        "status = ?4 AND ended_at IS NOT NULL AND ended_at <= ?2 AND NOT EXISTS (SELECT 1 FROM follow_ups \
         WHERE follow_ups.job_id = jobs.id AND state = 'pending') ORDER BY ended_at, id LIMIT ?3"
    ) {
        gone = sqlx::query(sql)
            .bind(now)
            .bind(before)
            .bind(limit)
            .bind(status.as_str())
            .execute(&mut *connection)
            .await?
            .rows_affected();
    }
    Ok(gone)
}

pub(super) async fn unfinished(
    connection: &mut SqliteConnection,
    before: Millis,
    now: Millis,
    limit: i64,
) -> Result<u64, Fault> {
    let mut gone = 0;
    for sql in bury!("ended_at IS NULL AND deadline <= ?2 ORDER BY deadline, id LIMIT ?3") {
        gone = sqlx::query(sql)
            .bind(now)
            .bind(before)
            .bind(limit)
            .execute(&mut *connection)
            .await?
            .rows_affected();
    }
    Ok(gone)
}

/// A statement that deletes the oldest rows of a table, known by `$key`, whose time `$at` is ?1 or earlier: ?2 at most.
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
            " <= ?1 ORDER BY ",
            $at,
            " LIMIT ?2)"
        )
    };
}

/// Rows that go by their age alone.
pub(super) async fn aged(
    connection: &mut SqliteConnection,
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
        .bind(limit)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
