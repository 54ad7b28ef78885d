//! A lane is one pool and tier: its topic, what is held ready of it, and which of its offsets are done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_contract::{Millis, OffsetTracker, Pool, Tier};
use tidegate_kafka::OnRevoke;
use tokio::sync::Notify;

use crate::work::Work;

/// What a record costs besides its payload, roughly.
pub(crate) const RECORD_COST: usize = 1024;

/// How much a lane may hold, ready and parked each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub records: usize,
    pub bytes: usize,
}

/// One pool and tier. The intake fills it, the dispatcher empties it, executions complete its offsets.
pub(crate) struct Lane {
    pub pool: Pool,
    pub tier: Tier,
    pub topic: String,
    pub group: String,
    /// In metrics and logs: `jobs-high`, `jobs-gpu-high`.
    pub label: String,
    room: Room,
    state: Mutex<State>,
    /// Told when something was taken out.
    pub emptied: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Ready>,
    ready_bytes: usize,
    parked: usize,
    parked_bytes: usize,
    partitions: HashMap<i32, Assigned>,
    /// Counts assignments, so that what belongs to an earlier one is told apart.
    epoch: u64,
    /// One past the highest offset of which a handler was started, per partition, over all assignments.
    started_to: HashMap<i32, i64>,
}

struct Assigned {
    epoch: u64,
    tracker: OffsetTracker,
    /// When the open records were written, by offset.
    written: BTreeMap<i64, Millis>,
    committed: Option<i64>,
}

/// A record that waits for a slot.
pub(crate) struct Ready {
    pub place: Place,
    pub bytes: usize,
    pub work: Work,
}

/// Where a record lies, under which assignment it was read.
#[derive(Clone)]
pub(crate) struct Place {
    pub lane: Arc<Lane>,
    pub partition: i32,
    pub offset: i64,
    epoch: u64,
}

impl Place {
    /// Whether the assignment under which the record was read still holds.
    pub(crate) fn is_current(&self) -> bool {
        let state = self.lane.lock();
        let assigned = state.partitions.get(&self.partition);
        assigned.is_some_and(|assigned| assigned.epoch == self.epoch)
    }

    /// The record is done: its outcome is acknowledged. After a revocation this changes nothing; the next owner
    /// will do the record again.
    pub(crate) fn complete(&self) {
        let mut state = self.lane.lock();
        if let Some(assigned) = state.partitions.get_mut(&self.partition)
            && assigned.epoch == self.epoch
        {
            assigned.tracker.complete(self.offset);
            assigned.written.remove(&self.offset);
        }
    }

    /// Notes that a handler is about to be started. `true` if that is known to have happened before.
    pub(crate) fn start(&self) -> bool {
        let mut state = self.lane.lock();
        let started_to = state.started_to.entry(self.partition).or_insert(0);
        // Records of a partition are started in the order of their offsets, so below the mark all were.
        let repeat = self.offset < *started_to;
        *started_to = (*started_to).max(self.offset + 1);
        repeat
    }
}

impl Lane {
    pub(crate) fn new(pool: Pool, tier: Tier, topic: String, group: String, room: Room) -> Self {
        let label = if pool == Pool::default() {
            format!("jobs-{tier}")
        } else {
            format!("jobs-{pool}-{tier}")
        };
        Self {
            pool,
            tier,
            topic,
            group,
            label,
            room,
            state: Mutex::default(),
            emptied: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions were added.
    pub(crate) fn assign(&self, partitions: &[i32]) {
        let mut state = self.lock();
        for partition in partitions {
            state.assigned(*partition);
        }
    }

    /// Partitions were taken away: nothing of them is begun any more. How many records that drops.
    pub(crate) fn revoke(&self, partitions: &[i32]) -> usize {
        let mut state = self.lock();
        for partition in partitions {
            state.partitions.remove(partition);
        }
        let before = state.ready.len();
        state.keep(|ready| !partitions.contains(&ready.place.partition));
        let dropped = before - state.ready.len();
        drop(state);
        self.emptied.notify_one();
        dropped
    }

    /// Drops everything that is held ready; it stays uncommitted.
    pub(crate) fn clear(&self) {
        self.lock().keep(|_| false);
    }

    /// A record was read that was written at that time. `None` if it was read before under this assignment.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        partition: i32,
        offset: i64,
        written: Option<Millis>,
    ) -> Option<Place> {
        let mut state = self.lock();
        // A record is only handed out while its partition is ours, even if it comes before the news of that.
        let assigned = state.assigned(partition);
        let epoch = assigned.epoch;
        if !assigned.tracker.deliver(offset) {
            return None;
        }
        if let Some(written) = written {
            assigned.written.insert(offset, written);
        }
        Some(Place {
            lane: Arc::clone(self),
            partition,
            offset,
            epoch,
        })
    }

    /// Puts a record in line.
    pub(crate) fn push(&self, ready: Ready) {
        let mut state = self.lock();
        state.ready_bytes += ready.bytes;
        state.ready.push_back(ready);
    }

    /// Takes the record whose turn it is.
    pub(crate) fn pop(&self) -> Option<Ready> {
        let mut state = self.lock();
        let ready = state.ready.pop_front()?;
        state.ready_bytes -= ready.bytes;
        drop(state);
        self.emptied.notify_one();
        Some(ready)
    }

    /// Records in line.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().ready.len()
    }

    /// A record waits to be handed on.
    pub(crate) fn park(&self, bytes: usize) {
        let mut state = self.lock();
        state.parked += 1;
        state.parked_bytes += bytes;
    }

    /// It waits no more.
    pub(crate) fn unpark(&self, bytes: usize) {
        let mut state = self.lock();
        state.parked -= 1;
        state.parked_bytes -= bytes;
        drop(state);
        self.emptied.notify_one();
    }

    /// Whether no more should be read.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.lock();
        state.ready.len() >= self.room.records
            || state.ready_bytes >= self.room.bytes
            || state.parked >= self.room.records
            || state.parked_bytes >= self.room.bytes
    }

    /// Whether reading is worth beginning again: half of everything is free.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.ready.len() <= self.room.records / 2
            && state.ready_bytes <= self.room.bytes / 2
            && state.parked <= self.room.records / 2
            && state.parked_bytes <= self.room.bytes / 2
    }

    /// When the oldest record was written that is not done; of each partition that is the first one.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        let state = self.lock();
        let firsts = state.partitions.values();
        firsts
            .filter_map(|assigned| assigned.written.first_key_value())
            .map(|(_, written)| *written)
            .min()
    }

    /// The partitions that are ours.
    pub(crate) fn owned(&self) -> Vec<i32> {
        self.lock().partitions.keys().copied().collect()
    }

    /// Watermarks that moved since the last call; with `all`, every one.
    pub(crate) fn to_commit(&self, all: bool) -> Vec<(i32, i64)> {
        let mut moved = Vec::new();
        for (partition, assigned) in &mut self.lock().partitions {
            let watermark = assigned.tracker.watermark();
            if let Some(offset) = watermark
                && (all || assigned.committed != watermark)
            {
                assigned.committed = watermark;
                moved.push((*partition, offset));
            }
        }
        moved
    }
}

impl State {
    fn assigned(&mut self, partition: i32) -> &mut Assigned {
        let epoch = &mut self.epoch;
        self.partitions.entry(partition).or_insert_with(|| {
            *epoch += 1;
            Assigned {
                epoch: *epoch,
                tracker: OffsetTracker::new(),
                written: BTreeMap::new(),
                committed: None,
            }
        })
    }

    fn keep(&mut self, keep: impl Fn(&Ready) -> bool) {
        self.ready.retain(keep);
        self.ready_bytes = self.ready.iter().map(|ready| ready.bytes).sum();
    }
}

impl OnRevoke for Lane {
    /// The last word on these partitions: from here on nothing of them is committed any more, since a late commit
    /// could overwrite the next owner's.
    fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<(i32, i64)> {
        let mut state = self.lock();
        partitions
            .iter()
            .filter_map(|partition| {
                let assigned = state.partitions.remove(partition)?;
                Some((*partition, assigned.tracker.watermark()?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lane;

    #[test]
    fn what_belongs_to_an_earlier_assignment_completes_nothing() {
        let lane = lane(8, 1 << 20);
        lane.assign(&[0, 1]);
        let first = lane.deliver(0, 5, Some(70)).unwrap();
        assert!(lane.deliver(0, 5, Some(70)).is_none(), "a repeat");
        assert!(!first.start());
        assert_eq!(lane.offsets_to_commit(&[0]), [(0, 5)]);
        assert!(!first.is_current());
        assert_eq!(lane.to_commit(true), []);

        lane.assign(&[0]);
        let again = lane.deliver(0, 5, None).unwrap();
        assert!(again.start(), "this worker knows that it is a repeat");
        first.complete();
        assert_eq!(lane.to_commit(false), [(0, 5)], "only the new one counts");
        again.complete();
        assert_eq!(lane.to_commit(false), [(0, 6)]);
        assert_eq!(lane.to_commit(false), []);
        assert_eq!(lane.to_commit(true), [(0, 6)]);
    }

    #[test]
    fn the_lowest_unfinished_record_holds_the_commit() {
        let lane = lane(8, 1 << 20);
        let places: Vec<_> = (10..13)
            .filter_map(|o| lane.deliver(3, o, Some(o * 10)))
            .collect();
        places[2].complete();
        places[1].complete();
        assert_eq!(lane.to_commit(false), [(3, 10)]);
        assert_eq!(lane.oldest(), Some(100));
        places[0].complete();
        assert_eq!(lane.to_commit(false), [(3, 13)]);
        assert_eq!(lane.oldest(), None);
    }

    #[test]
    fn full_by_count_or_bytes_and_open_again_at_half() {
        let lane = lane(4, 1000);
        let push = |offset: i64, bytes| {
            let place = lane.deliver(0, offset, None).unwrap();
            lane.push(Ready {
                place,
                bytes,
                work: crate::testing::work(),
            });
        };
        push(0, 10);
        assert!(!lane.is_full() && lane.has_room());
        push(1, 990);
        assert!(lane.is_full() && !lane.has_room());
        assert_eq!(lane.pop().map(|ready| ready.place.offset), Some(0));
        assert!(!lane.has_room(), "990 of 1000 bytes are still held");
        assert_eq!(lane.revoke(&[0]), 1);
        assert!(lane.has_room());
        lane.park(1000);
        assert!(lane.is_full());
        lane.unpark(1000);
        assert!(lane.has_room());
    }
}
