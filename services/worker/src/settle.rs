//! What follows a failed attempt: another one, by way of the delay ladder, or a dead letter. Whichever it is lies in
//! Kafka before the event that tells of it, and that before the offset.

use std::time::Instant;

use bytes::Bytes;
use tidegate_contract::headers::{ATTEMPT, FIRST_ERROR, PARKED};
use tidegate_contract::{
    Attempt, DeadLetter, DeadLetterPlace, JobMessage, Millis, Pair, RecordHeaders, RetryPolicy,
    Timings, Verdict, ladder, now_millis,
};
use tidegate_kafka::Outgoing;
use tracing::Instrument;

use crate::events::{Follows, Settled, Subject, What};
use crate::execute::Engine;
use crate::handler::{JobFailure, cut};
use crate::lane::Place;
use crate::outbox::{Stopped, Traced, result_label};
use crate::spans;

/// The reason in the dead letter of a job whose failure is not worth another attempt.
const FINAL: &str = "not-retryable";
/// How much of the first error travels with the job, in bytes.
const FIRST_ERROR_LIMIT: usize = 200;

/// A failed attempt and the job that it belongs to.
pub(crate) struct Failed<'a> {
    pub place: &'a Place,
    pub job: &'a JobMessage,
    /// Those of the job's record.
    pub headers: &'a RecordHeaders,
    pub subject: &'a Subject,
    pub traced: &'a Traced,
    pub policy: &'a RetryPolicy,
}

impl Engine {
    /// Settles what follows, and gets that into Kafka.
    pub(crate) async fn settle(
        &self,
        failed: &Failed<'_>,
        failure: JobFailure,
        timings: Option<Timings>,
    ) -> Result<What, Stopped> {
        let job = failed.job;
        let attempt = Attempt {
            number: job.attempt,
            code: &failure.code,
            retryable: failure.retryable,
            retry_after: failure.retry_after,
            at: now_millis(),
            begun: job.begins_at(),
            deadline: job.deadline,
        };
        let follows = match failed.policy.after(attempt, rand::random()) {
            Verdict::Again(next) => {
                self.try_again(failed, &failure, next).await?;
                Follows::Retry(next)
            }
            Verdict::Final => Follows::Failed(self.give_up(failed, &failure, FINAL).await?),
            Verdict::Exhausted(limit) => {
                let place = self.give_up(failed, &failure, limit.as_str()).await?;
                Follows::DeadLettered(place)
            }
        };
        Ok(What::Settled(Box::new(Settled {
            failure,
            timings,
            attempts: i32::try_from(failed.policy.attempts).ok(),
            follows,
        })))
    }

    /// Puts the next attempt on the delay ladder.
    async fn try_again(
        &self,
        failed: &Failed<'_>,
        failure: &JobFailure,
        next: Millis,
    ) -> Result<(), Stopped> {
        let job = JobMessage {
            attempt: failed.job.attempt.saturating_add(1),
            ..failed.job.clone()
        };
        let mut headers = failed.headers.clone();
        headers.set(ATTEMPT, job.attempt.to_string());
        headers.remove(PARKED);
        if headers.get(FIRST_ERROR).is_none() {
            headers.set(FIRST_ERROR, summary(failure));
        }
        // Of a serial key the attempts stay where the others of it are.
        let partition = job.serial_key.as_ref().map(|_| failed.place.partition);
        headers.delay(next, &failed.place.lane.topic, partition);
        let rung = self
            .ladder
            .first_rung(ladder::remaining(next, now_millis()));
        let out = Outgoing {
            topic: self.topics.delay(rung),
            partition: None,
            key: job.job_id.to_string(),
            headers,
            payload: self.encoded(&job)?,
        };
        let span = spans::send(&failed.traced.span, &out.topic, None, job.job_id);
        let begun = Instant::now();
        let sending = self
            .outbox
            .producer
            .send_until_acked(out, &self.outbox.stop);
        let sent = sending.instrument(span).await;
        self.metrics
            .produced("delay", result_label(&sent), begun.elapsed());
        self.metrics.retry_scheduled(job.job_type.as_str());
        sent.map(|_| ()).map_err(|_| Stopped)
    }

    /// Keeps the job among the dead letters.
    async fn give_up(
        &self,
        failed: &Failed<'_>,
        failure: &JobFailure,
        reason: &'static str,
    ) -> Result<Option<DeadLetterPlace>, Stopped> {
        let (job, place) = (failed.job, failed.place);
        let attempts = i32::try_from(failed.policy.attempts).unwrap_or(i32::MAX);
        let mut error = failure.error();
        error.attempts = Some(attempts);
        let pairs = failed.headers.iter();
        let mut letter = DeadLetter {
            job_id: Some(job.job_id),
            reason: reason.to_owned(),
            message: format!("{}: {}", error.code, error.message),
            at: now_millis(),
            source: self.outbox.source.clone(),
            topic: place.lane.topic.clone(),
            partition: place.partition,
            offset: place.offset,
            attempt: job.attempt,
            key: Some(Bytes::from(job.job_id.to_string())),
            headers: pairs.map(|(name, value)| Pair::new(name, value)).collect(),
            // Written again: what was read is not kept while a job is in line, it would take its memory twice.
            value: Some(self.encoded(job)?),
            job_type: None,
            tenant: None,
            attempts,
            redrives: job.redrives,
            first_error: failed.headers.get(FIRST_ERROR).map(str::to_owned),
            last_error: Some(error),
            trace_id: None,
        };
        letter.describe(Some(&failed.subject.summary));
        self.bury(letter, reason, failed.traced).await
    }

    pub(crate) fn encoded(&self, job: &JobMessage) -> Result<Bytes, Stopped> {
        self.outbox.codec.encode_job(job).map_err(|error| {
            tracing::error!(job_id = %job.job_id, %error, "a job cannot be written again");
            Stopped
        })
    }
}

/// Code and message of a failure as a header may hold them: one short line.
fn summary(failure: &JobFailure) -> String {
    let text = format!("{}: {}", failure.code, failure.message);
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    cut(&line, FIRST_ERROR_LIMIT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_header_is_one_short_line() {
        let failure = JobFailure::retryable("busy", format!("a\nb\u{1b}[2J{}", "ä".repeat(300)));
        let text = summary(&failure);
        assert!(text.starts_with("busy: a b [2Jä"), "{text}");
        assert!(text.len() <= FIRST_ERROR_LIMIT);
    }
}
