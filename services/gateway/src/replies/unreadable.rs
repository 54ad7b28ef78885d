//! Replies that cannot be read: kept as bytes on the dead-letters topic, their job ended if it can be named.

use tidegate_contract::{
    DeadLetterPlace, EventKind, FaultSource, JobError, JobEvent, JobId, JobSummary, RecordHeaders,
    headers, now_millis,
};
use tidegate_kafka::{Codec, Delivered, Outgoing, ProduceError, Producer, Record};
use tidegate_runtime::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::judge::Problem;

/// The code of both the dead letter and the job's error.
const REASON: &str = "unreadable-record";

/// Puts records aside.
#[derive(Clone)]
pub(crate) struct SetAside {
    pub producer: Producer,
    pub codec: Codec,
    pub dead_letters: String,
    pub instance: String,
    pub metrics: Metrics,
}

impl SetAside {
    /// Keeps the record, then ends its job. Both are acknowledged when this returns; it fails only when told to
    /// stop, or when the record is too large to be kept, in which case it is only logged.
    pub async fn record(
        &self,
        record: &Record,
        problem: &Problem,
        stop: &CancellationToken,
    ) -> Result<(), ProduceError> {
        let (id, why) = (problem.job, &problem.why);
        self.metrics.unreadable(&record.topic, why.label());
        tracing::error!(
            topic = record.topic, partition = record.partition, offset = record.offset,
            job_id = id.map(tracing::field::display), error = %why,
            "a reply cannot be read: it is put on the dead-letters topic"
        );
        let why = why.to_string();
        let mut letter = record.dead_letter(id, REASON, &why, &self.instance, now_millis());
        let mut event = id.map(|id| ended(record, id, &self.instance));
        letter.describe(event.as_ref().map(|event| &event.job));
        let key = id.map(|id| id.to_string()).unwrap_or_default();
        let mut marks = RecordHeaders::new();
        marks.set(headers::REASON, REASON);
        if let Some(id) = id {
            marks.set(headers::JOB_ID, id.to_string());
        }
        if let Ok(payload) = self.codec.encode_dead_letter(&letter) {
            let topic = self.dead_letters.clone();
            let out = Outgoing {
                topic,
                partition: None,
                key: key.clone(),
                headers: marks,
                payload,
            };
            match self.producer.send_until_acked(out, stop).await {
                Ok(Delivered { partition, offset }) => {
                    if let Some(event) = &mut event {
                        event.dead_letter = Some(DeadLetterPlace { partition, offset });
                    }
                }
                Err(ProduceError::TooLarge { .. }) => {
                    tracing::error!("the record is too large for a dead letter")
                }
                Err(error) => return Err(error),
            }
        }
        let Some(event) = event else {
            return Ok(());
        };
        if let Ok(payload) = self.codec.encode_event(&event) {
            let out = Outgoing {
                topic: record.topic.clone(),
                partition: Some(record.partition),
                key,
                headers: RecordHeaders::of_event(&event, record.partition),
                payload,
            };
            self.producer.send_until_acked(out, stop).await?;
        }
        Ok(())
    }
}

/// The end of a job whose reply cannot be read. What its headers do not say is filled with the plainest value:
/// the row that the job's submit made, if there is one, knows better.
fn ended(record: &Record, id: JobId, instance: &str) -> JobEvent {
    let read = &record.headers;
    let now = now_millis();
    JobEvent {
        job_id: id,
        kind: EventKind::Failed,
        at: now,
        attempt: read.attempt().unwrap_or(0),
        job: JobSummary {
            job_type: read.job_type().unwrap_or_else(|_| tidegate_contract::JobType::unknown()),
            pool: Default::default(),
            tier: read.tier().unwrap_or_default(),
            tenant: read.tenant().unwrap_or_default(),
            created_at: id.created_at(),
            deadline: read.deadline().ok().flatten().unwrap_or(now),
            trace_id: super::trace::trace_id(read),
        retry_of: None,
        follow_ups: Vec::new(),
},
        source: instance.to_owned(),
        outcome: None,
        error: Some(JobError {
            code: REASON.to_owned(),
            message: "a record of this job on the replies topic cannot be read; its bytes are on the dead-letters topic".to_owned(),
            source: FaultSource::Worker,
            retryable: false,
            retry_after_ms: None,
            details: None,
        attempts: None,
}),
        progress: None,
        timings: None,
    next_attempt_at: None,
dead_letter: None,
}
}
