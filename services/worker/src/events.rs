//! What a worker says about a job: events, their headers and dead letters. Pure.

use tidegate_contract::{
    DeadLetterPlace, EventKind, FaultSource, JobError, JobEvent, JobId, JobMessage, JobSummary,
    Millis, Outcome, Progress, Timings,
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
    /// An attempt failed, and what follows is not settled yet: never told as such but where nothing can follow.
    Failed(JobFailure, Option<Timings>),
    Settled(Box<Settled>),
    Expired(String, Option<Timings>),
}

/// A failed attempt and what follows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    pub failure: JobFailure,
    pub timings: Option<Timings>,
    /// How many attempts the job's type allows, if any was made.
    pub attempts: Option<i32>,
    pub follows: Follows,
}

/// What follows a failed attempt, and lies in Kafka already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Another attempt, not before this.
    Retry(Millis),
    /// Nothing: another attempt would fail too. Where the dead letter lies, if it could be kept.
    Failed(Option<DeadLetterPlace>),
    /// Nothing: no attempt is left.
    DeadLettered(Option<DeadLetterPlace>),
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
            What::Settled(settled) => match settled.follows {
                Follows::Retry(_) => "retry-scheduled",
                Follows::Failed(_) => "failed",
                Follows::DeadLettered(_) => "dead-lettered",
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
            What::Settled(settled) => settled.answer().map_or(0, of),
        }
    }

    /// What the event says of the time spent.
    pub(crate) fn timings(&self) -> Option<Timings> {
        match self {
            What::Started | What::Progress(_) => None,
            What::Completed(_, timings) => Some(*timings),
            What::Failed(_, timings) | What::Expired(_, timings) => *timings,
            What::Settled(settled) => settled.timings,
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

impl Settled {
    /// The handler's own answer, if it is the job's: only one that says that something went wrong can be the answer of a
    /// failure.
    fn answer(&self) -> Option<&Outcome> {
        let answer = self.failure.outcome.as_deref();
        answer.filter(|answer| {
            matches!(self.follows, Follows::Failed(_)) && (400..=599).contains(&answer.status)
        })
    }

    fn tell(self, event: &mut JobEvent) {
        let mut error = self.failure.error();
        error.attempts = self.attempts;
        event.error = Some(error);
        event.outcome = self.answer().cloned();
        let (kind, next, place) = match self.follows {
            Follows::Retry(next) => (EventKind::RetryScheduled, Some(next), None),
            Follows::Failed(place) => (EventKind::Failed, None, place),
            Follows::DeadLettered(place) => (EventKind::DeadLettered, None, place),
        };
        event.kind = kind;
        event.next_attempt_at = next;
        event.dead_letter = place;
        event.timings = self.timings.filter(|_| kind.is_terminal());
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
        next_attempt_at: None,
        dead_letter: None,
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
        What::Failed(failure, timings) => Settled {
            failure,
            timings,
            attempts: None,
            follows: Follows::Failed(None),
        }
        .tell(&mut event),
        What::Settled(settled) => settled.tell(&mut event),
        What::Expired(message, timings) => {
            event.kind = EventKind::Expired;
            event.error = Some(JobError {
                code: "deadline-passed".to_owned(),
                message,
                source: FaultSource::Job,
                retryable: false,
                retry_after_ms: None,
                details: None,
                attempts: None,
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

    #[test]
    fn what_follows_a_failure_is_told_with_it() {
        let settled = |follows| {
            let failure = JobFailure::retryable("busy", "busy");
            let settled = Settled {
                failure: failure.with_outcome(outcome(503, "a/b", "later")),
                timings: Some(Timings::default()),
                attempts: Some(3),
                follows,
            };
            event(&subject(), "w", 7, What::Settled(Box::new(settled)))
        };
        let place = Some(DeadLetterPlace {
            partition: 2,
            offset: 9,
        });
        let retry = settled(Follows::Retry(99));
        assert_eq!(retry.kind, EventKind::RetryScheduled);
        assert_eq!(
            (retry.next_attempt_at, retry.timings, retry.outcome),
            (Some(99), None, None)
        );
        assert_eq!(retry.error.unwrap().attempts, Some(3));
        let failed = settled(Follows::Failed(place));
        assert_eq!(
            (failed.kind, failed.dead_letter),
            (EventKind::Failed, place)
        );
        assert_eq!(failed.outcome.unwrap().body, "later");
        let lost = settled(Follows::DeadLettered(place));
        assert_eq!(
            (lost.kind, lost.dead_letter, lost.outcome),
            (EventKind::DeadLettered, place, None)
        );
    }
}
