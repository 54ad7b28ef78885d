//! Keeps the embedded broker from dropping what nobody has read.
//!
//! librdkafka's mock keeps at most 5 MiB and 100,000 batches a partition, and drops the oldest beyond that without a
//! word. Whoever produces through the [`Cluster`](crate::Cluster) of an embedded broker reserves the room first:
//! unread bytes of a partition, with those on their way, stay below 4 MiB. Read is what a group has committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::producer::{Delivered, ProduceError};

/// Unread bytes that a partition may hold.
pub(crate) const MAX_UNREAD_BYTES: usize = 4 << 20;
/// Unread records that a partition may hold: each may be a batch of its own.
pub(crate) const MAX_UNREAD_RECORDS: usize = 90_000;

/// Unread bytes of every partition of one embedded broker.
#[derive(Default)]
pub(crate) struct MemoryGuard {
    topics: Mutex<HashMap<String, TopicMemory>>,
}

#[derive(Default)]
struct TopicMemory {
    /// Reserved without a partition: may end up in any.
    anywhere: Held,
    partitions: HashMap<i32, PartitionMemory>,
}

#[derive(Default)]
struct PartitionMemory {
    reserved: Held,
    unread: Held,
    /// Unread records: offset to bytes.
    records: BTreeMap<i64, usize>,
    /// Everything below has been read.
    position: i64,
}

#[derive(Clone, Copy, Default)]
struct Held {
    bytes: usize,
    records: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.records += 1;
    }

    fn sub(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.records = self.records.saturating_sub(1);
    }

    fn plus(self, other: Held) -> Held {
        Held {
            bytes: self.bytes + other.bytes,
            records: self.records + other.records,
        }
    }
}

impl PartitionMemory {
    fn held(&self) -> Held {
        self.unread.plus(self.reserved)
    }
}

impl MemoryGuard {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, TopicMemory>> {
        self.topics
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reserves room for a record. Without a partition the fullest one must have it, besides all that is on its
    /// way to no partition in particular.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        topic: &str,
        partition: Option<i32>,
        bytes: usize,
    ) -> Result<Reservation, ProduceError> {
        let mut topics = self.lock();
        if !topics.contains_key(topic) {
            topics.insert(topic.to_owned(), TopicMemory::default());
        }
        let Some(memory) = topics.get_mut(topic) else {
            return Err(ProduceError::EmbeddedFull(topic.to_owned()));
        };
        let held = match partition {
            Some(partition) => memory
                .partitions
                .get(&partition)
                .map_or(Held::default(), PartitionMemory::held),
            None => memory
                .partitions
                .values()
                .map(PartitionMemory::held)
                .max_by_key(|held| (held.bytes, held.records))
                .unwrap_or_default(),
        }
        .plus(memory.anywhere);
        if held.bytes + bytes > MAX_UNREAD_BYTES || held.records >= MAX_UNREAD_RECORDS {
            return Err(ProduceError::EmbeddedFull(format!(
                "{} unread bytes in one partition of {topic}",
                held.bytes
            )));
        }
        match partition {
            Some(partition) => memory
                .partitions
                .entry(partition)
                .or_default()
                .reserved
                .add(bytes),
            None => memory.anywhere.add(bytes),
        }
        Ok(Reservation {
            guard: self.clone(),
            topic: topic.to_owned(),
            partition,
            bytes,
            open: true,
        })
    }

    /// Everything below `position` has been read. Positions never go back.
    pub(crate) fn read_to(&self, topic: &str, partition: i32, position: i64) {
        let mut topics = self.lock();
        let Some(memory) = topics.get_mut(topic) else {
            return;
        };
        let memory = memory.partitions.entry(partition).or_default();
        if position <= memory.position {
            return;
        }
        memory.position = position;
        let unread = memory.records.split_off(&position);
        for bytes in std::mem::replace(&mut memory.records, unread).into_values() {
            memory.unread.sub(bytes);
        }
    }
}

/// Room for one record that is on its way. Given back when dropped.
pub(crate) struct Reservation {
    guard: Arc<MemoryGuard>,
    topic: String,
    partition: Option<i32>,
    bytes: usize,
    open: bool,
}

impl Reservation {
    /// The record is in the log: it takes its room until it is read.
    pub(crate) fn delivered(mut self, at: Delivered) {
        let guard = self.guard.clone();
        let mut topics = guard.lock();
        self.give_back(&mut topics);
        let Some(memory) = topics.get_mut(&self.topic) else {
            return;
        };
        let memory = memory.partitions.entry(at.partition).or_default();
        if at.offset >= memory.position && memory.records.insert(at.offset, self.bytes).is_none() {
            memory.unread.add(self.bytes);
        }
    }

    fn give_back(&mut self, topics: &mut HashMap<String, TopicMemory>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let Some(memory) = topics.get_mut(&self.topic) else {
            return;
        };
        match self.partition {
            Some(partition) => {
                if let Some(memory) = memory.partitions.get_mut(&partition) {
                    memory.reserved.sub(self.bytes);
                }
            }
            None => memory.anywhere.sub(self.bytes),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open {
            let guard = self.guard.clone();
            self.give_back(&mut guard.lock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Delivered {
        Delivered { partition, offset }
    }

    fn refused(result: Result<Reservation, ProduceError>) -> bool {
        matches!(result, Err(ProduceError::EmbeddedFull(_)))
    }

    #[test]
    fn unread_bytes_are_kept_below_the_limit() {
        let guard = Arc::new(MemoryGuard::default());
        let half = MAX_UNREAD_BYTES / 2;
        guard
            .reserve("t", Some(0), half)
            .unwrap()
            .delivered(at(0, 0));
        guard
            .reserve("t", Some(0), half)
            .unwrap()
            .delivered(at(0, 1));
        assert!(refused(guard.reserve("t", Some(0), 1)));
        // Without a partition the fullest counts; another topic or partition has room.
        assert!(refused(guard.reserve("t", None, 1)));
        assert!(guard.reserve("t", Some(1), half).is_ok());
        assert!(guard.reserve("u", Some(0), half).is_ok());
        guard.read_to("t", 0, 1);
        assert!(refused(guard.reserve("t", Some(0), half + 1)));
        assert!(guard.reserve("t", Some(0), half).is_ok());
        // A position never goes back, and reading ahead of a report counts.
        guard.read_to("t", 0, 0);
        guard.read_to("t", 0, 9);
        guard
            .reserve("t", Some(0), half)
            .unwrap()
            .delivered(at(0, 5));
        assert!(guard.reserve("t", Some(0), MAX_UNREAD_BYTES).is_ok());
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_given_back() {
        let guard = Arc::new(MemoryGuard::default());
        let anywhere = guard.reserve("t", None, MAX_UNREAD_BYTES).unwrap();
        assert!(refused(guard.reserve("t", Some(3), 1)));
        drop(anywhere);
        let third = guard.reserve("t", Some(3), MAX_UNREAD_BYTES).unwrap();
        assert!(refused(guard.reserve("t", Some(3), 1)));
        assert!(refused(guard.reserve("t", None, 1)));
        drop(third);
        assert!(guard.reserve("t", None, MAX_UNREAD_BYTES).is_ok());
    }

    #[test]
    fn small_records_are_counted_too() {
        let guard = Arc::new(MemoryGuard::default());
        for offset in 0..MAX_UNREAD_RECORDS as i64 {
            guard
                .reserve("t", Some(0), 1)
                .unwrap()
                .delivered(at(0, offset));
        }
        assert!(refused(guard.reserve("t", Some(0), 1)));
        guard.read_to("t", 0, 1);
        assert!(guard.reserve("t", Some(0), 1).is_ok());
    }
}
