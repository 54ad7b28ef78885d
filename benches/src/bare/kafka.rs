//! Clients and topics of both roles.

use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::StreamConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{DeliveryResult, ProducerContext, ThreadedProducer};

use crate::Common;

/// As many as a jobs topic has.
const JOBS_PARTITIONS: i32 = 12;

impl Common {
    pub fn jobs(&self) -> String {
        format!("{}jobs", self.prefix)
    }

    pub fn replies(&self) -> String {
        format!("{}replies", self.prefix)
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// A consumer that waits in `group`, or reads by hand.
    pub fn consumer(&self, group: &str) -> anyhow::Result<StreamConsumer> {
        let consumer = self
            .base()
            .set("group.id", format!("{}{group}", self.prefix))
            .set("enable.auto.commit", "true")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "20")
            .create()?;
        Ok(consumer)
    }

    /// A producer that looks at nobody's delivery: the answer tells.
    pub fn producer(&self) -> anyhow::Result<ThreadedProducer<Deliveries>> {
        let producer = self
            .base()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", &self.linger)
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .create_with_context(Deliveries)?;
        Ok(producer)
    }

    /// Makes the topics if they are not there.
    pub async fn create_topics(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.base().create()?;
        let (jobs, replies) = (self.jobs(), self.replies());
        let topics = [(&jobs, JOBS_PARTITIONS), (&replies, 1)]
            .map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let made = admin.create_topics(&topics, &options);
        for result in made.await.context("topics cannot be made")? {
            if let Err((name, code)) = result
                && code != Code::TopicAlreadyExists
            {
                bail!("topic {name}: {code}");
            }
        }
        Ok(())
    }
}

/// What becomes of a record is told to those who ask for it by an error of their request alone.
pub struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            eprintln!("not delivered: {error}");
        }
    }
}
