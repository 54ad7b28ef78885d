//! A look at a topic from its end towards its beginning, piece by piece.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::cluster::Cluster;
use crate::consumer::{AssignedConsumer, ConsumerEvent, Record};
use crate::error::KafkaError;

/// How long a piece may take.
const LIMIT: Duration = Duration::from_secs(8);

/// The partitions of a topic, read backwards. Joins no group and commits nothing.
pub struct Newest {
    consumer: AssignedConsumer,
    parts: BTreeMap<i32, Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    /// The first offset that the log keeps.
    low: i64,
    /// What is read next lies below this.
    below: i64,
}

impl Newest {
    /// Begins at the ends of the partitions, or where `below` says for some. `None` if there is no such topic.
    ///
    /// # Errors
    /// When the broker does not say where the partitions begin and end.
    pub async fn of(
        cluster: &Cluster,
        topic: &str,
        client_id: &str,
        below: &BTreeMap<i32, i64>,
    ) -> Result<Option<Self>, KafkaError> {
        let Some(partitions) = cluster.partitions(topic).await? else {
            return Ok(None);
        };
        let consumer = cluster.assigned_consumer_with_ends(topic, client_id)?;
        let mut parts = BTreeMap::new();
        for partition in 0..partitions {
            let (low, high) = consumer.watermarks(partition).await?;
            let below = below.get(&partition).copied().unwrap_or(high);
            let below = below.clamp(low, high);
            parts.insert(partition, Part { low, below });
        }
        Ok(Some(Self { consumer, parts }))
    }

    /// The partitions, with the offset below which nothing has been read.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.parts
            .iter()
            .map(|(partition, part)| (*partition, part.below))
    }

    /// Whether a partition has older records.
    pub fn has_more(&self, partition: i32) -> bool {
        self.parts
            .get(&partition)
            .is_some_and(|part| part.below > part.low)
    }

    /// The next `count` records of a partition, or what is left of it, oldest first.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn piece(&mut self, partition: i32, count: i64) -> Result<Vec<Record>, KafkaError> {
        let Some(part) = self.parts.get_mut(&partition) else {
            return Ok(Vec::new());
        };
        let (from, until) = (part.below.saturating_sub(count).max(part.low), part.below);
        part.below = from;
        let mut records = Vec::new();
        if from >= until {
            return Ok(records);
        }
        self.consumer.assign(partition, from)?;
        let end = Instant::now() + LIMIT;
        let mut trouble = None;
        loop {
            let event = timeout_at(end, self.consumer.next()).await;
            match event {
                Ok(ConsumerEvent::Record(record)) if record.partition == partition => {
                    let last = record.offset + 1 >= until;
                    if record.offset < until {
                        records.push(record);
                    }
                    if last {
                        break;
                    }
                }
                // What lay before the end is there no more.
                Ok(ConsumerEvent::EndOfPartition(ended)) if ended == partition => break,
                Ok(ConsumerEvent::Trouble(reason)) => trouble = Some(reason),
                Ok(_) => {}
                Err(_) => {
                    self.consumer.unassign(partition);
                    let reason = trouble.unwrap_or_else(|| "records did not come".to_owned());
                    return Err(KafkaError::Unavailable(reason));
                }
            }
        }
        self.consumer.unassign(partition);
        Ok(records)
    }
}
