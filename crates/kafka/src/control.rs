//! Reading the control topic: to its end before the first job is taken or moved, and then as it grows.
//!
//! Nothing is committed: every process that heeds orders reads all of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::{Millis, Order, now_millis};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::consumer::{AssignedConsumer, ConsumerEvent, Record};
use crate::error::KafkaError;

/// A broker that says nothing for so long is asked from the start.
const SILENCE: Duration = Duration::from_secs(10);

/// Who heeds what is ordered.
pub trait TakesOrders: Send + Sync {
    /// An order, with the time of its record. Those under one key come in the order in which they were given; after a
    /// failure to catch up all come again.
    fn take(&self, order: Order, written: Option<Millis>, now: Millis);

    /// A record could not be read and was passed over.
    fn passed_over(&self);
}

/// The reader of the control topic.
pub struct ControlReader {
    consumer: AssignedConsumer,
    topic: String,
    taker: Arc<dyn TakesOrders>,
}

impl ControlReader {
    /// Connects at the first read. Must be called on a tokio runtime.
    pub fn new(
        cluster: &Cluster,
        client_id: &str,
        taker: Arc<dyn TakesOrders>,
    ) -> Result<Self, KafkaError> {
        let topic = cluster.topics().control();
        Ok(Self {
            consumer: cluster.assigned_consumer_with_ends(&topic, client_id)?,
            topic,
            taker,
        })
    }

    /// Reads everything that is there. May be called again when it has failed.
    ///
    /// # Errors
    /// When nothing came for a while.
    pub async fn catch_up(&self, partitions: i32) -> Result<(), KafkaError> {
        let mut left: BTreeSet<i32> = (0..partitions).collect();
        for partition in &left {
            self.consumer.assign(*partition, 0)?;
        }
        let mut trouble = None;
        while !left.is_empty() {
            match timeout(SILENCE, self.consumer.next()).await {
                Ok(ConsumerEvent::Record(record)) => self.take(&record),
                Ok(ConsumerEvent::EndOfPartition(partition)) => {
                    left.remove(&partition);
                }
                Ok(ConsumerEvent::Trouble(reason)) => trouble = Some(reason),
                Ok(
                    ConsumerEvent::Assigned(_)
                    | ConsumerEvent::Revoked(_)
                    | ConsumerEvent::Committed(_),
                ) => {}
                Err(_) => {
                    let silent = || format!("nothing came of {} in time", self.topic);
                    return Err(KafkaError::Unavailable(trouble.unwrap_or_else(silent)));
                }
            }
        }
        Ok(())
    }

    /// Reads on. Never ends.
    pub async fn follow(&self) {
        loop {
            match self.consumer.next().await {
                ConsumerEvent::Record(record) => self.take(&record),
                ConsumerEvent::Trouble(reason) => {
                    tracing::debug!(topic = self.topic, reason, "control topic");
                }
                _ => {}
            }
        }
    }

    fn take(&self, record: &Record) {
        let now = now_millis();
        let key = record.key.as_deref();
        match key.and_then(|key| Order::read(key, &record.headers, now)) {
            Some(order) => self.taker.take(order, record.timestamp, now),
            None => {
                let (partition, offset) = (record.partition, record.offset);
                tracing::warn!(topic = self.topic, partition, offset, "record passed over");
                self.taker.passed_over();
            }
        }
    }
}
