//! A consumer that reads what it is told to, from where it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::handle::{AGAIN, CALL, Handle, Native, Read, blocking};
use super::{ConsumerEvent, partitions};
use crate::error::{KafkaError, describe};

/// A consumer of one topic whose partitions are added and removed by hand, while it runs. It never commits and
/// belongs to no group. Dropping it blocks nobody.
pub struct AssignedConsumer {
    handle: Handle,
    /// What is read, and the next offset of each.
    assigned: Mutex<BTreeMap<i32, Offset>>,
}

impl AssignedConsumer {
    pub(crate) fn new(config: &ClientConfig, topic: String) -> Result<Self, KafkaError> {
        let handle = Handle::new(config, topic, None, None)?;
        Ok(Self {
            handle,
            assigned: Mutex::default(),
        })
    }

    fn add(&self, partition: i32, offset: Offset) -> Result<(), KafkaError> {
        let topic = &self.handle.topic;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, offset)
            .map_err(|error| KafkaError::Refused(describe(&error)))?;
        // Before the consumer is asked for: it may be made anew, with what is noted here.
        let mut assigned = self.assigned();
        let native = self.handle.native()?;
        if assigned.remove(&partition).is_some() {
            // Starts again from the given offset.
            let _ = native.incremental_unassign(&partitions(topic, &[partition]));
        }
        native
            .incremental_assign(&list)
            .map_err(|error| KafkaError::Refused(error.to_string()))?;
        assigned.insert(partition, offset);
        Ok(())
    }

    fn assigned(&self) -> MutexGuard<'_, BTreeMap<i32, Offset>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a partition from `offset` on; from there again if it is read already. An offset that is not in the log
    /// any more becomes the first that is.
    pub fn assign(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.add(partition, Offset::Offset(offset.max(0)))
    }

    /// Reads what is written to a partition from now on.
    pub fn assign_end(&self, partition: i32) -> Result<(), KafkaError> {
        self.add(partition, Offset::End)
    }

    /// Stops reading a partition. No record of it follows.
    pub fn unassign(&self, partition: i32) {
        let mut assigned = self.assigned();
        if assigned.remove(&partition).is_none() {
            return;
        }
        let list = partitions(&self.handle.topic, &[partition]);
        if let Ok(native) = self.handle.native()
            && let Err(error) = native.incremental_unassign(&list)
        {
            tracing::debug!(topic = %self.handle.topic, partition, %error, "unassign");
        }
    }

    /// The next event. Never ends; with no partitions it waits. Cancel safe.
    pub async fn next(&self) -> ConsumerEvent {
        loop {
            let lost = match self.handle.read().await {
                Read::Event(ConsumerEvent::Record(record)) => {
                    if let Some(next) = self.assigned().get_mut(&record.partition) {
                        *next = Offset::Offset(record.offset + 1);
                    }
                    return ConsumerEvent::Record(record);
                }
                Read::Event(event) => return event,
                Read::Lost(lost) => lost,
            };
            if !self.renew(lost) {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Makes a lost consumer anew, reading on where it has stopped. `false` if that could not be done.
    fn renew(&self, lost: Arc<Native>) -> bool {
        // Held until it is in its place, so that nothing is assigned to the old one in between.
        let assigned = self.assigned();
        let mut list = TopicPartitionList::new();
        for (partition, next) in assigned.iter() {
            // Cannot fail: it was an offset when it was assigned.
            let _ = list.add_partition_offset(&self.handle.topic, *partition, *next);
        }
        let renewed = self.handle.renew(lost, |native| match list.count() {
            0 => Ok(()),
            _ => native.incremental_assign(&list),
        });
        renewed.is_some()
    }

    /// The first offset that is there and the one that the next record will get.
    pub async fn watermarks(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.handle.watermarks(partition).await
    }

    /// The first offset of each of those partitions whose record is of that time (Unix milliseconds) or later; `None`
    /// where there is no such record.
    pub(crate) async fn offsets_at(
        &self,
        partitions: &[i32],
        time: i64,
    ) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
        let native = self.handle.native()?;
        let mut times = TopicPartitionList::new();
        for partition in partitions {
            times
                .add_partition_offset(&self.handle.topic, *partition, Offset::Offset(time.max(0)))
                .map_err(|error| KafkaError::Refused(describe(&error)))?;
        }
        let found = blocking(move || native.offsets_for_times(times, CALL))
            .await?
            .map_err(KafkaError::call)?;
        let found = found.elements().into_iter().map(|element| {
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            (element.partition(), offset)
        });
        Ok(found.collect())
    }
}
