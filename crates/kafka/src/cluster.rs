//! One Kafka cluster as the settings name it: where clients come from. What librdkafka is told for each is in [`config`], what a
//! cluster itself is asked in [`asking`].

mod asking;
mod config;

use std::sync::{Arc, Mutex};

use tidegate_contract::Topics;

use crate::consumer::{AssignedConsumer, GroupConsumer, GroupOptions};
use crate::embedded::Mock;
use crate::embedded::memory::MemoryGuard;
use crate::error::KafkaError;
use crate::producer::{Limits, Producer};
use crate::settings::KafkaSettings;
use asking::Asking;
use config::millis;

pub use asking::ClusterInfo;
pub(crate) use asking::EMBEDDED_ID;

/// Settings and names, from which clients are made. Cheap to clone; making one connects to nothing.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    settings: KafkaSettings,
    topics: Topics,
    embedded: Option<Embedded>,
    /// The client of `probe` and `describe`: made at the first call and kept.
    asking: Mutex<Option<Arc<Asking>>>,
}

/// What a cluster knows of the broker in this process.
#[derive(Clone)]
pub(crate) struct Embedded {
    pub(crate) guard: Arc<MemoryGuard>,
    pub(crate) mock: Mock,
}

impl Cluster {
    /// A cluster with these settings.
    pub fn new(settings: KafkaSettings) -> Self {
        Self::build(settings, None)
    }

    pub(crate) fn build(settings: KafkaSettings, embedded: Option<Embedded>) -> Self {
        let topics = Topics::new(settings.prefix.clone());
        Self {
            inner: Arc::new(Inner {
                settings,
                topics,
                embedded,
                asking: Mutex::new(None),
            }),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &KafkaSettings {
        &self.inner.settings
    }

    /// The names.
    pub fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    /// A new producer. Fails on settings that librdkafka refuses, never on an absent broker.
    pub fn producer(&self, client_id: &str) -> Result<Producer, KafkaError> {
        let settings = self.settings();
        let limits = Limits {
            record: settings.max_record_bytes,
            dead_letters: self.topics().dead_letters(),
            dead_letter: self.max_dead_letter(),
        };
        Producer::new(
            self.producing(client_id),
            limits,
            settings.linger,
            settings.queue_messages.max(1),
            self.guard(),
        )
    }

    /// A new member of a group. Must be called on a tokio runtime.
    pub fn group_consumer(&self, options: GroupOptions) -> Result<GroupConsumer, KafkaError> {
        let mut config = self.consumer(&options.client_id, options.queued_bytes);
        config
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", options.partition_eof.to_string());
        if let Some(wait) = options.fetch_wait {
            config.set("fetch.wait.max.ms", millis(wait));
        }
        GroupConsumer::new(&config, options, self.guard())
    }

    /// A new consumer of the replies topic that reads nothing yet. Must be called on a tokio runtime.
    pub fn assigned_consumer(&self, client_id: &str) -> Result<AssignedConsumer, KafkaError> {
        self.assigned_consumer_of(&self.topics().replies(), client_id)
    }

    /// The same for any topic.
    pub fn assigned_consumer_of(
        &self,
        topic: &str,
        client_id: &str,
    ) -> Result<AssignedConsumer, KafkaError> {
        AssignedConsumer::new(&self.hand_assigned(client_id), topic.to_owned())
    }

    /// The same for any topic, telling of the ends of partitions.
    pub fn assigned_consumer_with_ends(
        &self,
        topic: &str,
        client_id: &str,
    ) -> Result<AssignedConsumer, KafkaError> {
        let mut config = self.hand_assigned(client_id);
        config.set("enable.partition.eof", "true");
        AssignedConsumer::new(&config, topic.to_owned())
    }

    /// Whether the broker is the one in this process.
    pub(crate) fn is_embedded(&self) -> bool {
        self.inner.embedded.is_some()
    }

    fn guard(&self) -> Option<Arc<MemoryGuard>> {
        self.inner
            .embedded
            .as_ref()
            .map(|embedded| embedded.guard.clone())
    }
}
