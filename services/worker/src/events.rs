//! What a worker says about a job: events, their headers and dead letters. Pure.

use tidegate_contract::{
    EventKind, FaultSource, JobError, JobEvent, JobId, JobMessage, JobSummary, Millis, Outcome,
    Progress, Timings,
};

use crate::handler::JobFailure;

/// Whom an event is about, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    pub job_id: JobId,
    pub summary: JobSummary,
    pub reply_partition: i32,
    pub attempt: i32,
}

impl Subject {
    pub(crate) fn of(job: &JobMessage, trace_id: Option<String>) -> Self {
        Self {
            job_id: job.job_id,
            summary: JobSummary::of(job, trace_id),
            reply_partition: job.reply_partition,
            attempt: job.attempt,
        }
    }
}

/// What is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Started,
    Progress(Progress),
    Completed(Outcome, Timings),
    Failed(JobFailure, Option<Timings>),
    Expired(String, Option<Timings>),
}

impl What {
    /// What a handler came to. An outcome that no client could be given is a failure of the handler.
    pub(crate) fn ended(result: Result<Outcome, JobFailure>, timings: Timings) -> Self {
        match result {
            Ok(outcome) if (100..=599).contains(&outcome.status) => {
                What::Completed(outcome, timings)
            }
            Ok(outcome) => What::Failed(
                JobFailure::permanent(
                    "invalid-outcome",
                    format!(
                        "the handler answered with status {}: it must be from 100 to 599",
                        outcome.status
                    ),
                ),
                Some(timings),
            ),
            Err(failure) => What::Failed(failure, Some(timings)),
        }
    }

    /// The label in metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            What::Started => "started",
            What::Progress(_) => "progress",
            What::Completed(..) => "completed",
            What::Failed(failure, _) => match failure.code.as_str() {
                "panic" => "panic",
                "timeout" => "timeout",
                _ => "failed",
            },
            What::Expired(..) => "expired",
        }
    }

    /// The bytes of whatever the handler made, before they are encoded.
    pub(crate) fn bulk(&self) -> usize {
        let of = |outcome: &Outcome| {
            let headers = outcome.headers.iter();
            outcome.body.len() + headers.map(|h| h.name.len() + h.value.len()).sum::<usize>()
        };
        match self {
            What::Started | What::Expired(..) => 0,
            What::Progress(progress) => progress.partial.as_ref().map_or(0, |part| part.len()),
            What::Completed(outcome, _) => of(outcome),
            What::Failed(failure, _) => failure.outcome.as_deref().map_or(0, of),
        }
    }

    /// What the event says of the time spent.
    pub(crate) fn timings(&self) -> Option<Timings> {
        match self {
            What::Started | What::Progress(_) => None,
            What::Completed(_, timings) => Some(*timings),
            What::Failed(_, timings) | What::Expired(_, timings) => *timings,
        }
    }

    /// The failure that takes the place of an outcome that does not fit into a record.
    pub(crate) fn too_large(timings: Option<Timings>, bytes: usize, limit: usize) -> Self {
        let failure = JobFailure::permanent(
            "outcome-too-large",
            format!(
                "the outcome takes {bytes} bytes and a record may have {limit}: answer with less, or raise kafka.max_record_bytes"
            ),
        );
        What::Failed(failure, timings)
    }
}

/// The event of something said at `at` by `source`.
pub(crate) fn event(subject: &Subject, source: &str, at: Millis, what: What) -> JobEvent {
    let mut event = JobEvent {
        job_id: subject.job_id,
        kind: EventKind::Started,
        at,
        attempt: subject.attempt,
        job: subject.summary.clone(),
        source: source.to_owned(),
        outcome: None,
        error: None,
        progress: None,
        timings: None,
    };
    match what {
        What::Started => {}
        What::Progress(progress) => {
            event.kind = EventKind::Progress;
            event.progress = Some(progress);
        }
        What::Completed(outcome, timings) => {
            event.kind = EventKind::Completed;
            event.outcome = Some(outcome);
            event.timings = Some(timings);
        }
        What::Failed(failure, timings) => {
            event.kind = EventKind::Failed;
            event.error = Some(failure.error());
            // Only an answer that says that something went wrong can be the answer of a failure.
            event.outcome = failure
                .outcome
                .map(|outcome| *outcome)
                .filter(|outcome| (400..=599).contains(&outcome.status));
            event.timings = timings;
        }
        What::Expired(message, timings) => {
            event.kind = EventKind::Expired;
            event.error = Some(JobError {
                code: "deadline-passed".to_owned(),
                message,
                source: FaultSource::Job,
                retryable: false,
                retry_after_ms: None,
                details: None,
            });
            event.timings = timings;
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::outcome;
    use crate::testing::job;

    fn subject() -> Subject {
        Subject::of(&job("echo"), Some("0".repeat(32)))
    }

    #[test]
    fn an_end_carries_outcome_or_error_and_its_timings() {
        let timings = Timings {
            queue_us: 5,
            handler_us: 7,
        };
        let done = What::ended(Ok(outcome(200, "text/plain", "hi")), timings);
        let done = event(&subject(), "w", 3, done);
        assert_eq!(done.kind, EventKind::Completed);
        assert_eq!(done.outcome.unwrap().body, "hi");
        assert_eq!((done.error, done.timings), (None, Some(timings)));

        let answer = outcome(409, "text/plain", "no");
        let failure = JobFailure::permanent("taken", "taken").with_outcome(answer.clone());
        let failed = event(&subject(), "w", 3, What::ended(Err(failure), timings));
        assert_eq!(failed.kind, EventKind::Failed);
        assert_eq!(failed.outcome, Some(answer));
        assert_eq!(failed.error.unwrap().code, "taken");
    }

    #[test]
    fn an_impossible_status_is_a_failure_and_a_failure_cannot_answer_with_success() {
        let ended = What::ended(Ok(outcome(42, "a/b", "")), Timings::default());
        assert_eq!(
            event(&subject(), "w", 0, ended).error.unwrap().code,
            "invalid-outcome"
        );
        let failure = JobFailure::permanent("x", "x").with_outcome(outcome(200, "a/b", ""));
        let ended = event(&subject(), "w", 0, What::Failed(failure, None));
        assert_eq!(ended.outcome, None);
    }
}
