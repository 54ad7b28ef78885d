//! Events on their way to the replies topic.
//!
//! What ends a job is sent until it is acknowledged, and counts against a budget of bytes from before it is encoded:
//! while the budget is spent no slot becomes free, so no job is started whose outcome could not be held. `started`
//! and progress are only worth sending at once: they are put into the queue, and the next one makes up for a loss.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::Context;
use tidegate_contract::{JobEvent, RecordHeaders, Timings, now_millis};
use tidegate_kafka::{Codec, Outgoing, ProduceError, Producer, trace};
use tidegate_runtime::Metrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::events::{self, Subject, What};
use crate::lane::RECORD_COST;
use crate::spans;

/// What key and headers of an event may take.
const ENVELOPE: usize = 2 * 1024;

/// Sends events.
pub(crate) struct Outbox {
    pub producer: Producer,
    pub codec: Codec,
    /// The replies topic.
    pub topic: String,
    /// The instance that events come from.
    pub source: String,
    /// Largest record, in bytes.
    pub max_record_bytes: usize,
    pub budget: Budget,
    pub metrics: Metrics,
    /// Ends all attempts to deliver: what is not acknowledged then is done again elsewhere.
    pub stop: CancellationToken,
}

/// The worker stops before something was acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Where an event belongs: its span and the trace that came in.
#[derive(Clone)]
pub(crate) struct Traced {
    pub span: Span,
    pub incoming: Context,
}

/// An end of a job that waits to be sent.
pub(crate) struct Parcel {
    out: Outgoing,
    subject: Subject,
    what: &'static str,
    timings: Option<Timings>,
    bytes: usize,
    /// Room in the budget.
    _room: OwnedSemaphorePermit,
}

impl Outbox {
    /// What is said in place of an answer that is certainly too large for a record; anything else as it is.
    pub(crate) fn fitted(&self, what: What) -> What {
        let limit = self.max_record_bytes.saturating_sub(ENVELOPE);
        match what.bulk() {
            bulk if bulk > limit => What::too_large(what.timings(), bulk, limit),
            _ => what,
        }
    }

    /// Encodes the end of a job, and waits until the budget has room for it.
    pub(crate) async fn pack(
        &self,
        subject: &Subject,
        what: What,
        traced: &Traced,
    ) -> Result<Parcel, Stopped> {
        let limit = self.max_record_bytes.saturating_sub(ENVELOPE);
        let timings = what.timings();
        // Not even encoded: a copy of something huge is what the limit is to prevent.
        let mut what = self.fitted(what);
        let mut out = self.encode_until_done(subject, &what, traced).await?;
        if out.payload.len() > limit {
            what = What::too_large(timings, out.payload.len(), limit);
            out = self.encode_until_done(subject, &what, traced).await?;
        }
        let bytes = out.payload.len() + RECORD_COST;
        let room = tokio::select! {
            () = self.stop.cancelled() => return Err(Stopped),
            room = self.budget.take(bytes) => room.ok_or(Stopped)?,
        };
        self.metrics.outcomes_unsent(self.budget.spent());
        Ok(Parcel {
            out,
            subject: subject.clone(),
            what: what.label(),
            timings,
            bytes,
            _room: room,
        })
    }

    /// Sends until acknowledged.
    pub(crate) async fn post(&self, mut parcel: Parcel, traced: &Traced) -> Result<(), Stopped> {
        let topic = &self.topic;
        let partition = parcel.subject.reply_partition;
        let span = spans::send(&traced.span, topic, Some(partition), parcel.subject.job_id);
        let context = spans::context(&span, &traced.incoming);
        trace::inject(&context, &mut parcel.out.headers);
        let begun = Instant::now();
        let sending = self.producer.send_until_acked(parcel.out, &self.stop);
        let result = sending.instrument(span).await;
        self.metrics
            .produced("replies", result_label(&result), begun.elapsed());
        let result = match result {
            Ok(delivered) => {
                tracing::debug!(
                    job_id = %parcel.subject.job_id,
                    trace_id = parcel.subject.summary.trace_id,
                    event = parcel.what,
                    partition,
                    offset = delivered.offset,
                    "told"
                );
                Ok(())
            }
            // The broker takes less than we were told: the job must still end.
            Err(ProduceError::TooLarge { bytes, limit }) => {
                let what = What::too_large(parcel.timings, bytes, limit);
                let out = self
                    .encode_until_done(&parcel.subject, &what, traced)
                    .await?;
                let sent = self.producer.send_until_acked(out, &self.stop).await;
                sent.map(|_| ()).map_err(|_| Stopped)
            }
            Err(_) => Err(Stopped),
        };
        self.metrics
            .outcomes_unsent(self.budget.spent().saturating_sub(parcel.bytes));
        result
    }

    /// Puts `started` or progress into the producer's queue. The future tells whether it was written.
    pub(crate) fn mention(
        &self,
        subject: &Subject,
        what: What,
        traced: &Traced,
    ) -> Option<impl Future<Output = bool> + Send + 'static> {
        let mut out = self.encode(subject, what, traced)?;
        let span = spans::send(&traced.span, &self.topic, out.partition, subject.job_id);
        trace::inject(&spans::context(&span, &traced.incoming), &mut out.headers);
        match self.producer.enqueue(out) {
            Ok(outcome) => {
                let metrics = self.metrics.clone();
                let begun = Instant::now();
                Some(
                    async move {
                        let result = outcome.await;
                        metrics.produced("replies", result_label(&result), begun.elapsed());
                        result.is_ok()
                    }
                    .instrument(span),
                )
            }
            Err(error) => {
                let result: Result<(), _> = Err(error);
                self.metrics
                    .produced("replies", result_label(&result), Duration::ZERO);
                None
            }
        }
    }

    fn encode(&self, subject: &Subject, what: What, traced: &Traced) -> Option<Outgoing> {
        let event = events::event(subject, &self.source, now_millis(), what);
        match self.codec.encode_event(&event) {
            Ok(payload) => Some(self.outgoing(&event, subject, payload, traced)),
            Err(error) => {
                tracing::error!(job_id = %subject.job_id, %error, "an event cannot be encoded");
                None
            }
        }
    }

    /// A worker reads nothing before its codec is ready, so this succeeds at once but for faults of our own.
    async fn encode_until_done(
        &self,
        subject: &Subject,
        what: &What,
        traced: &Traced,
    ) -> Result<Outgoing, Stopped> {
        loop {
            if let Some(out) = self.encode(subject, what.clone(), traced) {
                return Ok(out);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    fn outgoing(
        &self,
        event: &JobEvent,
        subject: &Subject,
        payload: bytes::Bytes,
        traced: &Traced,
    ) -> Outgoing {
        let mut headers = RecordHeaders::of_event(event, subject.reply_partition);
        trace::inject(
            &spans::context(&traced.span, &traced.incoming),
            &mut headers,
        );
        Outgoing {
            topic: self.topic.clone(),
            partition: Some(subject.reply_partition),
            key: subject.job_id.to_string(),
            headers,
            payload,
        }
    }
}

/// The label of a produce in metrics.
pub(crate) fn result_label<T>(result: &Result<T, ProduceError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(ProduceError::QueueFull | ProduceError::EmbeddedFull(_)) => "queue-full",
        Err(ProduceError::TooLarge { .. }) => "too-large",
        Err(ProduceError::Refused(_)) => "refused",
        Err(ProduceError::Unknown(_)) => "unknown",
    }
}

/// `traceparent` and `tracestate` of a context.
pub(crate) fn trace_headers(context: &Context) -> RecordHeaders {
    let mut headers = RecordHeaders::new();
    trace::inject(context, &mut headers);
    headers
}

/// Bytes that may be unacknowledged.
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(bytes)),
            total: bytes,
        }
    }

    /// Waits for room. What is larger than the whole budget takes all of it.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(self.total)).ok()?;
        Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()
    }

    fn spent(&self) -> usize {
        self.total.saturating_sub(self.room.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_budget_holds_back_what_does_not_fit() {
        let budget = Budget::new(100);
        let first = budget.take(60).await.unwrap();
        assert_eq!(budget.spent(), 60);
        let waits = tokio::time::timeout(Duration::from_millis(10), budget.take(60));
        assert!(waits.await.is_err());
        drop(first);
        let all = budget.take(1_000).await.unwrap();
        assert_eq!(budget.spent(), 100);
        drop(all);
        assert_eq!(budget.spent(), 0);
    }
}
