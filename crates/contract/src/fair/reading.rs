//! Which partitions fill a look-ahead.

use std::collections::BTreeMap;

/// The partitions that are not to be read on while the look-ahead is full: those of which at least their share of
/// `room` is `held` in line. The others may be read until they have theirs, so that nothing of them stands behind a
/// flood of a neighbour; in all, less than twice the room is held. If the room is full there is always one.
pub fn heavy(held: &BTreeMap<i32, usize>, room: usize) -> Vec<i32> {
    let share = share(held, room);
    let over = held.iter().filter(|(_, count)| **count >= share);
    over.map(|(partition, _)| *partition).collect()
}

/// The partitions that may be read again even while the look-ahead is full: those of which at most half of their share
/// is in line. Without this, a partition with little in it would be read at the pace of the flood beside it.
pub fn light(held: &BTreeMap<i32, usize>, room: usize) -> Vec<i32> {
    let half = share(held, room) / 2;
    let under = held.iter().filter(|(_, count)| **count <= half);
    under.map(|(partition, _)| *partition).collect()
}

fn share(held: &BTreeMap<i32, usize>, room: usize) -> usize {
    (room / held.len().max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_those_with_their_share_are_held_back() {
        let held = BTreeMap::from([(0, 90), (1, 2), (2, 38), (3, 0)]);
        assert_eq!(heavy(&held, 128), [0, 2]);
        assert_eq!(light(&held, 128), [1, 3]);
        assert_eq!(heavy(&BTreeMap::from([(7, 4)]), 4), [7]);
        assert_eq!(heavy(&BTreeMap::new(), 4), Vec::<i32>::new());
    }

    proptest! {
        #[test]
        fn a_full_room_has_one_and_the_rest_stays_below_twice_the_room(
            counts in prop::collection::vec(0usize..50, 1..20), room in 1usize..200,
        ) {
            let held: BTreeMap<i32, usize> = (0..).zip(counts).collect();
            let heavy = heavy(&held, room);
            let sum: usize = held.values().sum();
            prop_assert!(sum < room || !heavy.is_empty());
            prop_assert!(light(&held, room).iter().all(|p| !heavy.contains(p)));
            let rest = held.iter().filter(|(p, _)| !heavy.contains(p));
            let most = rest.count() * (room / held.len()).max(1);
            prop_assert!(most <= room.max(held.len()));
        }
    }
}
