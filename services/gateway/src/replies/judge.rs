//! Whether a record on the replies topic is the event of a job. Pure.

use tidegate_contract::headers::HeaderError;
use tidegate_contract::{JobEvent, JobId};
use tidegate_kafka::{DecodeError, Record};

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub why: Why,
    /// The job that it speaks of, if that can be told: by its value, its header or its key, in that order.
    pub job: Option<JobId>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Why {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Headers(#[from] HeaderError),
    #[error("header `job-id` is not the job's id")]
    OtherHeader,
    #[error("the key is not the job's id")]
    OtherKey,
}

impl Why {
    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Why::Decode(DecodeError::Malformed(_)) => "malformed",
            Why::Decode(DecodeError::UnknownSchema(_)) => "unknown-schema",
            Why::Decode(DecodeError::RegistryUnavailable(_)) => "registry",
            Why::Headers(_) | Why::OtherHeader => "headers",
            Why::OtherKey => "key",
        }
    }
}

/// The event of a record, or why it has none. Its key and headers count as well: whoever reads only those (a wait in
/// a hurry, an operator with kcat) must not be told something else than who reads the value.
pub(crate) fn judge(
    record: &Record,
    decoded: Result<JobEvent, DecodeError>,
) -> Result<JobEvent, Problem> {
    let in_header = record.headers.job_id();
    let in_key = record.key.as_deref().and_then(JobId::from_key);
    let event = decoded.map_err(|error| Problem {
        why: error.into(),
        job: in_header.as_ref().ok().copied().or(in_key),
    })?;
    let wrong = if let Err(error) = record.headers.check_event() {
        Some(error.into())
    } else if in_header != Ok(event.job_id) {
        Some(Why::OtherHeader)
    } else if in_key != Some(event.job_id) {
        Some(Why::OtherKey)
    } else {
        None
    };
    match wrong {
        None => Ok(event),
        Some(why) => Err(Problem {
            why,
            job: Some(event.job_id),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_contract::{EventKind, JobSummary, RecordHeaders, Tier, headers};

    fn record() -> (Record, JobEvent) {
        let event = JobEvent {
            job_id: JobId::generate(),
            kind: EventKind::Started,
            at: 1,
            attempt: 1,
            job: JobSummary {
                job_type: "echo".parse().unwrap(),
                pool: Default::default(),
                tier: Tier::Normal,
                tenant: Default::default(),
                created_at: 1,
                deadline: 2,
                trace_id: None,
                retry_of: None,
                follow_ups: Vec::new(),
            },
            source: "test".to_owned(),
            outcome: None,
            error: None,
            progress: None,
            timings: None,
            next_attempt_at: None,
            dead_letter: None,
        };
        let record = Record {
            topic: "replies".to_owned(),
            partition: 3,
            offset: 0,
            timestamp: None,
            key: Some(event.job_id.to_string().into()),
            headers: RecordHeaders::of_event(&event, 3),
            payload: Some("x".into()),
        };
        (record, event)
    }

    fn label(record: &Record, decoded: Result<JobEvent, DecodeError>) -> &'static str {
        judge(record, decoded).map_or_else(|problem| problem.why.label(), |_| "fine")
    }

    #[test]
    fn every_sort_of_bad_record_is_told_apart_and_its_job_found() {
        let (good, event) = record();
        assert_eq!(label(&good, Ok(event.clone())), "fine");
        let malformed = || Err(DecodeError::Malformed("short".to_owned()));
        assert_eq!(label(&good, malformed()), "malformed");
        assert_eq!(
            label(&good, Err(DecodeError::UnknownSchema(7))),
            "unknown-schema"
        );

        let mut bare = good.clone();
        bare.headers = RecordHeaders::new();
        assert_eq!(label(&bare, Ok(event.clone())), "headers");
        let by_key = judge(&bare, malformed()).unwrap_err();
        assert_eq!(by_key.job, Some(event.job_id));
        let mut other = good.clone();
        other
            .headers
            .set(headers::JOB_ID, JobId::generate().to_string());
        assert_eq!(label(&other, Ok(event.clone())), "headers");

        let mut strange = good.clone();
        strange.key = Some("\u{1b}[2J".into());
        assert_eq!(label(&strange, Ok(event.clone())), "key");
        strange.headers = RecordHeaders::new();
        assert_eq!(judge(&strange, malformed()).unwrap_err().job, None);
        let by_value = judge(&strange, Ok(event.clone())).unwrap_err();
        assert_eq!(by_value.job, Some(event.job_id));
    }

    #[test]
    fn an_event_of_a_later_version_is_fine() {
        let (mut later, event) = record();
        later.headers.set(headers::EVENT, "abducted");
        assert_eq!(label(&later, Ok(event)), "fine");
    }
}
