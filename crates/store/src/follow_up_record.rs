//! Follow-ups between rows and types: what the end of a job makes, and what the tables give back.

use tidegate_contract::{FollowUpKind, JobId, Millis, Status, Tenant, now_millis};
use uuid::Uuid;

use crate::error::StoreError;
use crate::follow_ups::{Attempt, EndpointRow, FollowUp, FollowUpState, Then};
use crate::merge::clean;
use crate::types::{JobRow, Making};

/// Attempts of a follow-up that are kept.
pub(crate) const ATTEMPTS: u32 = 50;
/// Follow-ups that one statement changes at most where nobody has said how many.
pub(crate) const PORTION: u32 = 5_000;

/// The columns that a [`FollowUpRecord`] is read from.
macro_rules! follow_up_columns {
    () => {
        "follow_ups.job_id, follow_ups.kind, tenant, target, endpoint, trace, created_at, state, follow_ups.due_at, \
         attempts, number, settled_at, reason"
    };
}
pub(crate) use follow_up_columns;

/// A follow-up that is made by an end of a job, if that is the one that the job's row says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewFollowUp {
    pub job: JobId,
    pub kind: FollowUpKind,
    pub tenant: Tenant,
    pub target: String,
    pub trace: Option<String>,
    pub status: Status,
    pub ended_at: Millis,
    /// When it is made.
    pub at: Millis,
}

/// What rows that have just ended cause. Others among them cause nothing.
pub(crate) fn made(rows: &[JobRow], making: Option<&Making>) -> Vec<NewFollowUp> {
    let Some(making) = making else {
        return Vec::new();
    };
    let ended = rows.iter().filter_map(|row| Some((row, row.ended_at?)));
    let made = ended.flat_map(|(row, ended_at)| {
        let specs = row.summary.follow_ups.iter();
        // One of a kind for a job: the first.
        let mut seen = Vec::new();
        specs.filter_map(move |spec| {
            let kind = spec.wanted_at(row.status)?;
            if seen.contains(&kind) {
                return None;
            }
            seen.push(kind);
            Some(NewFollowUp {
                job: row.id,
                kind,
                tenant: row.summary.tenant.clone(),
                target: spec.target.clone(),
                trace: making.traces.get(&row.id).map(|trace| clean(trace)),
                status: row.status,
                ended_at,
                at: making.at,
            })
        })
    });
    made.collect()
}

/// What is written of a follow-up after an attempt, or instead of one.
pub(crate) struct Settling {
    pub state: FollowUpState,
    /// `None`: it does not matter any more.
    pub due_at: Option<Millis>,
    pub settled_at: Option<Millis>,
    pub reason: Option<String>,
}

impl Settling {
    /// `at`: when the attempt was over; now, if there was none.
    pub(crate) fn of(then: &Then, at: Option<Millis>) -> Self {
        let at = at.unwrap_or_else(now_millis);
        let (state, due_at, reason) = match then {
            Then::Delivered => (FollowUpState::Delivered, None, None),
            Then::At(due_at) => (FollowUpState::Pending, Some(*due_at), None),
            Then::GivenUp(reason) => (FollowUpState::Failed, None, Some(clean(reason))),
        };
        Self {
            state,
            due_at,
            settled_at: due_at.is_none().then_some(at),
            reason,
        }
    }
}

/// One row of the table `follow_ups`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct FollowUpRecord {
    pub job_id: Uuid,
    pub kind: String,
    tenant: String,
    target: String,
    endpoint: String,
    trace: Option<String>,
    created_at: i64,
    state: String,
    pub due_at: i64,
    attempts: i32,
    number: i32,
    settled_at: Option<i64>,
    reason: Option<String>,
}

fn corrupt(id: Uuid, column: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "column {column} of a follow-up of job {id} does not read back"
    ))
}

impl TryFrom<FollowUpRecord> for FollowUp {
    type Error = StoreError;

    fn try_from(record: FollowUpRecord) -> Result<Self, StoreError> {
        let id = record.job_id;
        let count = |column, value| u32::try_from(value).map_err(|_| corrupt(id, column));
        Ok(Self {
            job: JobId::try_from(id).map_err(|_| corrupt(id, "job_id"))?,
            kind: FollowUpKind::of(&record.kind).ok_or_else(|| corrupt(id, "kind"))?,
            tenant: record.tenant.parse().map_err(|_| corrupt(id, "tenant"))?,
            target: record.target,
            endpoint: record.endpoint,
            trace: record.trace,
            created_at: record.created_at,
            state: FollowUpState::of(&record.state).ok_or_else(|| corrupt(id, "state"))?,
            due_at: record.due_at,
            attempts: count("attempts", record.attempts)?,
            number: count("number", record.number)?,
            settled_at: record.settled_at,
            reason: record.reason,
        })
    }
}

/// One row of the table `follow_up_attempts`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct AttemptRecord {
    kind: String,
    number: i32,
    at: i64,
    duration: i64,
    status: Option<i32>,
    error: Option<String>,
    excerpt: String,
}

impl From<AttemptRecord> for Attempt {
    fn from(record: AttemptRecord) -> Self {
        Self {
            number: u32::try_from(record.number).unwrap_or_default(),
            at: record.at,
            duration: record.duration,
            status: record.status.and_then(|status| u16::try_from(status).ok()),
            error: record.error,
            excerpt: record.excerpt,
        }
    }
}

/// Follow-ups of a job, each with its own of the attempts.
pub(crate) fn with_attempts(
    records: Vec<FollowUpRecord>,
    mut attempts: Vec<AttemptRecord>,
) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
    let records = records.into_iter().map(|record| {
        let of_kind = |attempt: &mut AttemptRecord| attempt.kind == record.kind;
        let own = attempts.extract_if(.., of_kind).map(Attempt::from);
        let own = own.collect();
        Ok((record.try_into()?, own))
    });
    records.collect()
}

/// Follow-ups that were taken, with the time of their lease. One that does not read back is told of and passed over: it
/// holds up no other.
pub(crate) fn taken(records: Vec<FollowUpRecord>) -> Vec<FollowUp> {
    let follow_ups = records.into_iter().map(FollowUp::try_from);
    follow_ups
        .filter_map(|read| {
            read.inspect_err(|error| tracing::warn!(%error, "follow-up passed over"))
                .ok()
        })
        .collect()
}

/// The columns of `endpoints`.
pub(crate) type EndpointRecord = (String, String, String, String, Option<i64>, i64);

/// Endpoints as they read back.
pub(crate) fn endpoints(records: Vec<EndpointRecord>) -> Result<Vec<EndpointRow>, StoreError> {
    let read = |(key, tenant, url, record, ended_at, updated_at): EndpointRecord| {
        let tenant = tenant
            .parse()
            .map_err(|error| StoreError::Corrupt(format!("column tenant of endpoints: {error}")))?;
        Ok(EndpointRow {
            key,
            tenant,
            url,
            record,
            ended_at,
            updated_at,
        })
    };
    records.into_iter().map(read).collect()
}

/// Kinds by their names, in order. Those of a newer version are passed over.
pub(crate) fn kinds(names: &[String]) -> Vec<FollowUpKind> {
    let all = FollowUpKind::ALL.into_iter();
    all.filter(|kind| names.iter().any(|name| name == kind.as_str()))
        .collect()
}

/// A count of attempts as it lies in a column.
pub(crate) fn number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
