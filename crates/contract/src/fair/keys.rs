//! One job of a serial key at a time, in the order in which they came.

use std::collections::{HashMap, VecDeque};

use crate::names::Tenant;

/// What a job's order goes by: a key is its tenant's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SerialKey {
    /// Whose it is.
    pub tenant: Tenant,
    /// As the client gave it.
    pub key: String,
}

/// The gate before the line: of each key one thing is let through, the next when that is released.
///
/// Everything belongs to a partition, and goes with it when it is given up; what has begun by then still holds its key until
/// it is released, so that the same key cannot begin twice here when the partition comes back at once.
#[derive(Clone, Debug)]
pub struct Keys<T> {
    keys: HashMap<SerialKey, Turn<T>>,
    waiting: usize,
}

#[derive(Clone, Debug)]
struct Turn<T> {
    /// Of the one that was let through; `None` once that has been given up with its partition while it ran.
    partition: Option<i32>,
    begun: bool,
    waiting: VecDeque<(i32, T)>,
}

impl<T> Default for Keys<T> {
    fn default() -> Self {
        Self {
            keys: HashMap::new(),
            waiting: 0,
        }
    }
}

impl<T> Keys<T> {
    /// Lets `item` of that partition through if nothing of its key is, and keeps it otherwise.
    pub fn offer(&mut self, key: &SerialKey, partition: i32, item: T) -> Option<T> {
        if let Some(turn) = self.keys.get_mut(key) {
            turn.waiting.push_back((partition, item));
            self.waiting += 1;
            return None;
        }
        let turn = Turn {
            partition: Some(partition),
            begun: false,
            waiting: VecDeque::new(),
        };
        self.keys.insert(key.clone(), turn);
        Some(item)
    }

    /// What was let through of the key begins.
    pub fn begun(&mut self, key: &SerialKey) {
        if let Some(turn) = self.keys.get_mut(key) {
            turn.begun = true;
        }
    }

    /// What was let through is done with. The next one, which is let through by this.
    pub fn release(&mut self, key: &SerialKey) -> Option<T> {
        let turn = self.keys.get_mut(key)?;
        match turn.waiting.pop_front() {
            Some((partition, item)) => {
                turn.partition = Some(partition);
                turn.begun = false;
                self.waiting -= 1;
                Some(item)
            }
            None => {
                self.keys.remove(key);
                None
            }
        }
    }

    /// Drops what waits of partitions that are given up, and forgets what was let through of them and has not begun: that
    /// is dropped by whoever has it. What is let through in its place.
    pub fn give_up(&mut self, gone: impl Fn(i32) -> bool) -> Vec<T> {
        let mut through = Vec::new();
        let waiting = &mut self.waiting;
        self.keys.retain(|_, turn| {
            let before = turn.waiting.len();
            turn.waiting.retain(|(partition, _)| !gone(*partition));
            *waiting -= before - turn.waiting.len();
            if !turn.partition.is_some_and(&gone) {
                return true;
            }
            if turn.begun {
                turn.partition = None;
                return true;
            }
            match turn.waiting.pop_front() {
                Some((partition, item)) => {
                    turn.partition = Some(partition);
                    *waiting -= 1;
                    through.push(item);
                    true
                }
                None => false,
            }
        });
        through
    }

    /// What waits behind others of its key, in no order between keys.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let turns = self.keys.values();
        turns.flat_map(|turn| turn.waiting.iter().map(|(_, item)| item))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn key(number: usize) -> SerialKey {
        SerialKey {
            tenant: Tenant::default(),
            key: number.to_string(),
        }
    }

    #[test]
    fn a_key_of_another_tenant_is_another_key() {
        let mut keys = Keys::default();
        let other = SerialKey {
            tenant: "shop".parse().unwrap(),
            ..key(1)
        };
        assert_eq!(keys.offer(&key(1), 0, 1), Some(1));
        assert_eq!(keys.offer(&other, 0, 2), Some(2));
        assert_eq!(keys.offer(&key(1), 0, 3), None);
        assert_eq!(keys.release(&other), None);
        assert_eq!(keys.release(&key(1)), Some(3));
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn what_has_begun_holds_its_key_though_its_partition_is_gone() {
        let mut keys = Keys::default();
        keys.offer(&key(1), 0, 1);
        keys.begun(&key(1));
        keys.offer(&key(1), 0, 2);
        assert!(keys.give_up(|partition| partition == 0).is_empty());
        // It comes back, with both.
        assert_eq!(keys.offer(&key(1), 0, 1), None);
        assert_eq!(keys.offer(&key(1), 0, 2), None);
        assert_eq!(keys.release(&key(1)), Some(1));
        // Given up before it begins.
        assert!(keys.give_up(|_| true).is_empty());
        assert!(keys.is_empty());
        assert_eq!(keys.offer(&key(1), 0, 1), Some(1));
    }

    proptest! {
        /// Whatever comes, begins, ends and is given up: of a key one is through at most, in the order in which they came;
        /// nothing is forgotten while its partition is ours, and no key waits for nothing.
        #[test]
        fn one_at_a_time_and_in_order(steps in prop::collection::vec((0usize..4, 0usize..3, 0i32..2), 1..200)) {
            let mut keys = Keys::default();
            // All that came of a key and is not done with, the first being through; each has its partition.
            let mut model: Vec<VecDeque<(i32, usize)>> = vec![VecDeque::new(); 3];
            let mut begun: HashSet<usize> = HashSet::new();
            // Begun ones whose partition is gone.
            let mut lost: HashSet<usize> = HashSet::new();
            for (number, (what, k, partition)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        let through = keys.offer(&key(k), partition, number);
                        let free = model[k].is_empty() && !lost.contains(&k);
                        prop_assert_eq!(through, free.then_some(number));
                        model[k].push_back((partition, number));
                    }
                    2 if lost.contains(&k) => {
                        lost.remove(&k);
                        prop_assert_eq!(keys.release(&key(k)), model[k].front().map(|first| first.1));
                    }
                    2 if begun.contains(&k) => {
                        begun.remove(&k);
                        model[k].pop_front();
                        prop_assert_eq!(keys.release(&key(k)), model[k].front().map(|first| first.1));
                    }
                    2 if !model[k].is_empty() => {
                        begun.insert(k);
                        keys.begun(&key(k));
                    }
                    2 => {}
                    _ => {
                        let mut through: Vec<_> = keys.give_up(|p| p == partition);
                        let mut expected = Vec::new();
                        for (k, all) in model.iter_mut().enumerate() {
                            let held = lost.contains(&k);
                            let first = if held { None } else { all.front().copied() };
                            let first_goes = first.is_some_and(|first| first.0 == partition);
                            all.retain(|of| of.0 != partition);
                            if first_goes && begun.remove(&k) {
                                lost.insert(k);
                            } else if first_goes {
                                expected.extend(all.front().map(|first| first.1));
                            }
                        }
                        through.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(through, expected);
                    }
                }
                let waiting: usize = (0..3)
                    .map(|k| if lost.contains(&k) { model[k].len() } else { model[k].len().saturating_sub(1) })
                    .sum();
                prop_assert_eq!(keys.len(), waiting);
                prop_assert_eq!(keys.iter().count(), waiting);
            }
        }
    }
}
