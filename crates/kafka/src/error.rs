//! What can go wrong between a client and the broker, apart from producing.

use rdkafka::error::KafkaError as Native;

use crate::topics::TopicProblem;

/// A call to Kafka did not work.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KafkaError {
    /// The client cannot be made: a setting is wrong.
    #[error("kafka client settings: {0}")]
    Settings(String),
    /// The broker was not reached in time, or is not able to answer now: try again.
    #[error("kafka is not available: {0}")]
    Unavailable(String),
    /// The broker answered, and the answer is no.
    #[error("kafka refused: {0}")]
    Refused(String),
}

/// Why topics cannot be said to be good.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// They could not be looked at.
    #[error(transparent)]
    Unknown(#[from] KafkaError),
    #[error(transparent)]
    Wrong(#[from] TopicProblem),
}

impl KafkaError {
    /// Whether the same call may work later without anybody doing something.
    pub fn is_transient(&self) -> bool {
        matches!(self, KafkaError::Unavailable(_))
    }

    pub(crate) fn call(error: Native) -> Self {
        KafkaError::Unavailable(describe(&error))
    }
}

/// The words of librdkafka without the name of the binding's variant.
pub(crate) fn describe(error: &Native) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
