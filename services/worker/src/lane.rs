//! A lane is one pool and tier: its topic, what is held ready of it, and which of its offsets are done.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_contract::fair::{self, Keys, Limits, Line, SerialKey};
use tidegate_contract::tracker::Offsets;
use tidegate_contract::{Millis, Pool, Tier, parking};
use tidegate_kafka::Record;
use tokio::sync::{Notify, watch};

use crate::handover::given::Given;
use crate::offsets::{Assigned, UnderWay};
use crate::work::Work;

/// What a record costs besides its payload, roughly.
pub(crate) const RECORD_COST: usize = 1024;

/// What a record counts for in its lane, in bytes.
pub(crate) fn size(record: &Record) -> usize {
    record.payload.as_ref().map_or(0, |value| value.len()) + RECORD_COST
}

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
    /// The process, in commits.
    pub owner: u64,
    room: Room,
    state: Mutex<State>,
    /// Told when something was taken out.
    pub emptied: Notify,
    /// Told when somebody waits for a commit.
    pub commit_wanted: Notify,
    /// Counts answers to commits and partitions that went away.
    pub answers: watch::Sender<u64>,
    /// What runs on of partitions that were given up.
    pub given: Arc<Given>,
}

#[derive(Default)]
pub(crate) struct State {
    ready: Line<Ready>,
    /// What is not in line yet because another of its serial key is, or runs.
    serial: Keys<Ready>,
    ready_bytes: usize,
    /// How many of them are of each partition that is ours.
    pub(crate) held: BTreeMap<i32, usize>,
    parked: usize,
    parked_bytes: usize,
    pub(crate) partitions: HashMap<i32, Assigned>,
    /// Counts assignments, so that what belongs to an earlier one is told apart.
    epoch: u64,
    /// What was begun or done here under assignments that have ended, per partition.
    pub(crate) begun: HashMap<i32, Offsets>,
    /// The commit that has not been answered yet.
    pub(crate) under_way: Option<UnderWay>,
    /// Somebody waits for the next one.
    pub(crate) urgent: bool,
    /// Records done since the last one was made.
    pub(crate) done: usize,
    /// Nothing runs here any more, and nothing will.
    pub(crate) all_ended: bool,
}

/// A record that waits for a slot.
pub(crate) struct Ready {
    pub place: Place,
    pub bytes: usize,
    pub work: Work,
    /// A suspect, which runs beside the slots.
    pub alone: bool,
}

/// Where a record lies, under which assignment it was read.
#[derive(Clone)]
pub(crate) struct Place {
    pub lane: Arc<Lane>,
    pub partition: i32,
    pub offset: i64,
    pub(crate) epoch: u64,
}

impl Lane {
    pub(crate) fn new(
        pool: Pool,
        tier: Tier,
        topic: String,
        group: String,
        (owner, given): (u64, Arc<Given>),
        room: Room,
    ) -> Self {
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
            owner,
            room,
            state: Mutex::default(),
            emptied: Notify::new(),
            commit_wanted: Notify::new(),
            answers: watch::Sender::new(0),
            given,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions were taken away: nothing of them is begun any more. How many records that drops.
    pub(crate) fn revoke(&self, partitions: &[i32]) -> usize {
        let mut state = self.lock();
        for partition in partitions {
            state.part(*partition);
        }
        let before = state.len();
        let through = state
            .serial
            .give_up(|partition| partitions.contains(&partition));
        state.keep(|ready| !partitions.contains(&ready.place.partition));
        for ready in through {
            state.count(ready.place.partition, ready.bytes);
            state.put_in_line(ready);
        }
        let dropped = before.saturating_sub(state.len());
        drop(state);
        self.emptied.notify_one();
        self.answers.send_modify(|answers| *answers += 1);
        dropped
    }

    /// Drops everything that is held ready; it stays uncommitted.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        drop(state.serial.give_up(|_| true));
        state.keep(|_| false);
    }

    /// Puts a record in line, or behind the others of its serial key. Gives a suspect back, unless it has to wait for
    /// its key.
    pub(crate) fn push(&self, ready: Ready) -> Option<Ready> {
        let mut state = self.lock();
        let ready = match ready.work.serial_key() {
            None => ready,
            Some(key) => {
                let (partition, bytes) = (ready.place.partition, ready.bytes);
                let through = state.serial.offer(&key, partition, ready);
                let Some(ready) = through else {
                    state.count(partition, bytes);
                    return None;
                };
                ready
            }
        };
        if ready.alone {
            return Some(ready);
        }
        state.count(ready.place.partition, ready.bytes);
        state.put_in_line(ready);
        None
    }

    /// A handler of this key is to begin.
    pub(crate) fn key_begun(&self, key: &SerialKey) {
        self.lock().serial.begun(key);
    }

    /// A job of this key is done with: the next one goes in line. Gives it back if it is a suspect.
    pub(crate) fn key_released(&self, key: &SerialKey) -> Option<Ready> {
        let mut state = self.lock();
        let next = state.serial.release(key)?;
        if next.alone {
            state.discount(&next);
            return Some(next);
        }
        state.put_in_line(next);
        None
    }

    /// Whether there is something in line that may run.
    pub(crate) fn may_run(&self, limits: &Limits) -> bool {
        self.lock().ready.may_run(limits)
    }

    /// Takes the record whose turn it is among those that may run.
    pub(crate) fn pop(&self, limits: &Limits) -> Option<Ready> {
        let mut state = self.lock();
        let ready = state.ready.take(limits)?;
        state.discount(&ready);
        drop(state);
        self.emptied.notify_one();
        Some(ready)
    }

    /// Takes out of a full lane what is in it only because of a limit; what has a serial key stays, for the sake of its
    /// order. See [`parking::surplus`].
    pub(crate) fn take_surplus(&self, limits: &Limits) -> Vec<Ready> {
        let mut state = self.lock();
        let most = parking::surplus(state.ready.limited(limits), state.len());
        let may_go = |ready: &Ready| matches!(&ready.work, Work::Run { job, .. } if job.serial_key.is_none());
        let surplus = state.ready.take_limited(limits, most, may_go);
        for ready in &surplus {
            state.discount(ready);
        }
        surplus
    }

    /// Records in line.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// A record is on its way to the delay ladder.
    pub(crate) fn park(&self, bytes: usize) {
        let mut state = self.lock();
        state.parked += 1;
        state.parked_bytes += bytes;
    }

    /// It lies there.
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
        state.len() >= self.room.records
            || state.ready_bytes >= self.room.bytes
            || state.parked >= self.room.records
            || state.parked_bytes >= self.room.bytes
    }

    /// Whether reading is worth beginning again: half of everything is free.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.len() <= self.room.records / 2
            && state.ready_bytes <= self.room.bytes / 2
            && state.parked <= self.room.records / 2
            && state.parked_bytes <= self.room.bytes / 2
    }

    /// The partitions that are not to be read on while the lane is full: those that fill it by their number of records;
    /// all, if what it is full of is bytes, or records that are to be parked.
    pub(crate) fn heavy(&self) -> Vec<i32> {
        let state = self.lock();
        let is_strict = state.ready_bytes >= self.room.bytes
            || state.parked >= self.room.records
            || state.parked_bytes >= self.room.bytes;
        match is_strict {
            true => state.held.keys().copied().collect(),
            false => fair::heavy(&state.held, self.room.records),
        }
    }

    /// The partitions that may be read again.
    pub(crate) fn light(&self) -> Vec<i32> {
        if self.has_room() {
            return self.owned();
        }
        let state = self.lock();
        let half_empty = state.ready_bytes <= self.room.bytes / 2
            && state.parked <= self.room.records / 2
            && state.parked_bytes <= self.room.bytes / 2;
        match half_empty {
            true => fair::light(&state.held, self.room.records),
            false => Vec::new(),
        }
    }

    /// When the oldest record was written that is not done; of each partition that is the first one.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        let state = self.lock();
        let firsts = state.partitions.values();
        firsts.filter_map(Assigned::oldest).min()
    }

    /// The partitions that are ours.
    pub(crate) fn owned(&self) -> Vec<i32> {
        self.lock().partitions.keys().copied().collect()
    }
}

impl State {
    /// A partition is ours; nothing changes if it is already.
    pub(crate) fn assigned(&mut self, partition: i32) -> &mut Assigned {
        self.held.entry(partition).or_default();
        let epoch = &mut self.epoch;
        self.partitions.entry(partition).or_insert_with(|| {
            *epoch += 1;
            Assigned::new(*epoch)
        })
    }

    /// Records that wait, in line and for their keys.
    fn len(&self) -> usize {
        self.ready.len() + self.serial.len()
    }

    /// Of a partition that was given up in the meantime nothing is counted.
    fn count(&mut self, partition: i32, bytes: usize) {
        if let Some(held) = self.held.get_mut(&partition) {
            *held += 1;
        }
        self.ready_bytes += bytes;
    }

    fn discount(&mut self, ready: &Ready) {
        self.ready_bytes = self.ready_bytes.saturating_sub(ready.bytes);
        if let Some(held) = self.held.get_mut(&ready.place.partition) {
            *held = held.saturating_sub(1);
        }
    }

    fn put_in_line(&mut self, ready: Ready) {
        let (job_type, tenant) = ready.work.owner();
        let (job_type, tenant) = (job_type.into_owned(), tenant.into_owned());
        self.ready.push(&job_type, &tenant, ready);
    }

    fn keep(&mut self, keep: impl Fn(&Ready) -> bool) {
        self.ready.retain(keep);
        let all = || self.ready.iter().chain(self.serial.iter());
        self.ready_bytes = all().map(|ready| ready.bytes).sum();
        self.held.values_mut().for_each(|held| *held = 0);
        for ready in all() {
            if let Some(held) = self.held.get_mut(&ready.place.partition) {
                *held += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_kafka::OnRevoke;

    use super::*;
    use crate::testing::{lane, ready};

    #[test]
    fn full_by_count_or_bytes_and_open_again_at_half() {
        let lane = lane(4, 1000);
        let none = Limits::default();
        let push = |offset: i64, bytes| {
            let ready = ready(&lane, offset, "echo", "default");
            lane.push(Ready { bytes, ..ready });
        };
        push(0, 10);
        assert!(!lane.is_full() && lane.has_room());
        push(1, 990);
        assert!(lane.is_full() && !lane.has_room());
        assert_eq!(lane.pop(&none).map(|ready| ready.place.offset), Some(0));
        assert!(!lane.has_room(), "990 of 1000 bytes are still held");
        assert_eq!(lane.revoke(&[0]), 1);
        assert!(lane.has_room());
        lane.park(1000);
        assert!(lane.is_full());
        lane.unpark(1000);
        assert!(lane.has_room());
    }

    #[test]
    fn the_partitions_that_fill_it_are_told_from_the_others() {
        let lane = lane(8, 1 << 20);
        lane.assign(&[0, 1]);
        for offset in 0..8 {
            lane.push(ready(&lane, offset, "echo", "default"));
        }
        assert!(lane.is_full());
        assert_eq!(lane.heavy(), [0]);
        assert_eq!(lane.light(), [1], "nothing of it stands in line");
        let taken: Vec<_> = (0..4)
            .filter_map(|_| lane.pop(&Limits::default()))
            .collect();
        assert_eq!(lane.light().len(), 2, "half of the lane is free");
        lane.park(1 << 20);
        assert_eq!(
            lane.heavy(),
            [0, 1],
            "bytes are bytes, wherever they come from"
        );
        assert_eq!(lane.light(), Vec::<i32>::new());
        lane.unpark(1 << 20);
        lane.offsets_to_commit(&[0]);
        assert_eq!(lane.revoke(&[0]), 4);
        assert_eq!((lane.heavy(), lane.light()), (vec![], vec![1]));
        drop(taken);
    }
}
