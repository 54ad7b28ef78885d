//! What has been read from the replies and is not yet in the store: one bounded queue a partition.
//!
//! The reader pushes, the projector takes batches. Each assignment of a partition opens a queue of a new *epoch*;
//! what belongs to an older epoch is ignored on both sides, so that a partition that comes and goes quickly never
//! mixes two readings. A queue over its limit tells the reader to pause that partition; it never drops anything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::batch::{Entry, Taken};

/// Counts the openings of queues; never reused within a process.
pub(crate) type Epoch = u64;

/// Whether the reader may go on reading a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    Fine,
    Full,
}

pub(crate) struct Queues {
    inner: Mutex<Inner>,
    /// Told when there may be something to take.
    filled: Notify,
    /// Bytes a partition may hold before it is full.
    limit: usize,
}

#[derive(Default)]
struct Inner {
    last_epoch: Epoch,
    /// Where the search for the next batch begins, so that busy partitions do not starve the others.
    cursor: i32,
    queues: BTreeMap<i32, Queue>,
}

struct Queue {
    epoch: Epoch,
    position: i64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// A batch of this partition is being written.
    busy: bool,
    /// A batch has just been written: the next one is worth waiting for, unless it is full.
    resting: bool,
}

impl Queues {
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::default(),
            filled: Notify::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts anew for a partition whose stored position is `position`.
    pub fn open(&self, partition: i32, position: i64) -> Epoch {
        let mut inner = self.lock();
        inner.last_epoch += 1;
        let epoch = inner.last_epoch;
        let queue = Queue {
            epoch,
            position,
            entries: VecDeque::new(),
            bytes: 0,
            busy: false,
            resting: false,
        };
        inner.queues.insert(partition, queue);
        epoch
    }

    /// Forgets a partition and all that is queued for it: whoever owns it next reads it again.
    pub fn close(&self, partition: i32) {
        self.lock().queues.remove(&partition);
    }

    /// Whether work of this epoch still counts.
    pub fn is_current(&self, partition: i32, epoch: Epoch) -> bool {
        self.lock()
            .queues
            .get(&partition)
            .is_some_and(|queue| queue.epoch == epoch)
    }

    /// Adds a record. What belongs to an older epoch is dropped.
    pub fn push(&self, partition: i32, epoch: Epoch, entry: Entry) -> Pressure {
        let pressure = {
            let mut inner = self.lock();
            let Some(queue) = inner
                .queues
                .get_mut(&partition)
                .filter(|queue| queue.epoch == epoch)
            else {
                return Pressure::Fine;
            };
            queue.bytes += entry.bytes;
            queue.entries.push_back(entry);
            if queue.bytes >= self.limit {
                Pressure::Full
            } else {
                Pressure::Fine
            }
        };
        self.filled.notify_one();
        pressure
    }

    /// Whether a partition that was full has room again: below half its limit.
    pub fn has_room(&self, partition: i32) -> bool {
        self.lock()
            .queues
            .get(&partition)
            .is_none_or(|queue| queue.bytes < self.limit / 2)
    }

    /// Whether all that was pushed for a partition is in the store.
    pub fn is_drained(&self, partition: i32) -> bool {
        self.lock()
            .queues
            .get(&partition)
            .is_none_or(|queue| queue.entries.is_empty() && !queue.busy)
    }

    /// Whether all that was pushed is in the store.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Bytes queued over all partitions, with those that are being written.
    pub fn bytes(&self) -> usize {
        self.lock().queues.values().map(|queue| queue.bytes).sum()
    }

    /// The next batch of one partition that nobody else writes right now: at most so many records, and no more of them
    /// than begin within so many bytes.
    pub fn take(&self, max_events: usize, max_bytes: usize) -> Option<Taken> {
        let mut inner = self.lock();
        let cursor = inner.cursor;
        let ready = |(_, queue): &(&i32, &mut Queue)| {
            let waits = queue.resting && queue.entries.len() < max_events;
            !queue.busy && !waits && !queue.entries.is_empty()
        };
        let (before, after): (Vec<_>, Vec<_>) = inner
            .queues
            .iter_mut()
            .filter(ready)
            .partition(|(partition, _)| **partition <= cursor);
        let (partition, queue) = after.into_iter().chain(before).next()?;
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let begins = bytes;
            bytes += entry.bytes;
            begins < max_bytes
        };
        let count = queue.entries.iter().take(max_events);
        let count = count.take_while(fits).count();
        let entries = queue.entries.drain(..count).collect();
        queue.busy = true;
        let taken = Taken {
            partition: *partition,
            epoch: queue.epoch,
            expected: queue.position,
            entries,
        };
        inner.cursor = taken.partition;
        drop(inner);
        // Another writer may find work in another partition.
        self.filled.notify_one();
        Some(taken)
    }

    /// Notes that a batch is in the store. Its bytes count until then, so that the bound covers what is being
    /// written. The next one is not taken before [`Queues::rested`], unless it is full by then.
    pub fn applied(&self, taken: &Taken) {
        let mut inner = self.lock();
        if let Some(queue) = inner
            .queues
            .get_mut(&taken.partition)
            .filter(|queue| queue.epoch == taken.epoch)
        {
            queue.busy = false;
            queue.resting = true;
            queue.position = taken.next();
            queue.bytes -= taken.entries.iter().map(|entry| entry.bytes).sum::<usize>();
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// A partition has rested long enough since its last batch.
    pub fn rested(&self, partition: i32, epoch: Epoch) {
        let mut inner = self.lock();
        let queue = inner.queues.get_mut(&partition);
        if let Some(queue) = queue.filter(|queue| queue.epoch == epoch) {
            queue.resting = false;
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Waits until [`Queues::take`] may find something.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: i64) -> Entry {
        Entry {
            offset,
            key: offset.to_string(),
            trace: None,
            event: None,
            bytes: 10,
            timestamp: None,
        }
    }

    /// A batch is in the store, and its partition has rested.
    fn settled(queues: &Queues, taken: &Taken) {
        queues.applied(taken);
        queues.rested(taken.partition, taken.epoch);
    }

    #[test]
    fn a_partition_rests_after_a_batch_unless_the_next_one_is_full() {
        let queues = Queues::new(1000);
        let epoch = queues.open(0, 0);
        queues.push(0, epoch, entry(0));
        let first = queues.take(3, 1000).unwrap();
        queues.applied(&first);
        queues.push(0, epoch, entry(1));
        assert!(queues.take(3, 1000).is_none());
        queues.rested(0, epoch + 1);
        assert!(
            queues.take(3, 1000).is_none(),
            "that was another assignment"
        );
        queues.push(0, epoch, entry(2));
        queues.push(0, epoch, entry(3));
        let full = queues.take(3, 1000).unwrap();
        queues.applied(&full);
        queues.push(0, epoch, entry(4));
        queues.rested(0, epoch);
        assert_eq!(queues.take(3, 1000).unwrap().entries.len(), 1);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_never_empty() {
        let queues = Queues::new(1000);
        let epoch = queues.open(0, 0);
        for offset in 0..5 {
            queues.push(0, epoch, entry(offset));
        }
        for expected in [2, 2, 1] {
            let taken = queues.take(10, 11).unwrap();
            assert_eq!(taken.entries.len(), expected);
            settled(&queues, &taken);
        }
        assert!(queues.take(10, 11).is_none());
        queues.push(0, epoch, entry(5));
        assert_eq!(queues.take(10, 1).unwrap().entries.len(), 1);
    }

    #[test]
    fn batches_follow_on_from_each_other() {
        let queues = Queues::new(1000);
        let epoch = queues.open(5, 100);
        for offset in 100..107 {
            assert_eq!(queues.push(5, epoch, entry(offset)), Pressure::Fine);
        }
        let first = queues.take(4, 1000).unwrap();
        assert_eq!(
            (first.expected, first.next(), first.entries.len()),
            (100, 104, 4)
        );
        assert!(
            queues.take(4, 1000).is_none(),
            "one batch a partition at a time"
        );
        settled(&queues, &first);
        let second = queues.take(4, 1000).unwrap();
        assert_eq!((second.expected, second.next()), (104, 107));
        assert!(!queues.is_drained(5));
        settled(&queues, &second);
        assert!(queues.is_drained(5) && queues.bytes() == 0);
    }

    #[test]
    fn the_bound_covers_what_is_being_written() {
        let queues = Queues::new(40);
        let epoch = queues.open(0, 0);
        let pressures: Vec<_> = (0..4)
            .map(|offset| queues.push(0, epoch, entry(offset)))
            .collect();
        assert_eq!(
            pressures,
            [
                Pressure::Fine,
                Pressure::Fine,
                Pressure::Fine,
                Pressure::Full
            ]
        );
        let taken = queues.take(3, 1000).unwrap();
        assert!(!queues.has_room(0));
        settled(&queues, &taken);
        assert!(queues.has_room(0));
    }

    #[test]
    fn an_older_epoch_is_ignored() {
        let queues = Queues::new(1000);
        let old = queues.open(1, 0);
        queues.push(1, old, entry(0));
        let taken = queues.take(10, 1000).unwrap();
        let new = queues.open(1, 50);
        assert!(!queues.is_current(1, old) && queues.is_current(1, new));
        queues.push(1, old, entry(1));
        settled(&queues, &taken);
        assert!(queues.is_drained(1));
        queues.push(1, new, entry(50));
        assert_eq!(queues.take(10, 1000).unwrap().expected, 50);
        queues.close(1);
        assert!(queues.take(10, 1000).is_none() && !queues.is_current(1, new));
    }

    #[test]
    fn partitions_take_turns() {
        let queues = Queues::new(1000);
        for partition in [1, 2, 3] {
            let epoch = queues.open(partition, 0);
            for offset in 0..4 {
                queues.push(partition, epoch, entry(offset));
            }
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let taken = queues.take(2, 1000).unwrap();
            order.push(taken.partition);
            settled(&queues, &taken);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
    }
}
