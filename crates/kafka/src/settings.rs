//! What an installation says about its Kafka and its schema registry.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::topics::{
    DEAD_LETTERS_PARTITIONS, DELAY_PARTITIONS, JOBS_PARTITIONS, REPLIES_PARTITIONS,
};
use tidegate_contract::{Ladder, Secret};

/// How much a topic must survive. Roles check it at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Three replicas, two of which must have every acknowledged record.
    #[default]
    Replicated,
    /// One replica: what the disk of one broker loses is lost.
    SingleBroker,
}

impl Durability {
    /// Replicas of every topic.
    pub const fn replication(self) -> i32 {
        match self {
            Durability::Replicated => 3,
            Durability::SingleBroker => 1,
        }
    }

    /// `min.insync.replicas` of every topic.
    pub const fn min_insync(self) -> i32 {
        match self {
            Durability::Replicated => 2,
            Durability::SingleBroker => 1,
        }
    }
}

/// How many partitions the topics have: what `topics create` gives them, and the least that roles accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartitionCounts {
    /// Of each jobs topic: the most workers of one pool and tier that share the work.
    pub jobs: i32,
    /// The most gateways that have a partition of their own; the others borrow.
    pub replies: i32,
    pub dead_letters: i32,
    /// Of each rung of the delay ladder: the most schedulers that share one.
    pub delay: i32,
}

impl Default for PartitionCounts {
    fn default() -> Self {
        Self {
            jobs: JOBS_PARTITIONS,
            replies: REPLIES_PARTITIONS,
            dead_letters: DEAD_LETTERS_PARTITIONS,
            delay: DELAY_PARTITIONS,
        }
    }
}

/// Section `kafka` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, comma separated: where to begin.
    pub brokers: String,
    /// In front of every topic and group name, as it is.
    pub prefix: String,
    pub durability: Durability,
    pub partitions: PartitionCounts,
    /// The delays of the ladder's rungs, shortest first, each a topic. All roles need the same.
    pub delay_rungs: Ladder,
    /// Within this a produce is acknowledged or has failed.
    #[serde(with = "humantime_serde")]
    pub produce_timeout: Duration,
    /// Longest that a record is held, while very many come, so that others go with it in one request; half of it while
    /// many come. `0ms` never holds any.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// Records that may wait for acknowledgement, over all topics.
    pub queue_messages: usize,
    /// Bytes that may wait for acknowledgement, over all topics.
    pub queue_bytes: usize,
    /// Largest record, in bytes: key, headers and value as encoded.
    pub max_record_bytes: usize,
    /// After this silence a consumer has lost its partitions.
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    /// Passed to librdkafka as they are: `security.protocol`, `sasl.*`, `ssl.*`. They cannot change what the
    /// promises rest on (acknowledgements, idempotence, commits).
    pub librdkafka: BTreeMap<String, Secret>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            prefix: "tidegate.".to_owned(),
            durability: Durability::default(),
            partitions: PartitionCounts::default(),
            delay_rungs: Ladder::default(),
            produce_timeout: Duration::from_secs(5),
            linger: Duration::from_millis(4),
            queue_messages: 50_000,
            queue_bytes: 64 << 20,
            max_record_bytes: 2 << 20,
            session_timeout: Duration::from_secs(10),
            librdkafka: BTreeMap::new(),
        }
    }
}

/// Section `registry` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Base of the Confluent-compatible interface.
    pub url: String,
    /// Longest call.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Register missing schemas at start. For development: in production `tidegate schemas register` does it, so
    /// that a process that was started by mistake changes nothing.
    pub register: bool,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081/apis/ccompat/v7".to_owned(),
            timeout: Duration::from_secs(2),
            register: false,
            username: None,
            password: None,
        }
    }
}
