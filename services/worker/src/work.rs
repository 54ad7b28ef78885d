//! What is to be done with a record, judged from its bytes alone. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use tidegate_contract::fair::SerialKey;
use tidegate_contract::headers::JOB_ID;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobId, JobMessage, JobSummary, JobType, RecordHeaders, Tenant};
use tidegate_kafka::{DecodeError, Record};

use crate::events::Subject;
use crate::lane::Lane;

/// The reason of a job that kills its worker.
pub(crate) const POISON: &str = "poison";

/// A record's work.
pub(crate) enum Work {
    /// A job to be run here.
    Run {
        job: Arc<JobMessage>,
        headers: RecordHeaders,
    },
    /// A record to be set aside.
    SetAside(Box<Unreadable>),
}

impl Work {
    /// The serial key of a job that has one.
    pub(crate) fn serial_key(&self) -> Option<SerialKey> {
        match self {
            Self::Run { job, .. } => Some(SerialKey {
                tenant: job.tenant.clone(),
                key: job.serial_key.clone()?,
            }),
            // No handler runs for it.
            Self::SetAside(_) => None,
        }
    }

    /// Of what type it is, and whose: what its turn and its limits go by.
    pub(crate) fn owner(&self) -> (Cow<'_, JobType>, Cow<'_, Tenant>) {
        let unreadable = match self {
            Self::Run { job, .. } => {
                return (Cow::Borrowed(&job.job_type), Cow::Borrowed(&job.tenant));
            }
            Self::SetAside(unreadable) => unreadable,
        };
        // No handler runs for it, so no type's limit is its concern.
        let tenant = match &unreadable.job {
            Some(job) => Cow::Borrowed(&job.tenant),
            None => Cow::Owned(unreadable.record.headers.tenant().unwrap_or_default()),
        };
        (Cow::Owned(JobType::unknown()), tenant)
    }
}

/// A record that cannot be handled.
pub(crate) struct Unreadable {
    pub record: Record,
    pub problem: Problem,
    /// If the bytes could be decoded.
    pub job: Option<JobMessage>,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// In metrics.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The job has ended the process that ran it, alone, so many times.
    pub(crate) fn poison(crashes: u8) -> Self {
        Self::new(
            POISON,
            format!(
                "the worker's process ended {crashes} times while it ran this job and nothing else"
            ),
        )
    }

    /// The reply partition is not one of the topic's.
    pub(crate) fn no_reply_partition(partition: i32, partitions: i32) -> Self {
        Self::new(
            "reply-partition",
            format!("reply partition {partition} does not exist: the topic has {partitions}"),
        )
    }
}

/// A record is no job that can be handled.
pub(crate) struct Rejected {
    pub problem: Problem,
    /// Where the bytes could be decoded.
    pub job: Option<JobMessage>,
}

impl Rejected {
    fn undecoded(reason: &'static str, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            problem: Problem::new(reason, message),
            job: None,
        })
    }
}

/// Whether the record is a job that can be handled.
pub(crate) fn judge(
    record: &Record,
    decoded: Result<JobMessage, DecodeError>,
) -> Result<JobMessage, Box<Rejected>> {
    let job = match decoded {
        Ok(job) => job,
        Err(DecodeError::UnknownSchema(id)) => {
            let text = format!("the registry does not know schema id {id}");
            return Err(Rejected::undecoded("unknown-schema", text));
        }
        Err(error) => {
            return Err(if record.payload.is_none() {
                Rejected::undecoded("no-value", "the record has no value")
            } else {
                Rejected::undecoded("malformed", error.to_string())
            });
        }
    };
    match check(record, &job) {
        Ok(()) => Ok(job),
        Err(problem) => Err(Box::new(Rejected {
            problem,
            job: Some(job),
        })),
    }
}

fn check(record: &Record, job: &JobMessage) -> Result<(), Problem> {
    record
        .headers
        .check_job()
        .map_err(|error| Problem::new("headers", error.to_string()))?;
    let key = record.key.as_deref().and_then(JobId::from_key);
    if key != Some(job.job_id) {
        return Err(Problem::new("key", "the key is not the job's id"));
    }
    if record.headers.job_id() != Ok(job.job_id) {
        let text = format!("header `{JOB_ID}` is not the job's id");
        return Err(Problem::new("headers", text));
    }
    if job.reply_partition < 0 {
        return Err(Problem::new(
            "reply-partition",
            "the reply partition is negative",
        ));
    }
    if job.attempt < 1 {
        return Err(Problem::new("malformed", "the attempt is below 1"));
    }
    Ok(())
}

/// Whose failure it is that a record could not be read: the decoded job if there is one, else what headers and key
/// say. `None` if the id or the reply partition is not to be had.
pub(crate) fn subject_of(
    record: &Record,
    job: Option<&JobMessage>,
    lane: &Lane,
    trace_id: Option<String>,
) -> Option<Subject> {
    let headers = &record.headers;
    if let Some(job) = job {
        let mut subject = Subject::of(job, trace_id);
        if subject.reply_partition < 0 {
            subject.reply_partition = headers.reply_partition().ok()?;
        }
        return Some(subject);
    }
    let job_id = headers
        .job_id()
        .ok()
        .or_else(|| record.key.as_deref().and_then(JobId::from_key))?;
    let reply_partition = headers.reply_partition().ok()?;
    let created_at = job_id.created_at();
    Some(Subject {
        job_id,
        summary: JobSummary {
            job_type: headers.job_type().unwrap_or_else(|_| JobType::unknown()),
            pool: lane.pool.clone(),
            tier: lane.tier,
            tenant: headers.tenant().unwrap_or_default(),
            created_at,
            deadline: headers.deadline().ok().flatten().unwrap_or(created_at),
            trace_id,
            retry_of: None,
            follow_ups: Vec::new(),
        },
        reply_partition,
        attempt: headers.attempt().unwrap_or(0),
    })
}

/// Why a job is not started any more.
pub(crate) fn expired(job: &JobMessage) -> String {
    format!(
        "the deadline {} passed before a worker was free",
        rfc3339(job.deadline)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{job, lane, record};
    use tidegate_contract::headers;

    fn reason(record: &Record, decoded: Result<JobMessage, DecodeError>) -> &'static str {
        match judge(record, decoded) {
            Ok(_) => "fine",
            Err(rejected) => rejected.problem.reason,
        }
    }

    #[test]
    fn every_sort_of_unreadable_record_is_told_apart() {
        let job = job("echo");
        let good = record(&job);
        assert_eq!(reason(&good, Ok(job.clone())), "fine");
        let malformed = || Err(DecodeError::Malformed("short".to_owned()));
        assert_eq!(reason(&good, malformed()), "malformed");
        assert_eq!(
            reason(&good, Err(DecodeError::UnknownSchema(7))),
            "unknown-schema"
        );

        let mut bad = good.clone();
        bad.payload = None;
        assert_eq!(reason(&bad, malformed()), "no-value");
        let mut bad = good.clone();
        bad.key = Some(JobId::generate().to_string().into());
        assert_eq!(reason(&bad, Ok(job.clone())), "key");
        let mut bad = good.clone();
        bad.headers
            .set(headers::JOB_ID, JobId::generate().to_string());
        assert_eq!(reason(&bad, Ok(job.clone())), "headers");
        let mut bad = good.clone();
        bad.headers = RecordHeaders::new();
        assert_eq!(reason(&bad, Ok(job.clone())), "headers");
        let mut odd = job.clone();
        odd.reply_partition = -1;
        assert_eq!(reason(&good, Ok(odd)), "reply-partition");
    }

    #[test]
    fn the_job_is_found_by_header_or_key_and_its_summary_made_up() {
        let lane = lane(1, 1);
        let job = job("echo");
        let mut bad = record(&job);
        let found = subject_of(&bad, None, &lane, None).unwrap();
        assert_eq!(found.job_id, job.job_id);
        assert_eq!(found.reply_partition, job.reply_partition);
        assert_eq!(found.summary.job_type, job.job_type);

        bad.headers = [(headers::REPLY_PARTITION, "3")].into_iter().collect();
        let found = subject_of(&bad, None, &lane, None).unwrap();
        assert_eq!(found.job_id, job.job_id, "from the key");
        assert_eq!(found.summary.job_type.as_str(), "unknown");

        bad.headers = RecordHeaders::new();
        assert_eq!(subject_of(&bad, None, &lane, None), None, "nowhere to go");
        let found = subject_of(&bad, Some(&job), &lane, None).unwrap();
        assert_eq!(found.reply_partition, job.reply_partition);
    }
}
