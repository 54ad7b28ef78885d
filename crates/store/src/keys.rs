//! Idempotency keys: what is kept of a submit so that a repeat finds its job. What a backend does with a key that is
//! there already is decided here.

use tidegate_contract::{JobId, Millis, Pool, Tenant, Tier};
use uuid::Uuid;

use crate::error::StoreError;
use crate::history::Version;

/// A key that a submit came with, and the job to be made under it if the key is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Keys of different tenants have nothing to do with each other.
    pub tenant: Tenant,
    pub key: String,
    /// Of everything in the request that makes the job what it is: another request has another one.
    pub fingerprint: [u8; 32],
    pub job: KeyedJob,
}

/// What a repeated request lacks to make the very same record once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedJob {
    pub id: JobId,
    pub reply_partition: i32,
    pub pool: Pool,
    pub tier: Tier,
    /// Of the jobs topic; `None` leaves it to the hash of the id.
    pub partition: Option<i32>,
    pub created_at: Millis,
    pub deadline: Millis,
}

/// What became of the wish to submit under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The key was free. The caller produces its job now.
    New,
    /// Whoever reserved it never told how that ended, and has had the time. The caller produces this job again.
    Again(KeyedJob),
    /// Somebody is producing the job. If no end of that is known at `until`, the next caller will do it again.
    Busy { job: KeyedJob, until: Millis },
    /// The job is in Kafka.
    Produced(KeyedJob),
    /// The key belongs to another request.
    Conflict,
}

/// How far a submit under a key is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It may be in Kafka.
    Reserved,
    /// It is in Kafka.
    Produced,
}

impl KeyState {
    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "reserved" => Ok(Self::Reserved),
            "produced" => Ok(Self::Produced),
            _ => Err(corrupt("state")),
        }
    }
}

/// What can be seen of a job at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// The state of its row.
    pub job: Option<Version>,
    /// Of the key that it was submitted under.
    pub key: Option<KeyState>,
}

/// The row of a key, as it is read back.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct KeyRecord {
    pub fingerprint: Vec<u8>,
    pub state: String,
    pub reserved_at: i64,
    pub job_id: Uuid,
    pub reply_partition: i32,
    pub pool: String,
    pub tier: String,
    pub partition: Option<i32>,
    pub created_at: i64,
    pub deadline: i64,
    /// Its job has a row, so it was produced, whoever could or could not say so.
    pub seen: bool,
}

/// The columns of a [`KeyRecord`]; the table is called `k`.
macro_rules! key_columns {
    () => {
        "k.fingerprint, k.state, k.reserved_at, k.job_id, k.reply_partition, k.pool, k.tier, k.partition, \
         k.created_at, k.deadline, EXISTS (SELECT 1 FROM jobs WHERE jobs.id = k.job_id) AS seen"
    };
}
pub(crate) use key_columns;

/// What a key that is there means for a submit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Said(Reserved),
    /// Nobody is at it any more: this job may be taken over, by whoever is first to say so.
    Stale(KeyedJob),
}

/// A reservation that is younger than `lease` milliseconds is still being worked at.
pub(crate) fn judge(
    found: &KeyRecord,
    key: &NewKey,
    now: Millis,
    lease: Millis,
) -> Result<Verdict, StoreError> {
    if found.fingerprint != key.fingerprint {
        return Ok(Verdict::Said(Reserved::Conflict));
    }
    let job = keyed_job(found)?;
    if found.seen || KeyState::parse(&found.state)? == KeyState::Produced {
        return Ok(Verdict::Said(Reserved::Produced(job)));
    }
    // The same call once more, because its first answer was lost.
    if job.id == key.job.id {
        return Ok(Verdict::Said(Reserved::New));
    }
    let until = found.reserved_at.saturating_add(lease);
    Ok(if now >= until {
        Verdict::Stale(job)
    } else {
        Verdict::Said(Reserved::Busy { job, until })
    })
}

fn keyed_job(found: &KeyRecord) -> Result<KeyedJob, StoreError> {
    Ok(KeyedJob {
        id: JobId::try_from(found.job_id).map_err(|_| corrupt("job_id"))?,
        reply_partition: found.reply_partition,
        pool: found.pool.parse().map_err(|_| corrupt("pool"))?,
        tier: found.tier.parse().map_err(|_| corrupt("tier"))?,
        partition: found.partition,
        created_at: found.created_at,
        deadline: found.deadline,
    })
}

/// The key itself is a client's and stays out of messages.
fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt(format!(
        "column {column} of an idempotency key does not read back"
    ))
}

/// One line of a glance: a job's row or its key.
pub(crate) type Glanced = (
    Uuid,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

/// What lines amount to, for each job of which there is anything.
pub(crate) fn glimpses(
    lines: impl IntoIterator<Item = Glanced>,
) -> Result<Vec<(JobId, Glimpse)>, StoreError> {
    let mut found = std::collections::BTreeMap::<JobId, Glimpse>::new();
    for (id, status, updated_at, events, state) in lines {
        let Ok(id) = JobId::try_from(id) else {
            continue;
        };
        let glimpse = found.entry(id).or_default();
        if let (Some(status), Some(updated_at), Some(events)) = (status, updated_at, events) {
            let status = status.parse().map_err(|_| {
                StoreError::Corrupt(format!("`{status}` in column status of jobs is none"))
            })?;
            glimpse.job = Some(Version {
                status,
                updated_at,
                events,
            });
        }
        if let Some(state) = state {
            glimpse.key = Some(KeyState::parse(&state)?);
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: &str, seen: bool) -> KeyRecord {
        KeyRecord {
            fingerprint: vec![7; 32],
            state: state.to_owned(),
            reserved_at: 1_000,
            job_id: JobId::generate().as_uuid(),
            reply_partition: 3,
            pool: "default".to_owned(),
            tier: "low".to_owned(),
            partition: Some(2),
            created_at: 900,
            deadline: 9_000,
            seen,
        }
    }

    #[test]
    fn a_key_is_free_to_take_over_only_when_nobody_can_be_at_it() {
        let reserved = found("reserved", false);
        let job = keyed_job(&reserved).unwrap();
        let key = |fingerprint, id| NewKey {
            tenant: Tenant::default(),
            key: "k".to_owned(),
            fingerprint: [fingerprint; 32],
            job: KeyedJob { id, ..job.clone() },
        };
        let said = |found: &KeyRecord, fingerprint, now| {
            judge(found, &key(fingerprint, JobId::generate()), now, 500)
        };
        let Ok(Verdict::Said(Reserved::Busy { job, until })) = said(&reserved, 7, 1_499) else {
            panic!("not busy");
        };
        assert_eq!(
            (until, job.partition, job.tier),
            (1_500, Some(2), Tier::Low)
        );
        assert_eq!(said(&reserved, 7, 1_500), Ok(Verdict::Stale(job.clone())));
        // A clock that is behind takes nothing over.
        assert!(matches!(
            said(&reserved, 7, i64::MIN),
            Ok(Verdict::Said(Reserved::Busy { .. }))
        ));
        assert_eq!(
            said(&reserved, 8, 1_500),
            Ok(Verdict::Said(Reserved::Conflict))
        );
        // Whoever asks again about a reservation of its own still has it.
        assert_eq!(
            judge(&reserved, &key(7, job.id), 1_000, 500),
            Ok(Verdict::Said(Reserved::New))
        );
        // Where a row was made, the job exists, whatever the key's own state says.
        for known in [found("reserved", true), found("produced", false)] {
            assert!(matches!(
                said(&known, 7, i64::MAX),
                Ok(Verdict::Said(Reserved::Produced(_)))
            ));
        }
        assert!(said(&found("lost", false), 7, 0).is_err());
    }
}
