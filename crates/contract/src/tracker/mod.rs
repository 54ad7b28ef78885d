//! Which offsets of a partition are done, up to where that may be committed, and what travels beside the commit.
//!
//! [`OffsetTracker`] follows one partition under one assignment. [`OffsetTracker::snapshot`] gives an offset and the
//! text that belongs to it (`metadata`), [`OffsetTracker::restore`] takes them up again in the next assignment, in
//! this process or another. `offsets` is a set of offsets and its short form, [`poison`] what is suspected of the
//! records, [`turns`] who may run beside whom in a process.

mod metadata;
mod offsets;
pub mod poison;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
pub mod turns;
mod wire;

use std::collections::BTreeSet;

pub use metadata::{BUDGET, MetadataError};
pub use offsets::Offsets;

use metadata::Notes;
use poison::{Care, Mark, RESERVE, Suspicion};

/// Above this a partition is crowded: three quarters of what a commit takes.
const CROWDED: usize = BUDGET / 4 * 3;

/// Follows the records of one partition from delivery to completion, in whatever order they complete.
///
/// The *watermark* is the offset below which every delivered record is done. It is what may be committed: a
/// consumer that starts there sees every record again that was not finished. Offsets that are never delivered
/// (compacted away, transaction markers) do not hold it back. What is done above it is in the metadata of the commit:
/// whoever starts there knows what to pass over.
///
/// ```
/// use tidegate_contract::tracker::{Delivery, Farewell, OffsetTracker};
///
/// let mut tracker = OffsetTracker::new();
/// for offset in 10..13 {
///     assert_eq!(tracker.deliver(offset), Delivery::New);
/// }
/// tracker.complete(11);
/// let (offset, metadata) = tracker.snapshot(7, Farewell::AllEnded).map(|s| (s.offset, s.metadata)).unwrap();
/// assert_eq!(offset, 10);
///
/// let mut next = OffsetTracker::new();
/// next.restore(offset, &metadata, None)?;
/// assert_eq!(next.deliver(10), Delivery::New);
/// assert_eq!(next.deliver(11), Delivery::Done);
/// # Ok::<(), tidegate_contract::tracker::MetadataError>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct OffsetTracker {
    /// Delivered and not yet done.
    open: BTreeSet<i64>,
    /// One past the highest offset delivered, here or before the last commit; `None` before the first.
    next: Option<i64>,
    /// Something was delivered here.
    delivered: bool,
    /// Done as the last commit has it, and not delivered here yet.
    restored: Offsets,
    /// Begun here and not done.
    running: Offsets,
    /// Begun under an earlier assignment, as its last commit has it.
    begun_before: Offsets,
    /// Of these, what may still run where the partition comes from: it was given up in order, and nothing of this is
    /// begun or done here.
    elsewhere: Offsets,
    suspicion: Suspicion,
    /// Counts what would change a snapshot.
    version: u64,
}

/// What a delivered record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// To be handled.
    New,
    /// Done under an earlier assignment.
    Done,
    /// Delivered before under this one: a seek, or a fetch after a pause.
    Repeat,
}

/// What the owner of a partition says of itself beside a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It stays: without another word it has ended otherwise than in order.
    No,
    /// It gives the partition up, and what runs goes on there.
    RunsOn,
    /// It gives the partition up, and nothing of it runs here any more.
    AllEnded,
}

/// An offset and the text that belongs to it, to be committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The watermark.
    pub offset: i64,
    /// No longer than [`BUDGET`], ASCII.
    pub metadata: String,
    /// How far the commit reaches: a record from here on is only begun after another one.
    pub reach: i64,
}

/// What a commit said of the time before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The process that wrote it; `None` if it was a plain commit.
    pub owner: Option<u64>,
    /// The owner ended without a farewell.
    pub unclean: bool,
    /// Records above the offset that are done.
    pub done: u64,
    /// Records that were running; after a clean end they may still be.
    pub running: u64,
    /// Unclean ends in a row.
    pub falls: u32,
}

impl OffsetTracker {
    /// A tracker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up what was committed, before anything is delivered. `end` is the offset that the next record of the
    /// partition will get, if that is known.
    ///
    /// # Errors
    /// If the text says nothing to us. The tracker is then as new, and what is above the offset is done again.
    pub fn restore(
        &mut self,
        offset: i64,
        metadata: &str,
        end: Option<i64>,
    ) -> Result<Restored, MetadataError> {
        *self = Self::new();
        let notes = Notes::decode(offset, metadata)?;
        self.next = Some(offset);
        let Some(notes) = notes else {
            return Ok(Restored::default());
        };
        let owner = notes.owner;
        let unclean = notes.farewell == Farewell::No;
        let (done, running) = (notes.done.count(), notes.running.count());
        self.suspicion = notes.suspicion;
        if unclean {
            let reach = notes.next.saturating_add(RESERVE);
            // Nothing was begun that is not in the log.
            let horizon = end.map_or(reach, |end| reach.min(end));
            let is_done = |offset| notes.done.contains(offset);
            self.suspicion.fell(&notes.running, horizon, is_done);
        } else {
            self.suspicion.handed_over();
        }
        self.restored = notes.done;
        if notes.farewell == Farewell::RunsOn {
            self.elsewhere = notes.running.clone();
        }
        self.begun_before = notes.running;
        self.suspicion.passed(offset);
        Ok(Restored {
            owner: Some(owner),
            unclean,
            done,
            running,
            falls: self.suspicion.falls(),
        })
    }

    /// Notes that `offset` was delivered, and tells whether it is to be handled.
    #[must_use]
    pub fn deliver(&mut self, offset: i64) -> Delivery {
        if self.next.is_some_and(|next| offset < next) {
            if self.delivered {
                return Delivery::Repeat;
            }
            // The log begins anew below what was committed: what was done is not what lies there now.
            *self = Self {
                version: self.version,
                ..Self::new()
            };
        }
        self.version += 1;
        self.delivered = true;
        let done = self.restored.contains(offset);
        self.next = Some(offset.saturating_add(1));
        self.restored.remove_below(offset.saturating_add(1));
        if done {
            self.moved();
            return Delivery::Done;
        }
        self.open.insert(offset);
        Delivery::New
    }

    /// Notes that the handler of a delivered record begins.
    pub fn start(&mut self, offset: i64) {
        if self.open.contains(&offset) && !self.running.contains(offset) {
            self.version += 1;
            self.running.insert(offset);
            self.elsewhere.remove(offset);
        }
    }

    /// Notes that the record at `offset` is done: its outcome is acknowledged. Gives the new watermark if that
    /// moved it. Unknown and repeated offsets change nothing.
    pub fn complete(&mut self, offset: i64) -> Option<i64> {
        let before = self.watermark();
        if !self.open.remove(&offset) {
            return None;
        }
        self.version += 1;
        self.running.remove(offset);
        self.elsewhere.remove(offset);
        self.suspicion.done(offset);
        let after = self.watermark();
        if before == after {
            return None;
        }
        self.moved();
        after
    }

    fn moved(&mut self) {
        if let Some(watermark) = self.watermark() {
            self.begun_before.remove_below(watermark);
            self.elsewhere.remove_below(watermark);
            self.suspicion.passed(watermark);
        }
    }

    /// The offset to commit: the lowest open one, or one past the highest delivered. `None` before the first.
    pub fn watermark(&self) -> Option<i64> {
        self.open.first().copied().or(self.next)
    }

    /// How many delivered records are not done.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// At and above the watermark: what has begun here, or is done.
    pub fn begun(&self) -> Offsets {
        let (Some(watermark), Some(next)) = (self.watermark(), self.next) else {
            return Offsets::new();
        };
        let mut begun = self.done_above(watermark, next);
        for (start, end) in self.running.runs() {
            begun.insert_run(start, end);
        }
        begun
    }

    /// Begun here and not done.
    pub fn running(&self) -> &Offsets {
        &self.running
    }

    /// Whether a handler of this record is known to have begun under an earlier assignment.
    pub fn begun_before(&self, offset: i64) -> bool {
        self.begun_before.contains(offset)
    }

    /// Whether it may still run where the partition came from: whoever gave it up said that it did.
    pub fn may_run_elsewhere(&self, offset: i64) -> bool {
        self.elsewhere.contains(offset)
    }

    /// With what care to start a record.
    pub fn care(&self, offset: i64) -> Care {
        self.suspicion.care(offset)
    }

    /// A record is about to run alone: the one of this partition that does.
    pub fn mark(&mut self, mark: Mark) {
        self.version += 1;
        self.suspicion.set_mark(mark);
    }

    /// It runs alone no more: it has been let go, or has ended. Of other records nothing changes.
    pub fn unmark(&mut self, offset: i64) {
        if self.suspicion.unmark(offset) {
            self.version += 1;
        }
    }

    /// Changes whenever the next snapshot is not like the last.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What to commit in the name of `owner`. `None` before the first delivery.
    pub fn snapshot(&self, owner: u64, farewell: Farewell) -> Option<Snapshot> {
        let (offset, next) = (self.watermark()?, self.next?);
        let (mut running, mut farewell) = (self.running.clone(), farewell);
        // What runs elsewhere is handed on. While we stay it is not ours to answer for: if we end otherwise than in
        // order, it was not because of that.
        if farewell != Farewell::No && !self.elsewhere.is_empty() {
            farewell = Farewell::RunsOn;
            for (start, end) in self.elsewhere.runs() {
                running.insert_run(start, end);
            }
        }
        let notes = Notes {
            owner,
            farewell,
            next,
            running,
            done: self.done_above(offset, next),
            suspicion: self.suspicion.clone(),
        };
        Some(Snapshot {
            offset,
            metadata: notes.encode(offset),
            reach: next.saturating_add(RESERVE),
        })
    }

    /// Whatever was delivered and is not open, and what was done before.
    fn done_above(&self, watermark: i64, next: i64) -> Offsets {
        let mut done = self.restored.clone();
        let mut at = watermark;
        for open in &self.open {
            done.insert_run(at, *open);
            at = open.saturating_add(1);
        }
        done.insert_run(at, next);
        done
    }

    /// Whether a commit has little room left: nothing more should be read until that has changed. Records that do not
    /// fit into one are only done again; it is to keep those few that this is said early.
    pub fn is_crowded(&self) -> bool {
        self.snapshot(0, Farewell::No)
            .is_some_and(|snapshot| snapshot.is_crowded())
    }
}

impl Snapshot {
    /// See [`OffsetTracker::is_crowded`].
    pub fn is_crowded(&self) -> bool {
        self.metadata.len() > CROWDED
    }
}
