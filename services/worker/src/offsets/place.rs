//! What a record asks of its offset: whether it is still ours, begun before, or to be begun with care; and what it says when
//! it begins and is done.

use std::time::{Duration, Instant};

use tidegate_contract::tracker::poison::{Care, Mark};

use super::{COMMIT_AFTER, Gone};
use crate::lane::Place;

impl Place {
    /// Whether the assignment under which the record was read still holds.
    pub(crate) fn is_current(&self) -> bool {
        self.lane.lock().current(self).is_some()
    }

    /// Waits until the assignment under which the record was read has ended.
    pub(crate) async fn given_up(&self) {
        let mut answers = self.lane.answers.subscribe();
        while self.is_current() {
            // The lane has the sender, and the place the lane.
            let _ = answers.changed().await;
        }
    }

    /// The record is done: its outcome is acknowledged. After a revocation this changes nothing; the next owner
    /// will do the record again.
    pub(crate) fn complete(&self) {
        let mut state = self.lane.lock();
        let Some(assigned) = state.current(self) else {
            drop(state);
            return self.ended_elsewhere(true);
        };
        assigned.tracker.complete(self.offset);
        assigned.written.remove(&self.offset);
        state.done += 1;
        if state.done == COMMIT_AFTER {
            state.urgent = true;
            drop(state);
            self.lane.commit_wanted.notify_one();
        }
    }

    /// Its handler was cut off: whoever has the partition may begin it again.
    pub(crate) fn let_go(&self) {
        if !self.is_current() {
            self.ended_elsewhere(false);
        }
    }

    /// What ran on after its partition was given up does so no more.
    fn ended_elsewhere(&self, is_done: bool) {
        let (lane, now) = (&self.lane, Instant::now());
        lane.given
            .ended(&lane.topic, self.partition, self.offset, is_done, now);
    }

    /// Whether it may still run where its partition comes from.
    pub(crate) fn may_run_elsewhere(&self) -> bool {
        let mut state = self.lane.lock();
        let assigned = state.current(self);
        assigned.is_some_and(|assigned| assigned.tracker.may_run_elsewhere(self.offset))
    }

    /// Whether a handler of the record is known to have been begun before, here or by whoever had the partition.
    pub(crate) fn start(&self) -> bool {
        let mut state = self.lane.lock();
        let here = state.begun.get(&self.partition);
        here.is_some_and(|begun| begun.contains(self.offset))
            || state
                .current(self)
                .is_some_and(|assigned| assigned.tracker.begun_before(self.offset))
    }

    /// A handler of the record begins: from here on it is one of those that are named when the partition is given up.
    pub(crate) fn begin(&self) -> Result<(), Gone> {
        let mut state = self.lane.lock();
        let assigned = state.current(self).ok_or(Gone)?;
        assigned.tracker.start(self.offset);
        Ok(())
    }

    /// With what care to begin the record.
    pub(crate) fn care(&self) -> Result<Care, Gone> {
        let mut state = self.lane.lock();
        let assigned = state.current(self).ok_or(Gone)?;
        Ok(match assigned.tracker.care(self.offset) {
            // If we end before anything was committed in our name, nobody knows that we were here.
            Care::None if assigned.kept.is_none() => Care::Announce,
            care => care,
        })
    }

    /// The record is about to run alone; `alone`: really nothing runs beside it.
    pub(crate) fn mark(&self, alone: bool) {
        if let Some(assigned) = self.lane.lock().current(self) {
            let offset = self.offset;
            assigned.tracker.mark(Mark { offset, alone });
        }
    }

    /// It runs alone no more.
    pub(crate) fn unmark(&self) {
        if let Some(assigned) = self.lane.lock().current(self) {
            assigned.tracker.unmark(self.offset);
        }
    }

    /// Whether the partition was ours so short a time ago, as an acknowledged commit says. Who stands still for longer
    /// than a session may lose its partitions without hearing of it.
    pub(crate) fn was_ours(&self, within: Duration) -> bool {
        let mut state = self.lane.lock();
        let kept_at = state.current(self).and_then(|assigned| assigned.kept_at);
        kept_at.is_some_and(|at| at.elapsed() < within)
    }

    /// Waits until the broker has acknowledged a commit that knows all that has happened up to now.
    pub(crate) async fn announced(&self) -> Result<(), Gone> {
        let mut answers = self.lane.answers.subscribe();
        let version = {
            let mut state = self.lane.lock();
            let version = state.current(self).ok_or(Gone)?.tracker.version();
            state.urgent = true;
            version
        };
        self.lane.commit_wanted.notify_one();
        loop {
            {
                let mut state = self.lane.lock();
                let kept = state.current(self).ok_or(Gone)?.kept;
                if kept.is_some_and(|kept| kept >= version) {
                    return Ok(());
                }
            }
            // The lane has the sender, and the place the lane.
            let _ = answers.changed().await;
        }
    }
}
