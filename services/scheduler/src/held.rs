//! Records that are to move soon, in the order in which they do. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tidegate_contract::Millis;

/// A bounded heap: it takes no more once it is full by count or by bytes.
pub(crate) struct Held<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    /// Breaks ties, so that records which move at the same time keep their order.
    next: u64,
}

struct Entry<T> {
    moves: Millis,
    number: u64,
    item: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.moves, self.number).cmp(&(other.moves, other.number))
    }
}

impl<T> Held<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, moves: Millis, item: T) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Reverse(Entry {
            moves,
            number,
            item,
        }));
    }

    /// When the next one moves.
    pub(crate) fn next_at(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse(entry)| entry.moves)
    }

    /// The next one, if its time has come.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<T> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.item)
    }

    /// Drops what is not to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.heap.retain(|Reverse(entry)| keep(&entry.item));
    }
}

/// What is held or on its way, against its bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    records: usize,
    bytes: usize,
    most_records: usize,
    most_bytes: usize,
}

impl Room {
    pub(crate) fn new(most_records: usize, most_bytes: usize) -> Self {
        Self {
            records: 0,
            bytes: 0,
            most_records,
            most_bytes,
        }
    }

    /// Takes room for a record, if there is some. A record that is larger than all of it has room when there is no other.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let full = self.records >= self.most_records
            || (self.records > 0 && self.bytes + bytes > self.most_bytes);
        if !full {
            self.records += 1;
            self.bytes += bytes;
        }
        !full
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_at_the_same_time_keeps_its_order() {
        let mut held = Held::new();
        for (moves, item) in [(5, 'b'), (3, 'a'), (5, 'c'), (9, 'd')] {
            held.push(moves, item);
        }
        assert_eq!(held.pop_due(2), None);
        let mut due = Vec::new();
        while let Some(item) = held.pop_due(5) {
            due.push(item);
        }
        assert_eq!(due, ['a', 'b', 'c']);
        assert_eq!(held.next_at(), Some(9));
        held.retain(|item| *item != 'd');
        assert_eq!(held.next_at(), None);
    }

    #[test]
    fn room_is_bounded_and_a_giant_has_it_alone() {
        let mut room = Room::new(3, 100);
        assert!(room.take(60) && !room.take(50) && room.take(40));
        assert!(!room.take(1));
        room.give_back(40);
        room.give_back(60);
        assert!(room.take(1_000), "alone");
        assert!(!room.take(0));
        room.give_back(1_000);
        assert_eq!(room.records(), 0);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort(times in prop::collection::vec(0i64..20, 0..60)) {
            let mut held = Held::new();
            let mut sorted: Vec<_> = times.iter().copied().enumerate().collect();
            for (index, time) in &sorted {
                held.push(*time, *index);
            }
            sorted.sort_by_key(|(_, time)| *time);
            let popped: Vec<_> = std::iter::from_fn(|| held.pop_due(100)).collect();
            let expected: Vec<_> = sorted.into_iter().map(|(index, _)| index).collect();
            prop_assert_eq!(popped, expected);
        }
    }
}
