//! The partitions of a rung that are ours, and how far each is done. Shared with the consumer's callbacks, which ask for
//! the last commit of a partition that is taken away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_contract::OffsetTracker;
use tidegate_contract::tracker::Delivery;
use tidegate_kafka::{OnRevoke, Position};

/// Where a record lies, under which assignment it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub partition: i32,
    pub offset: i64,
    epoch: u64,
}

/// All partitions of a rung that are ours.
#[derive(Default)]
pub(crate) struct Lines(Mutex<State>);

#[derive(Default)]
struct State {
    lines: HashMap<i32, Line>,
    /// Counts assignments, so that what belongs to an earlier one is told apart.
    epoch: u64,
}

struct Line {
    epoch: u64,
    tracker: OffsetTracker,
    committed: Option<i64>,
}

impl State {
    fn line(&mut self, partition: i32) -> &mut Line {
        let epoch = &mut self.epoch;
        self.lines.entry(partition).or_insert_with(|| {
            *epoch += 1;
            Line {
                epoch: *epoch,
                tracker: OffsetTracker::new(),
                committed: None,
            }
        })
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn assign(&self, partitions: &[i32]) {
        let mut state = self.lock();
        for partition in partitions {
            state.line(*partition);
        }
    }

    pub(crate) fn revoke(&self, partitions: &[i32]) {
        let mut state = self.lock();
        state
            .lines
            .retain(|partition, _| !partitions.contains(partition));
    }

    /// A record was read. `None` if it was read before under this assignment.
    pub(crate) fn deliver(&self, partition: i32, offset: i64) -> Option<At> {
        let mut state = self.lock();
        let line = state.line(partition);
        let epoch = line.epoch;
        let delivery = line.tracker.deliver(offset);
        (delivery == Delivery::New).then_some(At {
            partition,
            offset,
            epoch,
        })
    }

    /// The record lies elsewhere now. After a revocation this changes nothing: the next owner moves it again.
    pub(crate) fn complete(&self, at: At) {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(&at.partition)
            && line.epoch == at.epoch
        {
            line.tracker.complete(at.offset);
        }
    }

    pub(crate) fn owned(&self) -> Vec<i32> {
        self.lock().lines.keys().copied().collect()
    }

    /// Watermarks that moved since the last call; with `all`, every one.
    pub(crate) fn to_commit(&self, all: bool) -> Vec<(i32, i64)> {
        let mut moved = Vec::new();
        for (partition, line) in &mut self.lock().lines {
            let watermark = line.tracker.watermark();
            if let Some(offset) = watermark
                && (all || line.committed != watermark)
            {
                line.committed = watermark;
                moved.push((*partition, offset));
            }
        }
        moved
    }
}

impl OnRevoke for Lines {
    /// The last word on these partitions: nothing of them is committed after it.
    fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<Position> {
        let mut state = self.lock();
        let last = partitions.iter().filter_map(|partition| {
            let line = state.lines.remove(partition)?;
            Some((*partition, line.tracker.watermark()?).into())
        });
        last.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_an_earlier_assignment_completes_nothing() {
        let lines = Lines::default();
        lines.assign(&[0, 1]);
        let first = lines.deliver(0, 5).unwrap();
        assert!(lines.deliver(0, 5).is_none(), "a repeat");
        assert_eq!(lines.offsets_to_commit(&[0]), [(0, 5).into()]);
        assert_eq!(lines.owned(), [1]);

        let again = lines.deliver(0, 5).unwrap();
        lines.complete(first);
        assert_eq!(lines.to_commit(false), [(0, 5)]);
        lines.complete(again);
        assert_eq!(lines.to_commit(false), [(0, 6)]);
        assert_eq!(lines.to_commit(false), []);
        assert_eq!(lines.to_commit(true), [(0, 6)]);
    }
}
