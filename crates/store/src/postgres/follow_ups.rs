//! Follow-ups: the statements, and the calls that run them.

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tidegate_contract::{FollowUpKind, JobId, Millis, Tenant};

use super::Postgres;
use super::lease::on_a_lease;
use super::rows::column;
use crate::error::{Fault, StoreError};
use crate::follow_up_record::{
    ATTEMPTS, AttemptRecord, EndpointRecord, FollowUpRecord, NewFollowUp, PORTION, Settling,
    endpoints, follow_up_columns, kinds, number, taken, with_attempts,
};
use crate::follow_ups::{
    Attempt, EndpointRow, FollowUp, FollowUpState, FollowUps, Recover, Take, Then, Waiting,
    endpoint_key,
};
use crate::merge::clean;

/// Of the ends that jobs have, and of none that lost.
pub(super) async fn make(
    connection: &mut PgConnection,
    made: &[NewFollowUp],
) -> Result<u64, Fault> {
    let done = sqlx::query(concat!(
        "INSERT INTO follow_ups (job_id, kind, tenant, target, endpoint, trace, created_at, state, held, due_at, ",
        "attempts, number) ",
        "SELECT n.job_id, n.kind, n.tenant, n.target, n.endpoint, n.trace, n.at, 'pending', FALSE, n.at, 0, 0 ",
        "FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], ",
        "$8::text[], $9::bigint[]) AS n (job_id, kind, tenant, target, endpoint, trace, at, status, ended_at) ",
        "JOIN jobs ON jobs.id = n.job_id AND jobs.status = n.status AND jobs.ended_at = n.ended_at ",
        "ON CONFLICT (job_id, kind) DO NOTHING",
    ))
    .bind(column(made, |it| it.job.as_uuid()))
    .bind(column(made, |it| it.kind.as_str()))
    .bind(column(made, |it| it.tenant.as_str()))
    .bind(column(made, |it| it.target.as_str()))
    .bind(column(made, |it| endpoint_key(&it.tenant, &it.target)))
    .bind(column(made, |it| it.trace.as_deref()))
    .bind(column(made, |it| it.at))
    .bind(column(made, |it| it.status.as_str()))
    .bind(column(made, |it| it.ended_at))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// What a statement gives of a follow-up that it has taken, and when that was due.
#[derive(sqlx::FromRow)]
struct Taken {
    was_due: i64,
    #[sqlx(flatten)]
    record: FollowUpRecord,
}

async fn take_due(connection: &mut PgConnection, take: &Take<'_>) -> Result<Vec<FollowUp>, Fault> {
    let mut records = sqlx::query_as::<_, Taken>(concat!(
        "WITH ranked AS (SELECT job_id, kind, due_at, ",
        "row_number() OVER (PARTITION BY endpoint ORDER BY due_at, job_id) AS place FROM follow_ups ",
        "WHERE state = 'pending' AND kind = $1 AND due_at <= $2 AND endpoint <> ALL($3)), ",
        // Another one may have taken it since it was ranked: it is looked at again when it is locked.
        "taken AS (SELECT f.job_id, f.kind, f.due_at FROM follow_ups f JOIN ranked r ON f.job_id = r.job_id ",
        "AND f.kind = r.kind WHERE r.place <= $4 AND f.state = 'pending' AND f.due_at <= $2 ",
        "ORDER BY r.due_at, r.job_id LIMIT $5 FOR UPDATE OF f SKIP LOCKED) ",
        "UPDATE follow_ups SET held = TRUE, due_at = $6 FROM taken ",
        "WHERE follow_ups.job_id = taken.job_id AND follow_ups.kind = taken.kind RETURNING ",
        follow_up_columns!(),
        ", taken.due_at AS was_due",
    ))
    .bind(take.kind.as_str())
    .bind(take.now)
    .bind(take.except)
    .bind(i64::from(take.per_endpoint))
    .bind(i64::from(take.limit))
    .bind(take.lease)
    .fetch_all(connection)
    .await?;
    records.sort_by_key(|it| it.was_due);
    Ok(taken(records.into_iter().map(|it| it.record).collect()))
}

/// Writes what becomes of a follow-up that is held; `counted` for an attempt.
async fn settle(
    connection: &mut PgConnection,
    held: &FollowUp,
    settling: &Settling,
    counted: bool,
) -> Result<bool, Fault> {
    let done = sqlx::query(concat!(
        "UPDATE follow_ups SET state = $4, held = FALSE, due_at = COALESCE($5, due_at), settled_at = $6, ",
        "reason = $7, attempts = attempts + $8 ",
        "WHERE job_id = $1 AND kind = $2 AND held AND due_at = $3 AND state = 'pending'",
    ))
    .bind(held.job.as_uuid())
    .bind(held.kind.as_str())
    .bind(held.due_at)
    .bind(settling.state.as_str())
    .bind(settling.due_at)
    .bind(settling.settled_at)
    .bind(settling.reason.as_deref())
    .bind(i32::from(counted))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Of a follow-up that is still there: its job may have been erased meanwhile.
async fn keep_attempt(
    connection: &mut PgConnection,
    held: &FollowUp,
    attempt: &Attempt,
) -> Result<(), Fault> {
    let numbered = sqlx::query(
        "UPDATE follow_ups SET number = GREATEST(number, $3) WHERE job_id = $1 AND kind = $2",
    )
    .bind(held.job.as_uuid())
    .bind(held.kind.as_str())
    .bind(number(attempt.number))
    .execute(&mut *connection)
    .await?;
    if numbered.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO follow_up_attempts (job_id, kind, number, at, duration, status, error, excerpt) ",
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    ))
    .bind(held.job.as_uuid())
    .bind(held.kind.as_str())
    .bind(number(attempt.number))
    .bind(attempt.at)
    .bind(attempt.duration)
    .bind(attempt.status.map(i32::from))
    .bind(attempt.error.as_deref().map(clean))
    .bind(clean(&attempt.excerpt))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM follow_up_attempts WHERE job_id = $1 AND kind = $2 AND number <= $3")
        .bind(held.job.as_uuid())
        .bind(held.kind.as_str())
        .bind(number(attempt.number.saturating_sub(ATTEMPTS)))
        .execute(connection)
        .await?;
    Ok(())
}

#[async_trait]
impl FollowUps for Postgres {
    async fn take_follow_ups(&self, take: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        on_a_lease!(self, |connection| take_due(connection, take)).await
    }

    async fn attempted(
        &self,
        taken: &FollowUp,
        attempt: &Attempt,
        then: &Then,
    ) -> Result<bool, StoreError> {
        let settling = Settling::of(then, Some(attempt.at.saturating_add(attempt.duration)));
        on_a_lease!(self, |connection| async {
            let mut tx = connection.begin().await?;
            let settled = settle(&mut tx, taken, &settling, true).await?;
            keep_attempt(&mut tx, taken, attempt).await?;
            tx.commit().await?;
            Ok(settled)
        })
        .await
    }

    async fn give_back(&self, taken: &FollowUp, then: &Then) -> Result<bool, StoreError> {
        let settling = Settling::of(then, None);
        on_a_lease!(self, |connection| settle(
            connection, taken, &settling, false
        ))
        .await
    }

    async fn postpone(&self, endpoint: &str, until: Millis) -> Result<(), StoreError> {
        let portion = || {
            on_a_lease!(self, |connection| async {
                let done = sqlx::query(concat!(
                "UPDATE follow_ups SET due_at = $2 WHERE (job_id, kind) IN (SELECT job_id, kind FROM follow_ups ",
                "WHERE endpoint = $1 AND state = 'pending' AND NOT held AND due_at < $2 LIMIT $3 ",
                "FOR UPDATE SKIP LOCKED)",
            ))
            .bind(endpoint)
            .bind(until)
            .bind(i64::from(PORTION))
            .execute(&mut *connection)
            .await?;
                Ok(done.rows_affected())
            })
        };
        while portion().await? == u64::from(PORTION) {}
        Ok(())
    }

    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        let found = on_a_lease!(self, |connection| async {
            let records = sqlx::query_as::<_, FollowUpRecord>(concat!(
                "SELECT ",
                follow_up_columns!(),
                " FROM follow_ups WHERE job_id = $1 ORDER BY kind"
            ))
            .bind(job.as_uuid())
            .fetch_all(&mut *connection)
            .await?;
            let attempts = sqlx::query_as::<_, AttemptRecord>(concat!(
                "SELECT kind, number, at, duration, status, error, excerpt FROM follow_up_attempts ",
                "WHERE job_id = $1 ORDER BY number, at"
            ))
            .bind(job.as_uuid())
            .fetch_all(&mut *connection)
            .await?;
            Ok((records, attempts))
        });
        let (records, attempts) = found.await?;
        with_attempts(records, attempts)
    }

    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        on_a_lease!(self, |connection| async {
            let due = sqlx::query_scalar::<_, String>(concat!(
                "UPDATE follow_ups SET state = 'pending', held = FALSE, due_at = $3, attempts = 0, ",
                "settled_at = NULL, reason = NULL WHERE job_id = $1 ",
                "AND ($2::text IS NULL OR kind = $2) RETURNING kind",
            ))
            .bind(job.as_uuid())
            .bind(kind.map(FollowUpKind::as_str))
            .bind(now)
            .fetch_all(&mut *connection)
            .await?;
            Ok(kinds(&due))
        })
        .await
    }

    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError> {
        on_a_lease!(self, |connection| async {
            let done = sqlx::query(concat!(
                "UPDATE follow_ups SET state = 'pending', held = FALSE, due_at = $1, attempts = 0, ",
                "settled_at = NULL, reason = NULL WHERE (job_id, kind) IN (SELECT job_id, kind FROM follow_ups ",
                "WHERE tenant = $2 AND state = $3 AND settled_at >= $4 ",
                "AND ($5::text IS NULL OR kind = $5) ",
                "AND ($6::text IS NULL OR endpoint = $6) ORDER BY settled_at LIMIT $7 FOR UPDATE SKIP LOCKED)",
            ))
            .bind(now)
            .bind(which.tenant.as_str())
            .bind(FollowUpState::Failed.as_str())
            .bind(which.since)
            .bind(which.kind.map(FollowUpKind::as_str))
            .bind(which.endpoint.as_deref())
            .bind(i64::from(limit))
            .execute(&mut *connection)
            .await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn endpoints_of(&self, keys: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        let records = on_a_lease!(self, |connection| async {
            Ok(sqlx::query_as::<_, EndpointRecord>(concat!(
                "SELECT key, tenant, url, record, ended_at, updated_at FROM endpoints ",
                "WHERE key = ANY($1) ORDER BY key",
            ))
            .bind(keys)
            .fetch_all(&mut *connection)
            .await?)
        });
        endpoints(records.await?)
    }

    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        let records = on_a_lease!(self, |connection| async {
            Ok(sqlx::query_as::<_, EndpointRecord>(concat!(
                "SELECT key, tenant, url, record, ended_at, updated_at FROM endpoints ",
                "WHERE tenant = $1 AND key > $2 ORDER BY key LIMIT $3",
            ))
            .bind(tenant.as_str())
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&mut *connection)
            .await?)
        });
        endpoints(records.await?)
    }

    async fn keep_endpoint(&self, row: &EndpointRow) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| async {
            sqlx::query(concat!(
                "INSERT INTO endpoints (key, tenant, url, record, ended_at, updated_at) ",
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (key) DO UPDATE SET record = excluded.record, ",
                "ended_at = excluded.ended_at, updated_at = excluded.updated_at",
            ))
            .bind(row.key.as_str())
            .bind(row.tenant.as_str())
            .bind(row.url.as_str())
            .bind(row.record.as_str())
            .bind(row.ended_at)
            .bind(row.updated_at)
            .execute(&mut *connection)
            .await?;
            Ok(())
        })
        .await
    }

    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError> {
        on_a_lease!(self, |connection| async {
            let done = sqlx::query("DELETE FROM endpoints WHERE key = $1 AND tenant = $2")
                .bind(key)
                .bind(tenant.as_str())
                .execute(&mut *connection)
                .await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn waiting(&self, kind: FollowUpKind) -> Result<Waiting, StoreError> {
        on_a_lease!(self, |connection| async {
            let (pending, oldest_due, held_until) = sqlx::query_as::<
                _,
                (i64, Option<Millis>, Option<Millis>),
            >(concat!(
                "SELECT count(*), min(due_at), max(due_at) FILTER (WHERE held) FROM follow_ups ",
                "WHERE state = 'pending' AND kind = $1",
            ))
            .bind(kind.as_str())
            .fetch_one(&mut *connection)
            .await?;
            Ok(Waiting {
                pending: u64::try_from(pending).unwrap_or_default(),
                oldest_due,
                held_until,
            })
        })
        .await
    }
}
