//! What people do by hand with the jobs that are kept: look for them, and erase one.

use sqlx::PgConnection;
use tidegate_contract::{JobId, Millis};
use uuid::Uuid;

use super::purging::bury;
use crate::error::Fault;
use crate::listing::{Listed, Listing, floor};
use crate::record::{Record, listed_columns};

pub(super) async fn list(
    connection: &mut PgConnection,
    listing: &Listing,
) -> Result<Listed, Fault> {
    let (from, below) = listing.ids();
    let window = i64::from(listing.window);
    let end: Option<Uuid> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE id < $1 AND id >= $2 ORDER BY id DESC LIMIT 1 OFFSET $3",
    )
    .bind(below)
    .bind(from)
    .bind(window.saturating_sub(1))
    .fetch_optional(&mut *connection)
    .await?;
    let end = end.map(floor);
    // The limit within keeps the planner from any other way than down the ids. Twice the window: rows that came into it
    // since its end was looked for are none the less behind no cursor.
    let records = sqlx::query_as::<_, Record>(concat!(
        "SELECT ",
        listed_columns!(),
        " FROM jobs WHERE id IN (SELECT id FROM (",
        "SELECT id, type, tier, tenant, created_at, status FROM jobs WHERE id < $1 AND id >= $2 ",
        "ORDER BY id DESC LIMIT 2 * $3) AS looked ",
        "WHERE tenant = $4 AND status = ANY($5) ",
        "AND ($6::text IS NULL OR type = $6) AND ($7::text IS NULL OR tier = $7) ",
        "AND ($8::bigint IS NULL OR created_at >= $8) AND ($9::bigint IS NULL OR created_at < $9) ",
        "ORDER BY id DESC LIMIT $10) ORDER BY id DESC",
    ))
    .bind(below)
    .bind(end.unwrap_or(from))
    .bind(window)
    .bind(listing.tenant.as_str())
    .bind(listing.status_names())
    .bind(listing.job_type.as_ref().map(|name| name.as_str()))
    .bind(listing.tier.map(|tier| tier.as_str()))
    .bind(listing.since)
    .bind(listing.until)
    .bind(i64::from(listing.limit) + 1)
    .fetch_all(connection)
    .await?;
    Ok(listing.page(records, end)?)
}

pub(super) async fn erase(
    connection: &mut PgConnection,
    id: JobId,
    now: Millis,
) -> Result<bool, Fault> {
    // One row, for somebody who waits: it is waited for.
    let done = sqlx::query(bury!("id = $2 AND ended_at IS NOT NULL", "FOR UPDATE"))
        .bind(now)
        .bind(id.as_uuid())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}
