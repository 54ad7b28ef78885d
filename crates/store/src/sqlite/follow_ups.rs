//! Follow-ups: the statements, and the calls that run them.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tidegate_contract::{FollowUpKind, JobId, Millis, Tenant};

use super::Sqlite;
use crate::error::{Fault, StoreError};
use crate::follow_up_record::{
    ATTEMPTS, AttemptRecord, EndpointRecord, FollowUpRecord, NewFollowUp, Settling, endpoints,
    follow_up_columns, kinds, number, taken, with_attempts,
};
use crate::follow_ups::{
    Attempt, EndpointRow, FollowUp, FollowUpState, FollowUps, Recover, Take, Then, Waiting,
    endpoint_key,
};
use crate::merge::clean;

/// Of the ends that jobs have, and of none that lost.
pub(super) async fn make(
    connection: &mut SqliteConnection,
    made: &[NewFollowUp],
) -> Result<u64, Fault> {
    let mut count = 0;
    for it in made {
        let done = sqlx::query(concat!(
            "INSERT INTO follow_ups (job_id, kind, tenant, target, endpoint, trace, created_at, state, held, due_at, ",
            "attempts, number) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', 0, ?7, 0, 0 FROM jobs ",
            "WHERE id = ?1 AND status = ?8 AND ended_at = ?9 ON CONFLICT (job_id, kind) DO NOTHING",
        ))
        .bind(it.job.as_uuid())
        .bind(it.kind.as_str())
        .bind(it.tenant.as_str())
        .bind(it.target.as_str())
        .bind(endpoint_key(&it.tenant, &it.target))
        .bind(it.trace.as_deref())
        .bind(it.at)
        .bind(it.status.as_str())
        .bind(it.ended_at)
        .execute(&mut *connection)
        .await?;
        count += done.rows_affected();
    }
    Ok(count)
}

async fn take(connection: &mut SqliteConnection, take: &Take<'_>) -> Result<Vec<FollowUp>, Fault> {
    let mut records = sqlx::query_as::<_, FollowUpRecord>(concat!(
        "SELECT ",
        follow_up_columns!(),
        " FROM (SELECT *, row_number() OVER (PARTITION BY endpoint ORDER BY due_at, job_id) AS place ",
        "FROM follow_ups WHERE state = 'pending' AND kind = ?1 AND due_at <= ?2 ",
        "AND endpoint NOT IN (SELECT value FROM json_each(?3))) AS follow_ups ",
        "WHERE place <= ?4 ORDER BY due_at, job_id LIMIT ?5",
    ))
    .bind(take.kind.as_str())
    .bind(take.now)
    .bind(json_list(take.except)?)
    .bind(take.per_endpoint)
    .bind(take.limit)
    .fetch_all(&mut *connection)
    .await?;
    for record in &mut records {
        sqlx::query("UPDATE follow_ups SET held = 1, due_at = ?3 WHERE job_id = ?1 AND kind = ?2")
            .bind(record.job_id)
            .bind(record.kind.as_str())
            .bind(take.lease)
            .execute(&mut *connection)
            .await?;
        record.due_at = take.lease;
    }
    Ok(taken(records))
}

fn json_list(texts: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(texts).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Writes what becomes of a follow-up that is held; `counted` for an attempt.
async fn settle(
    connection: &mut SqliteConnection,
    held: &FollowUp,
    settling: &Settling,
    counted: bool,
) -> Result<bool, Fault> {
    let done = sqlx::query(concat!(
        "UPDATE follow_ups SET state = ?4, held = 0, due_at = COALESCE(?5, due_at), settled_at = ?6, ",
        "reason = ?7, attempts = attempts + ?8 ",
        "WHERE job_id = ?1 AND kind = ?2 AND held AND due_at = ?3 AND state = 'pending'",
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
    connection: &mut SqliteConnection,
    held: &FollowUp,
    attempt: &Attempt,
) -> Result<(), Fault> {
    let numbered = sqlx::query(
        "UPDATE follow_ups SET number = max(number, ?3) WHERE job_id = ?1 AND kind = ?2",
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
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
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
    sqlx::query("DELETE FROM follow_up_attempts WHERE job_id = ?1 AND kind = ?2 AND number <= ?3")
        .bind(held.job.as_uuid())
        .bind(held.kind.as_str())
        .bind(number(attempt.number.saturating_sub(ATTEMPTS)))
        .execute(connection)
        .await?;
    Ok(())
}

#[async_trait]
impl FollowUps for Sqlite {
    async fn take_follow_ups(&self, take: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let taken = self::take(&mut tx, take).await?;
            tx.commit().await?;
            Ok(taken)
        })
        .await
    }

    async fn attempted(
        &self,
        taken: &FollowUp,
        attempt: &Attempt,
        then: &Then,
    ) -> Result<bool, StoreError> {
        let settling = Settling::of(then, Some(attempt.at.saturating_add(attempt.duration)));
        self.call(async {
            let mut tx = self.begin().await?;
            let settled = settle(&mut tx, taken, &settling, true).await?;
            keep_attempt(&mut tx, taken, attempt).await?;
            tx.commit().await?;
            Ok(settled)
        })
        .await
    }

    async fn give_back(&self, taken: &FollowUp, then: &Then) -> Result<bool, StoreError> {
        let settling = Settling::of(then, None);
        self.call(async {
            let mut tx = self.begin().await?;
            let settled = settle(&mut tx, taken, &settling, false).await?;
            tx.commit().await?;
            Ok(settled)
        })
        .await
    }

    async fn postpone(&self, endpoint: &str, until: Millis) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            sqlx::query(concat!(
                "UPDATE follow_ups SET due_at = ?2 ",
                "WHERE endpoint = ?1 AND state = 'pending' AND NOT held AND due_at < ?2",
            ))
            .bind(endpoint)
            .bind(until)
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            let records = sqlx::query_as::<_, FollowUpRecord>(concat!(
                "SELECT ",
                follow_up_columns!(),
                " FROM follow_ups WHERE job_id = ?1 ORDER BY kind"
            ))
            .bind(job.as_uuid())
            .fetch_all(&mut *connection)
            .await?;
            let attempts = sqlx::query_as::<_, AttemptRecord>(concat!(
                "SELECT kind, number, at, duration, status, error, excerpt FROM follow_up_attempts ",
                "WHERE job_id = ?1 ORDER BY number, at"
            ))
            .bind(job.as_uuid())
            .fetch_all(&mut *connection)
            .await?;
            Ok(with_attempts(records, attempts)?)
        })
        .await
    }

    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let due = sqlx::query_scalar::<_, String>(concat!(
                "UPDATE follow_ups SET state = 'pending', held = 0, due_at = ?3, attempts = 0, ",
                "settled_at = NULL, reason = NULL WHERE job_id = ?1 ",
                "AND (?2 IS NULL OR kind = ?2) RETURNING kind",
            ))
            .bind(job.as_uuid())
            .bind(kind.map(FollowUpKind::as_str))
            .bind(now)
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(kinds(&due))
        })
        .await
    }

    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let done = sqlx::query(concat!(
                "UPDATE follow_ups SET state = 'pending', held = 0, due_at = ?1, attempts = 0, ",
                "settled_at = NULL, reason = NULL WHERE (job_id, kind) IN (SELECT job_id, kind FROM follow_ups ",
                "WHERE tenant = ?2 AND state = ?3 AND settled_at >= ?4 ",
                "AND (?5 IS NULL OR kind = ?5) ",
                "AND (?6 IS NULL OR endpoint = ?6) ORDER BY settled_at LIMIT ?7)",
            ))
            .bind(now)
            .bind(which.tenant.as_str())
            .bind(FollowUpState::Failed.as_str())
            .bind(which.since)
            .bind(which.kind.map(FollowUpKind::as_str))
            .bind(which.endpoint.as_deref())
            .bind(limit)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn endpoints_of(&self, keys: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            let records = sqlx::query_as::<_, EndpointRecord>(concat!(
                "SELECT key, tenant, url, record, ended_at, updated_at FROM endpoints ",
                "WHERE key IN (SELECT value FROM json_each(?1)) ORDER BY key",
            ))
            .bind(json_list(keys)?)
            .fetch_all(&mut *connection)
            .await?;
            Ok(endpoints(records)?)
        })
        .await
    }

    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            let records = sqlx::query_as::<_, EndpointRecord>(concat!(
                "SELECT key, tenant, url, record, ended_at, updated_at FROM endpoints ",
                "WHERE tenant = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
            ))
            .bind(tenant.as_str())
            .bind(after.unwrap_or_default())
            .bind(limit)
            .fetch_all(&mut *connection)
            .await?;
            Ok(endpoints(records)?)
        })
        .await
    }

    async fn keep_endpoint(&self, row: &EndpointRow) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            sqlx::query(concat!(
                "INSERT INTO endpoints (key, tenant, url, record, ended_at, updated_at) ",
                "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO UPDATE SET record = excluded.record, ",
                "ended_at = excluded.ended_at, updated_at = excluded.updated_at",
            ))
            .bind(row.key.as_str())
            .bind(row.tenant.as_str())
            .bind(row.url.as_str())
            .bind(row.record.as_str())
            .bind(row.ended_at)
            .bind(row.updated_at)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let done = sqlx::query("DELETE FROM endpoints WHERE key = ?1 AND tenant = ?2")
                .bind(key)
                .bind(tenant.as_str())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn waiting(&self, kind: FollowUpKind) -> Result<Waiting, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            let (pending, oldest_due, held_until) = sqlx::query_as::<
                _,
                (i64, Option<Millis>, Option<Millis>),
            >(concat!(
                "SELECT count(*), min(due_at), max(due_at) FILTER (WHERE held) FROM follow_ups ",
                "WHERE state = 'pending' AND kind = ?1",
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
