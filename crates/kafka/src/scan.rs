//! Reading a topic by hand from one place to another: nothing is joined and nothing committed.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_contract::Millis;

use crate::cluster::Cluster;
use crate::consumer::{AssignedConsumer, ConsumerEvent, Record};
use crate::error::KafkaError;

/// A broker that hands out nothing for this long, although there is something to read, is away.
const SILENCE: Duration = Duration::from_secs(15);

/// The embedded broker of any process calls its cluster so. It does not look for offsets by time.
const EMBEDDED: &str = "mockCluster";

/// Where to begin in each partition. What lies before the log begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Earliest,
    /// Behind the last record.
    Latest,
    Offset(i64),
    /// That many records before the end.
    Last(i64),
}

impl Place {
    /// The offset of a place in a log.
    fn in_log(self, low: i64, high: i64) -> i64 {
        let offset = match self {
            Place::Earliest => low,
            Place::Latest => high,
            Place::Offset(offset) => offset,
            Place::Last(count) => high.saturating_sub(count),
        };
        offset.clamp(low, high)
    }
}

/// What is to be read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first offset that the log keeps.
    pub low: i64,
    /// Where the read begins.
    pub from: i64,
    /// Where it ends: one past the last record.
    pub until: i64,
}

/// A read of a topic up to the ends that its partitions had when it was made, or beyond.
pub struct Scan {
    consumer: AssignedConsumer,
    stretches: BTreeMap<i32, Stretch>,
    /// Partitions that are not read to their end.
    left: BTreeMap<i32, i64>,
    follows: bool,
    begun: bool,
    trouble: Option<String>,
}

impl Scan {
    /// Looks where the partitions of a topic begin and end. `None` if there is no such topic. Must be called on a tokio
    /// runtime.
    pub async fn of(
        cluster: &Cluster,
        topic: &str,
        from: Place,
        client_id: &str,
    ) -> Result<Option<Self>, KafkaError> {
        let Some(partitions) = cluster.partitions(topic).await? else {
            return Ok(None);
        };
        let consumer = cluster.assigned_consumer_with_ends(topic, client_id)?;
        let mut stretches = BTreeMap::new();
        for partition in 0..partitions {
            let (low, until) = consumer.watermarks(partition).await?;
            let from = from.in_log(low, until);
            stretches.insert(partition, Stretch { low, from, until });
        }
        Ok(Some(Self {
            consumer,
            stretches,
            left: BTreeMap::new(),
            follows: false,
            begun: false,
            trouble: None,
        }))
    }

    /// What is to be read of each partition.
    pub fn stretches(&self) -> &BTreeMap<i32, Stretch> {
        &self.stretches
    }

    /// Records that lie between the beginnings and the ends, at most: there may be gaps.
    pub fn records(&self) -> i64 {
        let lengths = self.stretches.values();
        lengths.map(|stretch| stretch.until - stretch.from).sum()
    }

    /// Goes on beyond the ends, and never ends by itself.
    pub fn follow(mut self) -> Self {
        self.follows = true;
        self
    }

    /// Leaves out what was written before `since` or after `until`, by the time of the records. To be called before the
    /// first record is read.
    pub async fn between(
        mut self,
        cluster: &Cluster,
        since: Millis,
        until: Option<Millis>,
    ) -> Result<Self, KafkaError> {
        let id = cluster.probe(SILENCE).await?.cluster_id;
        if id.starts_with(EMBEDDED) {
            return Ok(self);
        }
        let partitions: Vec<i32> = self.stretches.keys().copied().collect();
        let from = self.consumer.offsets_at(&partitions, since).await?;
        let to = match until {
            Some(until) => self.consumer.offsets_at(&partitions, until).await?,
            None => BTreeMap::new(),
        };
        for (partition, stretch) in &mut self.stretches {
            let (low, high) = (stretch.from, stretch.until);
            let found = from.get(partition).copied().flatten();
            stretch.from = found.unwrap_or(high).clamp(low, high);
            if let Some(offset) = to.get(partition).copied().flatten() {
                stretch.until = offset.clamp(stretch.from, high);
            }
        }
        Ok(self)
    }

    /// Reads only some of the partitions. To be called before the first record is read.
    pub fn only(&mut self, wanted: impl Fn(i32, &Stretch) -> bool) {
        self.stretches
            .retain(|partition, stretch| wanted(*partition, stretch));
    }

    /// Reads no more of a partition.
    pub fn leave(&mut self, partition: i32) {
        self.consumer.unassign(partition);
        self.left.remove(&partition);
    }

    fn begin(&mut self) -> Result<(), KafkaError> {
        self.begun = true;
        for (partition, stretch) in &self.stretches {
            if self.follows || stretch.from < stretch.until {
                self.consumer.assign(*partition, stretch.from)?;
                self.left.insert(*partition, stretch.until);
            }
        }
        Ok(())
    }

    /// The next record; `None` when all is read. Records of one partition come in their order. Cancel safe.
    ///
    /// # Errors
    /// When nothing comes for a quarter of a minute although there is something to read.
    pub async fn next(&mut self) -> Result<Option<Record>, KafkaError> {
        if !self.begun {
            self.begin()?;
        }
        loop {
            if self.follows {
                if let ConsumerEvent::Record(record) = self.consumer.next().await {
                    return Ok(Some(record));
                }
                continue;
            }
            if self.left.is_empty() {
                return Ok(None);
            }
            let event = tokio::time::timeout(SILENCE, self.consumer.next()).await;
            match event {
                Ok(ConsumerEvent::Record(record)) => {
                    if let Some(record) = self.take(record) {
                        return Ok(Some(record));
                    }
                }
                // Whatever the last offsets before the end were, there is no record of them.
                Ok(ConsumerEvent::EndOfPartition(partition)) => self.leave(partition),
                Ok(ConsumerEvent::Trouble(reason)) => self.trouble = Some(reason),
                Ok(
                    ConsumerEvent::Assigned(_)
                    | ConsumerEvent::Revoked(_)
                    | ConsumerEvent::Committed(_),
                ) => {}
                Err(_) => {
                    let reason = self.trouble.take();
                    return Err(KafkaError::Unavailable(reason.unwrap_or_else(|| {
                        format!("nothing came for {} s", SILENCE.as_secs())
                    })));
                }
            }
        }
    }

    /// A record, if it is one to be read; notes where its partition is then.
    fn take(&mut self, record: Record) -> Option<Record> {
        let until = *self.left.get(&record.partition)?;
        if record.offset + 1 >= until {
            self.leave(record.partition);
        }
        (record.offset < until).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_always_within_the_log() {
        for (place, offset) in [
            (Place::Earliest, 10),
            (Place::Latest, 20),
            (Place::Offset(3), 10),
            (Place::Offset(12), 12),
            (Place::Offset(99), 20),
            (Place::Last(4), 16),
            (Place::Last(400), 10),
            (Place::Last(i64::MAX), 10),
        ] {
            assert_eq!(place.in_log(10, 20), offset, "{place:?}");
        }
    }
}
