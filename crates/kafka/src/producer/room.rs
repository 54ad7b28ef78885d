//! How many records wait for their outcome, held ones and those that librdkafka has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded number of places.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    limit: usize,
}

impl Room {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let taken = AtomicUsize::new(0);
        Arc::new(Self { taken, limit })
    }

    /// A place for one record; `None` if all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let free = |taken| (taken < self.limit).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, free);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// Given back when dropped: with the outcome of the record.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let room = Room::new(2);
        let first = room.take().unwrap();
        let second = room.take().unwrap();
        assert!(room.take().is_none());
        assert_eq!(room.taken(), 2);
        drop(first);
        assert!(room.take().is_some());
        drop(second);
        assert_eq!(room.taken(), 0);
    }
}
