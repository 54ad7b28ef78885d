//! Writing records, and saying honestly what became of each.

mod gather;
mod native;
mod pace;
mod room;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer as _};
use tidegate_contract::RecordHeaders;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::embedded::memory::MemoryGuard;
use crate::error::{KafkaError, describe};
use gather::Gather;
use native::{Generation, Pending, judge, native_headers};
use room::Room;

/// A record on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub topic: String,
    /// `None`: by the hash of the key (murmur2, as JVM clients do).
    pub partition: Option<i32>,
    pub key: String,
    pub headers: RecordHeaders,
    pub payload: Bytes,
}

impl Outgoing {
    /// Bytes that the record takes: key, headers and value, with what the format adds.
    fn size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 10)
            .sum();
        self.key.len() + self.payload.len() + headers + 96
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub partition: i32,
    pub offset: i64,
}

/// Why a record is not known to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// Certainly not written: too much waits already. At once.
    #[error("the producer's queue is full")]
    QueueFull,
    /// Certainly not written, and never will be.
    #[error("record of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// Certainly not written.
    #[error("not written: {0}")]
    Refused(String),
    /// May be written, now or later.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Certainly not written: the embedded broker would have to drop unread records for it.
    #[error("the embedded broker is full: {0}")]
    EmbeddedFull(String),
}

impl ProduceError {
    /// Whether a repeat may succeed.
    pub fn is_transient(&self) -> bool {
        !matches!(self, ProduceError::TooLarge { .. })
    }
}

/// How large a record may be, in bytes with key, headers and what the format adds.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) record: usize,
    /// The one topic whose records carry another record whole.
    pub(crate) dead_letters: String,
    pub(crate) dead_letter: usize,
}

impl Limits {
    fn of(&self, topic: &str) -> usize {
        if topic == self.dead_letters {
            self.dead_letter
        } else {
            self.record
        }
    }
}

struct Shared {
    room: Arc<Room>,
    config: ClientConfig,
    limits: Limits,
    guard: Option<Arc<MemoryGuard>>,
    current: ArcSwap<Generation>,
    rebuilding: std::sync::Mutex<()>,
    rebuilt: AtomicU64,
}

impl Shared {
    /// Puts a record into the native queue; gives back what waits for it if it did not get there.
    fn hand_over(
        &self,
        out: &Outgoing,
        mut pending: Box<Pending>,
    ) -> Result<(), (ProduceError, Box<Pending>)> {
        let (bytes, limit) = (pending.bytes, pending.limit);
        let mut last = None;
        // Twice: a fatal error may show itself only when something is sent.
        for _ in 0..2 {
            let generation = match self.generation() {
                Ok(generation) => generation,
                Err(error) => return Err((error, pending)),
            };
            let Some(native) = &generation.native else {
                break;
            };
            let mut record = BaseRecord::with_opaque_to(&out.topic, pending)
                .key(&out.key)
                .payload(&out.payload[..])
                .headers(native_headers(&out.headers));
            record.partition = out.partition;
            match native.send(record) {
                Ok(()) => return Ok(()),
                Err((error, record)) => {
                    pending = record.delivery_opaque;
                    if error.rdkafka_error_code() != Some(Code::Fatal) {
                        // It never entered the queue, whatever the reason.
                        let error = match judge(&error, bytes, limit) {
                            ProduceError::Unknown(text) => ProduceError::Refused(text),
                            certain => certain,
                        };
                        return Err((error, pending));
                    }
                    generation.fatal.store(true, Ordering::Release);
                    last = Some(error);
                }
            }
        }
        let text = last.map_or_else(
            || "the producer was closed".to_owned(),
            |error| describe(&error),
        );
        Err((ProduceError::Refused(text), pending))
    }

    /// The current native producer; a new one if that is of no use any more.
    fn generation(&self) -> Result<Arc<Generation>, ProduceError> {
        let current = self.current.load_full();
        if !current.fatal.load(Ordering::Acquire) {
            return Ok(current);
        }
        let _one = self
            .rebuilding
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let latest = self.current.load_full();
        if latest.number != current.number {
            return Ok(latest);
        }
        let next = Generation::new(&self.config, current.number + 1)
            .map_err(|error| ProduceError::Refused(error.to_string()))?;
        let next = Arc::new(next);
        self.current.store(next.clone());
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            number = next.number,
            "kafka producer rebuilt: it had a fatal error, or had lost its brokers for good"
        );
        Ok(next)
    }
}

/// An idempotent producer with a bounded queue. Cheap to clone; all clones share the queue. It can be made, and
/// takes records until its queue is full, while the broker is away.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    gather: Arc<Gather>,
}

impl Producer {
    pub(crate) fn new(
        config: ClientConfig,
        limits: Limits,
        linger: Duration,
        queue_messages: usize,
        guard: Option<Arc<MemoryGuard>>,
    ) -> Result<Self, KafkaError> {
        let first = Generation::new(&config, 0)?;
        let shared = Arc::new(Shared {
            room: Room::new(queue_messages),
            config,
            limits,
            guard,
            current: ArcSwap::from_pointee(first),
            rebuilding: std::sync::Mutex::new(()),
            rebuilt: AtomicU64::new(0),
        });
        let sending = Arc::clone(&shared);
        let gather = Gather::new(linger, move |(out, pending)| {
            if let Err((error, pending)) = sending.hand_over(&out, pending) {
                // Whoever waits for it may have gone.
                let _ = pending.answer.send(Err(error));
            }
        })?;
        Ok(Self {
            shared,
            gather: Arc::new(gather),
        })
    }

    /// Puts a record into the queue, or says at once that it cannot. The future tells what became of it, within
    /// the produce timeout; dropping the future does not take the record back.
    pub fn enqueue(
        &self,
        out: Outgoing,
    ) -> Result<impl Future<Output = Result<Delivered, ProduceError>> + Send + 'static, ProduceError>
    {
        let bytes = out.size();
        let limit = self.shared.limits.of(&out.topic);
        if bytes > limit {
            return Err(ProduceError::TooLarge { bytes, limit });
        }
        let reservation = match &self.shared.guard {
            Some(guard) => Some(guard.reserve(&out.topic, out.partition, bytes)?),
            None => None,
        };
        let place = self.shared.room.take().ok_or(ProduceError::QueueFull)?;
        let (answer, outcome) = oneshot::channel();
        let pending = Box::new(Pending {
            answer,
            bytes,
            limit,
            reservation,
            _place: place,
        });
        if let Some((out, pending)) = self.gather.hold((out, pending), Instant::now()) {
            let sent = self.shared.hand_over(&out, pending);
            sent.map_err(|(error, _)| error)?;
        }
        Ok(async move {
            outcome.await.unwrap_or_else(|_| {
                Err(ProduceError::Unknown("the producer was closed".to_owned()))
            })
        })
    }

    /// Enqueues and waits for the outcome.
    pub async fn send(&self, out: Outgoing) -> Result<Delivered, ProduceError> {
        self.enqueue(out)?.await
    }

    /// Sends again and again, with back-off, until the record is acknowledged: it may be written more than once.
    /// Ends early with the last error when `stop` is cancelled, and at once when no repeat can help.
    pub async fn send_until_acked(
        &self,
        out: Outgoing,
        stop: &CancellationToken,
    ) -> Result<Delivered, ProduceError> {
        let mut wait = Duration::from_millis(50);
        loop {
            let error = match self.send(out.clone()).await {
                Ok(delivered) => return Ok(delivered),
                Err(error) if !error.is_transient() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(topic = %out.topic, key = %out.key, %error, "produce failed, trying again");
            let pause = wait.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = stop.cancelled() => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Records in the queue or on their way.
    pub fn in_flight(&self) -> i32 {
        i32::try_from(self.shared.room.taken()).unwrap_or(i32::MAX)
    }

    /// How often the native producer was replaced after a fatal error.
    pub fn rebuilt(&self) -> u64 {
        self.shared.rebuilt.load(Ordering::Relaxed)
    }

    /// Waits until everything enqueued before has its outcome. `Unknown` if that takes longer than `limit`.
    pub async fn flush(&self, limit: Duration) -> Result<(), ProduceError> {
        let (shared, gather) = (self.shared.clone(), self.gather.clone());
        let flushed = tokio::task::spawn_blocking(move || {
            gather.drain();
            match &shared.current.load_full().native {
                Some(native) => native.flush(limit),
                None => Ok(()),
            }
        })
        .await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ProduceError::Unknown(describe(&error))),
            Err(error) => Err(ProduceError::Unknown(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedBroker;
    use crate::topics::TopicPlan;

    fn topic() -> TopicPlan {
        TopicPlan {
            compact: false,
            name: "a".into(),
            partitions: 1,
            replication: 1,
            min_insync: 1,
            retention: Duration::from_secs(60),
            max_message_bytes: 1 << 20,
            append_time: false,
        }
    }

    fn out(key: &str) -> Outgoing {
        Outgoing {
            topic: "a".into(),
            partition: None,
            key: key.into(),
            headers: RecordHeaders::new(),
            payload: Bytes::from_static(b"x"),
        }
    }

    /// The binding cannot cause a fatal error, so the mark that one leaves is set by hand: the next record goes
    /// through a new native producer, and those of the old one still get their outcome.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_fatal_error_builds_a_new_producer() {
        let broker = EmbeddedBroker::start(&[topic()]).unwrap();
        let producer = broker.cluster().producer("test").unwrap();
        producer.send(out("warm")).await.unwrap();
        let early = producer.enqueue(out("early")).unwrap();
        let first = producer.shared.current.load().number;
        producer
            .shared
            .current
            .load()
            .fatal
            .store(true, Ordering::Release);
        // Many at once build one.
        let sends = (0..20).map(|i| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.send(out(&i.to_string())).await })
        });
        for sent in futures::future::join_all(sends).await {
            sent.unwrap().unwrap();
        }
        assert_eq!(producer.rebuilt(), 1);
        assert_eq!(producer.shared.current.load().number, first + 1);
        early.await.unwrap();
    }
}
