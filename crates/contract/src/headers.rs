//! Record headers: readable text, so that `kcat` shows what a record is without Avro.

use crate::event::JobEvent;
use crate::id::JobId;
use crate::job::JobMessage;
use crate::names::{JobType, Tenant, Tier};
use crate::time::{Millis, parse_rfc3339, rfc3339};

/// The job's id, as in the key.
pub const JOB_ID: &str = "job-id";
/// The job's type.
pub const JOB_TYPE: &str = "job-type";
/// `high`, `normal` or `low`.
pub const TIER: &str = "tier";
/// For whom the job is run.
pub const TENANT: &str = "tenant";
/// The execution, from 1.
pub const ATTEMPT: &str = "attempt";
/// The partition of the replies topic that the job's events go to.
pub const REPLY_PARTITION: &str = "reply-partition";
/// Media type of the job's body.
pub const CONTENT_TYPE: &str = "content-type";
/// RFC 3339: the job is not started after it.
pub const DEADLINE: &str = "deadline";
/// On the replies topic: the kind of the event.
pub const EVENT: &str = "event";
/// How often a job has been parked since its last attempt: put on the delay ladder without one.
pub const PARKED: &str = "parked";
/// Of a pause on the control topic: when it ends, RFC 3339.
pub const UNTIL: &str = "until";
/// Of a beat on the control topic: records whose jobs run on partitions that their worker has given up.
pub const RUNNING: &str = "running";
/// Of a beat on the control topic: such records whose jobs have ended.
pub const DONE: &str = "done";
/// On the delay ladder: when the record is due at its target, RFC 3339.
pub const DUE: &str = "due";
/// On the delay ladder: the topic that the record goes to when it is due.
pub const TARGET: &str = "target";
/// On the delay ladder: the partition of the target, where it matters.
pub const TARGET_PARTITION: &str = "target-partition";
/// Of a further attempt: code and message of the first one that failed.
pub const FIRST_ERROR: &str = "first-error";
/// On the dead letters: why the record lies there.
pub const REASON: &str = "reason";
/// W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C Trace Context.
pub const TRACESTATE: &str = "tracestate";

/// A header is missing or says what it may not.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeaderError {
    /// A header that every such record has.
    #[error("header `{0}` is missing")]
    Missing(&'static str),
    /// A value of another shape.
    #[error("header `{name}` is malformed: {allowed}")]
    Malformed {
        /// The header's.
        name: &'static str,
        /// What it may say.
        allowed: &'static str,
    },
}

/// The headers of a job or event record. Names are unique; order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordHeaders(Vec<(String, String)>);

impl RecordHeaders {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The headers of a job record.
    pub fn of_job(job: &JobMessage) -> Self {
        let mut headers = Self(Vec::with_capacity(12));
        headers.set(JOB_ID, job.job_id.to_string());
        headers.set(JOB_TYPE, job.job_type.as_str());
        headers.set(TIER, job.tier.as_str());
        headers.set(TENANT, job.tenant.as_str());
        headers.set(ATTEMPT, job.attempt.to_string());
        headers.set(REPLY_PARTITION, job.reply_partition.to_string());
        if let Some(content_type) = &job.content_type {
            headers.set(CONTENT_TYPE, content_type.as_str());
        }
        headers.set(DEADLINE, rfc3339(job.deadline));
        headers
    }

    /// The headers of an event record.
    pub fn of_event(event: &JobEvent, reply_partition: i32) -> Self {
        let mut headers = Self(Vec::with_capacity(12));
        headers.set(JOB_ID, event.job_id.to_string());
        headers.set(EVENT, event.kind.as_str());
        headers.set(JOB_TYPE, event.job.job_type.as_str());
        headers.set(TIER, event.job.tier.as_str());
        headers.set(TENANT, event.job.tenant.as_str());
        headers.set(ATTEMPT, event.attempt.to_string());
        headers.set(REPLY_PARTITION, reply_partition.to_string());
        headers
    }

    /// Sets a header, replacing one of the same name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes a header away, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn required(&self, name: &'static str) -> Result<&str, HeaderError> {
        self.get(name).ok_or(HeaderError::Missing(name))
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        allowed: &'static str,
    ) -> Result<T, HeaderError> {
        let text = self.required(name)?;
        text.parse()
            .map_err(|_| HeaderError::Malformed { name, allowed })
    }

    /// The job's id.
    pub fn job_id(&self) -> Result<JobId, HeaderError> {
        self.parsed(JOB_ID, "a UUID of version 7")
    }

    /// The job's type.
    pub fn job_type(&self) -> Result<JobType, HeaderError> {
        self.parsed(JOB_TYPE, "a name")
    }

    /// The job's tier.
    pub fn tier(&self) -> Result<Tier, HeaderError> {
        self.parsed(TIER, "high, normal or low")
    }

    /// The job's tenant.
    pub fn tenant(&self) -> Result<Tenant, HeaderError> {
        self.parsed(TENANT, "a name")
    }

    /// The execution that the record asks for or tells of.
    pub fn attempt(&self) -> Result<i32, HeaderError> {
        self.parsed(ATTEMPT, "a whole number")
    }

    /// Where the job's events go.
    pub fn reply_partition(&self) -> Result<i32, HeaderError> {
        let allowed = "a partition number";
        match self.parsed(REPLY_PARTITION, allowed)? {
            partition if partition >= 0 => Ok(partition),
            _ => Err(HeaderError::Malformed {
                name: REPLY_PARTITION,
                allowed,
            }),
        }
    }

    /// When the job stops being worth starting.
    pub fn deadline(&self) -> Result<Option<Millis>, HeaderError> {
        match self.get(DEADLINE) {
            None => Ok(None),
            Some(text) => parse_rfc3339(text).map(Some).ok_or(HeaderError::Malformed {
                name: DEADLINE,
                allowed: "RFC 3339 in UTC",
            }),
        }
    }

    /// When a record of the delay ladder is due.
    pub fn due(&self) -> Result<Millis, HeaderError> {
        let text = self.required(DUE)?;
        parse_rfc3339(text).ok_or(HeaderError::Malformed {
            name: DUE,
            allowed: "RFC 3339 in UTC",
        })
    }

    /// Where a record of the delay ladder goes when it is due: topic and, if it matters, partition.
    pub fn target(&self) -> Result<(&str, Option<i32>), HeaderError> {
        let topic = self.required(TARGET)?;
        let partition = match self.get(TARGET_PARTITION) {
            None => None,
            Some(text) => {
                let number = text.parse().ok().filter(|number| *number >= 0);
                Some(number.ok_or(HeaderError::Malformed {
                    name: TARGET_PARTITION,
                    allowed: "a whole number from 0",
                })?)
            }
        };
        Ok((topic, partition))
    }

    /// Makes these the headers of a record that waits on the delay ladder.
    pub fn delay(&mut self, due: Millis, target: &str, partition: Option<i32>) {
        self.set(DUE, rfc3339(due));
        self.set(TARGET, target);
        match partition {
            Some(partition) => self.set(TARGET_PARTITION, partition.to_string()),
            None => self.remove(TARGET_PARTITION),
        }
    }

    /// The headers as they were before [`delay`](Self::delay).
    pub fn undelay(&mut self) {
        for name in [DUE, TARGET, TARGET_PARTITION] {
            self.remove(name);
        }
    }

    /// How often the job has been parked since its last attempt; 0 when the header is missing or unreadable.
    pub fn parked(&self) -> u32 {
        self.get(PARKED)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    fn check(&self) -> Result<(), HeaderError> {
        self.job_id()?;
        self.job_type()?;
        self.tier()?;
        self.tenant()?;
        self.attempt()?;
        self.reply_partition()?;
        Ok(())
    }

    /// Checks what every job record owes its readers.
    pub fn check_job(&self) -> Result<(), HeaderError> {
        self.check()?;
        self.deadline()?;
        Ok(())
    }

    /// Checks what every event record owes its readers. Any name of an event will do: it may be of a later version.
    pub fn check_event(&self) -> Result<(), HeaderError> {
        self.check()?;
        self.required(EVENT)?;
        Ok(())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for RecordHeaders {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}
