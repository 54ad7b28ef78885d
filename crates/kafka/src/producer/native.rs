//! One native producer: its callbacks, its end, and what its errors mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tidegate_contract::RecordHeaders;
use tokio::sync::oneshot;

use super::room::Place;
use super::{Delivered, ProduceError};
use crate::contact::Contact;
use crate::embedded::memory::Reservation;
use crate::error::{KafkaError, describe};

/// How long a producer that is given up may take to get rid of what it holds.
const LAST_FLUSH: Duration = Duration::from_secs(10);

/// What waits for a delivery report.
pub(super) struct Pending {
    pub(super) answer: oneshot::Sender<Result<Delivered, ProduceError>>,
    pub(super) bytes: usize,
    pub(super) limit: usize,
    pub(super) reservation: Option<Reservation>,
    pub(super) _place: Place,
}

/// Callbacks of one native producer; they run on its polling thread.
pub(super) struct Callbacks {
    /// Set when librdkafka says that this producer is of no use any more, or it has lost its brokers.
    fatal: Arc<AtomicBool>,
    contact: Contact,
}

impl ClientContext for Callbacks {
    fn stats_raw(&self, statistics: &[u8]) {
        if self.contact.observe(statistics) {
            self.fatal.store(true, Ordering::Release);
        }
    }

    fn error(&self, error: Native, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            self.fatal.store(true, Ordering::Release);
        }
        tracing::warn!(error = %describe(&error), reason, "kafka producer");
    }
}

impl ProducerContext for Callbacks {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        let pending = *pending;
        let answer = match result {
            Ok(message) => {
                let delivered = Delivered {
                    partition: message.partition(),
                    offset: message.offset(),
                };
                if let Some(reservation) = pending.reservation {
                    reservation.delivered(delivered);
                }
                Ok(delivered)
            }
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(Code::Fatal) {
                    self.fatal.store(true, Ordering::Release);
                }
                Err(judge(error, pending.bytes, pending.limit))
            }
        };
        // Nobody waits any more: the outcome is in the log all the same.
        let _ = pending.answer.send(answer);
    }
}

/// What a delivery error says about the record. Only what certainly was not written is `Refused`: librdkafka knows
/// the state of each message, but the binding does not show it, so a time-out is `Unknown` even if nothing was sent.
pub(super) fn judge(error: &Native, bytes: usize, limit: usize) -> ProduceError {
    let text = describe(error);
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => ProduceError::QueueFull,
        Some(Code::MessageSizeTooLarge) => ProduceError::TooLarge { bytes, limit },
        Some(
            Code::PurgeQueue
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::NotEnoughReplicas
            | Code::PolicyViolation
            | Code::InvalidRecord
            | Code::InvalidMessageSize
            | Code::InvalidRequiredAcks
            | Code::UnsupportedForMessageFormat,
        ) => ProduceError::Refused(text),
        _ => ProduceError::Unknown(text),
    }
}

/// One native producer, from its making until it is of no use.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) fatal: Arc<AtomicBool>,
    /// Taken only by `drop`.
    pub(super) native: Option<ThreadedProducer<Callbacks>>,
}

impl Generation {
    pub(super) fn new(config: &ClientConfig, number: u64) -> Result<Self, KafkaError> {
        let fatal = Arc::new(AtomicBool::new(false));
        let mut config = config.clone();
        let callbacks = Callbacks {
            fatal: fatal.clone(),
            contact: Contact::of(&mut config),
        };
        let native = config
            .create_with_context(callbacks)
            .map_err(|error| KafkaError::Settings(error.to_string()))?;
        Ok(Self {
            number,
            fatal,
            native: Some(native),
        })
    }
}

impl Drop for Generation {
    /// Dropping a native producer purges its queue and blocks: flush first, on a thread of its own.
    fn drop(&mut self) {
        let Some(native) = self.native.take() else {
            return;
        };
        let spawned = std::thread::Builder::new()
            .name("kafka-producer-drop".to_owned())
            .spawn(move || {
                if let Err(error) = native.flush(LAST_FLUSH) {
                    tracing::warn!(error = %describe(&error), "a producer was given up with records unsent");
                }
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to flush a producer on");
        }
    }
}

pub(super) fn native_headers(headers: &RecordHeaders) -> OwnedHeaders {
    headers
        .iter()
        .fold(OwnedHeaders::new(), |owned, (key, value)| {
            owned.insert(Header {
                key,
                value: Some(value),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_refused() {
        let judged = |code| judge(&Native::MessageProduction(code), 7, 5);
        assert_eq!(judged(Code::QueueFull), ProduceError::QueueFull);
        let too_large = ProduceError::TooLarge { bytes: 7, limit: 5 };
        assert_eq!(judged(Code::MessageSizeTooLarge), too_large);
        for certain in [
            Code::PurgeQueue,
            Code::NotEnoughReplicas,
            Code::UnknownPartition,
            Code::TopicAuthorizationFailed,
            Code::PolicyViolation,
        ] {
            assert!(matches!(judged(certain), ProduceError::Refused(_)));
        }
        for open in [
            Code::MessageTimedOut,
            Code::PurgeInflight,
            Code::NotEnoughReplicasAfterAppend,
            Code::RequestTimedOut,
            Code::BrokerTransportFailure,
            Code::Fatal,
        ] {
            assert!(matches!(judged(open), ProduceError::Unknown(_)), "{open}");
        }
    }
}
