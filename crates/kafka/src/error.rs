//! What can go wrong between a client and the broker, apart from producing.

use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};

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
    /// The broker does not know who asks.
    #[error(
        "kafka does not take this login ({0}): check sasl.username, sasl.password and sasl.mechanism in [kafka.librdkafka]"
    )]
    Login(String),
    /// The broker knows who asks, and its ACLs do not allow it.
    #[error("kafka's ACLs do not allow it: {0}")]
    Denied(String),
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
        let text = describe(&error);
        match error.rdkafka_error_code() {
            Some(code) => Self::of(code, text),
            None => KafkaError::Unavailable(text),
        }
    }

    /// What a code means; `text` says more.
    pub(crate) fn of(code: Code, text: String) -> Self {
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed => KafkaError::Login(text),
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed => KafkaError::Denied(text),
            _ => KafkaError::Unavailable(text),
        }
    }
}

/// The words of librdkafka without the name of the binding's variant.
pub(crate) fn describe(error: &Native) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
