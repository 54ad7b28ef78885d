//! Records on a rung that cannot be moved: kept as they are among the dead letters, their job ended if it can be named.

use std::time::{Duration, Instant};

use tidegate_contract::{
    DeadLetterPlace, EventKind, FaultSource, JobError, JobEvent, JobId, JobSummary, JobType,
    RecordHeaders, headers, now_millis,
};
use tidegate_kafka::{CodecError, Outgoing, ProduceError, Record, trace};

use crate::forward::{Moved, Mover, result_label};
use crate::orders::job_id;

/// The code of both the dead letter and the job's error.
const REASON: &str = "unreadable-record";
/// The pause before the codec is asked again while it knows no schemas yet.
const AGAIN: Duration = Duration::from_millis(250);

impl Mover {
    /// Keeps the record, then ends its job. Both are acknowledged when this is done.
    pub(crate) async fn set_aside(&self, record: &Record, label: &'static str, why: &str) -> Moved {
        let read = &record.headers;
        let id = job_id(record);
        self.metrics.unreadable(&record.topic, label);
        tracing::error!(
            topic = record.topic,
            partition = record.partition,
            offset = record.offset,
            job_id = id.map(tracing::field::display),
            reason = why,
            "a delayed record cannot be moved: it goes to the dead letters"
        );
        let trace_id = trace::trace_id(read);
        let mut letter = record.dead_letter(id, REASON, why, &self.instance, now_millis());
        let job = id.map(|id| summary(record, id, trace_id));
        letter.describe(job.as_ref());
        let Some(payload) = self
            .encoded(|| self.codec.encode_dead_letter(&letter))
            .await
        else {
            return Moved::Stopped;
        };
        let mut marks = read.clone();
        marks.set(headers::REASON, REASON);
        let key = id.map(|id| id.to_string()).unwrap_or_default();
        let out = Outgoing {
            topic: self.topics.dead_letters(),
            partition: None,
            key: key.clone(),
            headers: marks,
            payload,
        };
        let begun = Instant::now();
        let sent = self.producer.send_until_acked(out, &self.stop).await;
        self.metrics
            .produced("dead-letters", result_label(&sent), begun.elapsed());
        let place = match sent {
            Ok(at) => Some(DeadLetterPlace {
                partition: at.partition,
                offset: at.offset,
            }),
            Err(ProduceError::TooLarge { .. }) => {
                tracing::error!("the record is too large for a dead letter");
                None
            }
            Err(_) => return Moved::Stopped,
        };
        let (Some(id), Some(job), Ok(partition)) = (id, job, read.reply_partition()) else {
            return Moved::Done;
        };
        if !(0..self.replies()).contains(&partition) {
            return Moved::Done;
        }
        let event = self.ended(id, job, read.attempt().unwrap_or(0), why, place);
        let Some(payload) = self.encoded(|| self.codec.encode_event(&event)).await else {
            return Moved::Stopped;
        };
        let out = Outgoing {
            topic: self.topics.replies(),
            partition: Some(partition),
            key,
            headers: RecordHeaders::of_event(&event, partition),
            payload,
        };
        match self.producer.send_until_acked(out, &self.stop).await {
            Ok(_) => Moved::Done,
            Err(_) => Moved::Stopped,
        }
    }

    /// Waits until the codec knows its schemas: moving records needs no registry, so this may come before it is there.
    async fn encoded<T>(&self, encode: impl Fn() -> Result<T, CodecError>) -> Option<T> {
        loop {
            match encode() {
                Ok(payload) => return Some(payload),
                Err(CodecError::NotReady) => {}
                Err(error) => {
                    tracing::error!(%error, "a message cannot be encoded");
                    return None;
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    fn ended(
        &self,
        id: JobId,
        job: JobSummary,
        attempt: i32,
        why: &str,
        place: Option<DeadLetterPlace>,
    ) -> JobEvent {
        JobEvent {
            job_id: id,
            kind: EventKind::Failed,
            at: now_millis(),
            attempt,
            job,
            source: self.instance.clone(),
            outcome: None,
            error: Some(JobError {
                code: REASON.to_owned(),
                message: format!("the job's delayed record could not be moved: {why}"),
                source: FaultSource::Worker,
                retryable: false,
                retry_after_ms: None,
                details: None,
                attempts: None,
            }),
            progress: None,
            timings: None,
            next_attempt_at: None,
            dead_letter: place,
        }
    }
}

/// What headers say of a job; the rest is filled with the plainest value. The row that its submit made knows better.
fn summary(record: &Record, id: JobId, trace_id: Option<String>) -> JobSummary {
    let read = &record.headers;
    let created_at = id.created_at();
    JobSummary {
        job_type: read.job_type().unwrap_or_else(|_| JobType::unknown()),
        pool: Default::default(),
        tier: read.tier().unwrap_or_default(),
        tenant: read.tenant().unwrap_or_default(),
        created_at,
        deadline: read.deadline().ok().flatten().unwrap_or(created_at),
        trace_id,
        retry_of: None,
        follow_ups: Vec::new(),
    }
}
