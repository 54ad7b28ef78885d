//! Which offsets of a partition are done, and up to where that may be committed.

use std::collections::BTreeSet;

/// Follows the records of one partition from delivery to completion, in whatever order they complete.
///
/// The *watermark* is the offset below which every delivered record is done. It is what may be committed: a
/// consumer that starts there sees every record again that was not finished. Offsets that are never delivered
/// (compacted away, transaction markers) do not hold it back.
#[derive(Debug, Default, Clone)]
pub struct OffsetTracker {
    /// Delivered and not yet done.
    open: BTreeSet<i64>,
    /// One past the highest offset delivered; `None` before the first.
    next: Option<i64>,
}

impl OffsetTracker {
    /// A tracker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `offset` was delivered. `false` if it, or a later one, was delivered before: the record is a
    /// repeat (a seek, or a fetch after a rebalance) and must not be handled again.
    #[must_use]
    pub fn deliver(&mut self, offset: i64) -> bool {
        if self.next.is_some_and(|next| offset < next) {
            return false;
        }
        self.next = Some(offset + 1);
        self.open.insert(offset)
    }

    /// Notes that the record at `offset` is done: its outcome is acknowledged. Gives the new watermark if that
    /// moved it. Unknown and repeated offsets change nothing.
    pub fn complete(&mut self, offset: i64) -> Option<i64> {
        let before = self.watermark();
        self.open.remove(&offset);
        let after = self.watermark();
        if before == after { None } else { after }
    }

    /// The offset to commit: the lowest open one, or one past the highest delivered. `None` before the first.
    pub fn watermark(&self) -> Option<i64> {
        self.open.first().copied().or(self.next)
    }

    /// How many delivered records are not done.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_open_record_holds_the_watermark() {
        let mut tracker = OffsetTracker::new();
        assert_eq!(tracker.watermark(), None);
        for offset in [10, 11, 14] {
            assert!(tracker.deliver(offset));
        }
        assert_eq!(tracker.complete(11), None);
        assert_eq!(tracker.complete(14), None);
        assert_eq!(tracker.watermark(), Some(10));
        assert_eq!(tracker.complete(10), Some(15));
        assert_eq!(tracker.open(), 0);
    }

    #[test]
    fn repeats_are_told() {
        let mut tracker = OffsetTracker::new();
        assert!(tracker.deliver(5));
        assert!(!tracker.deliver(5));
        assert!(!tracker.deliver(4));
        assert_eq!(tracker.complete(5), Some(6));
        assert_eq!(tracker.complete(5), None);
        assert!(!tracker.deliver(5));
    }

    proptest! {
        /// Against the definition: the watermark never passes an open offset, never goes back, and reaches the
        /// end when all is done.
        #[test]
        fn the_watermark_is_the_lowest_open_offset(
            gaps in prop::collection::vec(1i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut tracker = OffsetTracker::new();
            let mut model = Vec::new();
            let mut offset = 0;
            for gap in gaps {
                offset += gap;
                prop_assert!(tracker.deliver(offset));
                model.push(offset);
            }
            let end = offset + 1;
            let mut last = tracker.watermark().unwrap_or(0);
            for pick in order {
                if model.is_empty() { break; }
                let done = model.remove(pick.index(model.len()));
                tracker.complete(done);
                let expected = model.iter().min().copied().unwrap_or(end);
                prop_assert_eq!(tracker.watermark(), Some(expected));
                prop_assert!(expected >= last);
                last = expected;
            }
            prop_assert_eq!(tracker.open(), model.len());
        }
    }
}
