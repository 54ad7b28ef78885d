//! The offsets of a lane: what was read back at an assignment, what is begun and done, what is to be committed.
//!
//! All of it lies under the lane's one lock, so that a commit is one moment of a partition: its offset, what is done
//! above, what runs. One commit of a lane is under way at a time. Nothing of a partition is handed out before its last
//! commit was read back, and nothing of it is begun before a commit in our name was acknowledged. What one record asks of its
//! offset is in [`place`].

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tidegate_contract::tracker::poison::RESERVE;
use tidegate_contract::tracker::{Delivery, Farewell, MetadataError, Restored, Snapshot};
use tidegate_contract::{Millis, OffsetTracker};
use tidegate_kafka::{Committed, OnRevoke, Position};

use crate::lane::{Lane, Place, State};

/// So many records are done: the next commit does not wait for its time. After a crash about so many are done again, and
/// not as many as a fast worker does between two ticks.
const COMMIT_AFTER: usize = 50;

/// A partition under one assignment.
pub(crate) struct Assigned {
    pub(crate) epoch: u64,
    tracker: OffsetTracker,
    /// When the open records were written, by offset.
    written: BTreeMap<i64, Millis>,
    /// Its last commit was read back.
    restored: bool,
    /// The version of the tracker that was sent last, and the one that was acknowledged last.
    sent: Option<u64>,
    kept: Option<u64>,
    /// When the last one that was acknowledged was sent.
    kept_at: Option<Instant>,
    /// A record that lies half a reserve from here asks for a commit.
    reach: i64,
    crowded: bool,
}

/// A commit that waits for its answer.
pub(crate) struct UnderWay {
    positions: Vec<Position>,
    /// Which state of which assignment it has: partition, epoch, version.
    versions: Vec<(i32, u64, u64)>,
    sent_at: Instant,
}

/// What a record that was read is.
pub(crate) enum Read {
    /// To be handled.
    New(Place),
    /// Done under an earlier assignment.
    Done,
    /// Read before under this one.
    Repeat,
}

/// The partition is not ours any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Assigned {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            tracker: OffsetTracker::new(),
            written: BTreeMap::new(),
            restored: false,
            sent: None,
            kept: None,
            kept_at: None,
            reach: i64::MIN,
            crowded: false,
        }
    }

    /// When the first of the open records was written.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        self.written.first_key_value().map(|(_, written)| *written)
    }

    fn snapshot(&mut self, owner: u64, farewell: Farewell) -> Option<Snapshot> {
        if !self.restored {
            return None;
        }
        let snapshot = self.tracker.snapshot(owner, farewell)?;
        self.sent = Some(self.tracker.version());
        self.reach = snapshot.reach;
        self.crowded = snapshot.is_crowded();
        Some(snapshot)
    }
}

fn position(partition: i32, snapshot: Snapshot) -> Position {
    Position {
        partition,
        offset: snapshot.offset,
        metadata: snapshot.metadata,
    }
}

impl State {
    /// Ends an assignment, and remembers what was begun under it.
    pub(crate) fn part(&mut self, partition: i32) -> Option<Assigned> {
        let assigned = self.partitions.remove(&partition)?;
        self.held.remove(&partition);
        let begun = self.begun.entry(partition).or_default();
        // What is done below is so whether or not the broker keeps the last commit.
        begun.insert_run(0, assigned.tracker.watermark().unwrap_or(0));
        for (start, end) in assigned.tracker.begun().runs() {
            begun.insert_run(start, end);
        }
        // An answer may never come of a consumer that was lost.
        let gone = |(of, epoch, _): &(i32, u64, u64)| {
            let current = self.partitions.get(of);
            current.is_none_or(|assigned| assigned.epoch != *epoch)
        };
        if let Some(commit) = &self.under_way
            && commit.versions.iter().all(gone)
        {
            self.under_way = None;
        }
        Some(assigned)
    }

    /// A commit was not kept, or nobody knows.
    fn send_again(&mut self, commit: &UnderWay) {
        for (partition, epoch, _) in &commit.versions {
            if let Some(assigned) = self.partitions.get_mut(partition)
                && assigned.epoch == *epoch
            {
                assigned.sent = None;
            }
        }
    }

    fn current(&mut self, place: &Place) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(&place.partition)?;
        (assigned.epoch == place.epoch).then_some(assigned)
    }
}

impl Lane {
    /// Partitions were added. Each has to be read back first; the numbers tell its assignment apart from others.
    pub(crate) fn assign(&self, partitions: &[i32]) -> Vec<(i32, u64)> {
        let mut state = self.lock();
        let epochs = partitions.iter().map(|partition| {
            let epoch = state.assigned(*partition).epoch;
            (*partition, epoch)
        });
        epochs.collect()
    }

    /// What the group had committed of a partition, and the offset that its next record will get. `None` if the
    /// assignment has ended meanwhile.
    pub(crate) fn restore(
        &self,
        (partition, epoch): (i32, u64),
        committed: Option<&Committed>,
        end: Option<i64>,
    ) -> Option<Result<Restored, MetadataError>> {
        let mut state = self.lock();
        let assigned = state.partitions.get_mut(&partition);
        let assigned = assigned.filter(|assigned| assigned.epoch == epoch)?;
        assigned.restored = true;
        let Some(committed) = committed else {
            return Some(Ok(Restored::default()));
        };
        let Some(metadata) = &committed.metadata else {
            return Some(Err(MetadataError::Foreign("not UTF-8".to_owned())));
        };
        Some(assigned.tracker.restore(committed.offset, metadata, end))
    }

    /// Whether its last commit was read back.
    pub(crate) fn is_restored(&self, partition: i32) -> bool {
        let state = self.lock();
        state.partitions.get(&partition).is_some_and(|a| a.restored)
    }

    /// A record was read that was written at that time.
    pub(crate) fn deliver(
        self: &Arc<Self>,
        partition: i32,
        offset: i64,
        written: Option<Millis>,
    ) -> Read {
        let mut state = self.lock();
        let assigned = state.assigned(partition);
        match assigned.tracker.deliver(offset) {
            Delivery::New => {}
            Delivery::Done => return Read::Done,
            Delivery::Repeat => return Read::Repeat,
        }
        if let Some(written) = written {
            assigned.written.insert(offset, written);
        }
        let place = Place {
            lane: Arc::clone(self),
            partition,
            offset,
            epoch: assigned.epoch,
        };
        // Half of what the last commit reserved is used up: the next is sent before more is.
        if assigned.reach != i64::MIN && offset >= assigned.reach - RESERVE / 2 {
            state.urgent = true;
            drop(state);
            self.commit_wanted.notify_one();
        }
        Read::New(place)
    }

    /// Of which nothing may be read: their commits have no room left, or were not read back yet.
    pub(crate) fn held_back(&self) -> BTreeSet<i32> {
        let state = self.lock();
        let held = state.partitions.iter();
        held.filter(|(_, assigned)| assigned.crowded || !assigned.restored)
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// What has changed since the last commit; with `all`, everything. Nothing while one is under way.
    pub(crate) fn to_commit(&self, all: bool) -> Vec<Position> {
        let mut state = self.lock();
        if state.under_way.is_some() {
            return Vec::new();
        }
        (state.urgent, state.done) = (false, 0);
        let (mut positions, mut versions) = (Vec::new(), Vec::new());
        for (partition, assigned) in &mut state.partitions {
            let version = assigned.tracker.version();
            if !all && assigned.sent == Some(version) {
                continue;
            }
            if let Some(snapshot) = assigned.snapshot(self.owner, Farewell::No) {
                positions.push(position(*partition, snapshot));
                versions.push((*partition, assigned.epoch, version));
            }
        }
        state.under_way = (!positions.is_empty()).then(|| UnderWay {
            positions: positions.clone(),
            versions,
            sent_at: Instant::now(),
        });
        positions
    }

    /// The broker has answered: a commit is kept, or perhaps not.
    pub(crate) fn committed(&self, positions: &[Position], kept: bool) {
        let mut state = self.lock();
        let Some(commit) = state.under_way.take_if(|sent| sent.positions == positions) else {
            return;
        };
        if !kept {
            state.send_again(&commit);
        }
        for (partition, epoch, version) in commit.versions.into_iter().filter(|_| kept) {
            if let Some(assigned) = state.partitions.get_mut(&partition)
                && assigned.epoch == epoch
            {
                assigned.kept = Some(version);
                assigned.kept_at = Some(commit.sent_at);
            }
        }
        // One that failed is repeated with the next tick.
        let again = state.urgent && kept;
        drop(state);
        if again {
            self.commit_wanted.notify_one();
        }
        self.answers.send_modify(|answers| *answers += 1);
    }

    /// The last word on all partitions: nothing of them runs any more.
    pub(crate) fn farewell(&self) -> Vec<Position> {
        let mut state = self.lock();
        state.all_ended = true;
        let all = state.partitions.iter_mut();
        all.filter_map(|(partition, assigned)| {
            let snapshot = assigned.snapshot(self.owner, Farewell::AllEnded)?;
            Some(position(*partition, snapshot))
        })
        .collect()
    }
}

impl OnRevoke for Lane {
    /// The last word on these partitions: from here on nothing of them is committed any more, since a late commit
    /// could overwrite the next owner's.
    fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<Position> {
        let mut state = self.lock();
        let farewell = match state.all_ended {
            true => Farewell::AllEnded,
            false => Farewell::RunsOn,
        };
        let parted = partitions.iter().filter_map(|partition| {
            let mut assigned = state.part(*partition)?;
            if farewell == Farewell::RunsOn {
                let running = assigned.tracker.running();
                self.given.give(&self.topic, *partition, running);
            }
            let snapshot = assigned.snapshot(self.owner, farewell)?;
            Some(position(*partition, snapshot))
        });
        let positions = parted.collect();
        drop(state);
        // Before the commit: serial jobs of these partitions are cut off while it is on its way.
        self.answers.send_modify(|answers| *answers += 1);
        positions
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
