//! What runs here of partitions that were given up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::handover::{Beat, Spots};
use tidegate_contract::tracker::Offsets;
use tokio::sync::Notify;

/// One for a process; its lanes share it.
#[derive(Default)]
pub(crate) struct Given {
    state: Mutex<State>,
    /// Told when there is something new to say.
    pub changed: Notify,
}

#[derive(Default)]
struct State {
    running: Spots,
    /// What of it has ended, and since when that is told.
    done: VecDeque<(Instant, (String, i32), i64)>,
    /// The last beat named something.
    named: bool,
}

impl Given {
    /// A partition goes to somebody else while these records of it run.
    pub(crate) fn give(&self, topic: &str, partition: i32, running: &Offsets) {
        if running.is_empty() {
            return;
        }
        let mut state = self.lock();
        let given = state
            .running
            .entry((topic.to_owned(), partition))
            .or_default();
        for (start, end) in running.runs() {
            given.insert_run(start, end);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// One of them does not run any more: its outcome is acknowledged, or it was cut off. Of others nothing changes.
    pub(crate) fn ended(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        is_done: bool,
        now: Instant,
    ) {
        let mut state = self.lock();
        if state.running.is_empty() {
            return;
        }
        let at = (topic.to_owned(), partition);
        let Some(given) = state.running.get_mut(&at) else {
            return;
        };
        if !given.contains(offset) {
            return;
        }
        given.remove(offset);
        if given.is_empty() {
            state.running.remove(&at);
        }
        if is_done {
            state.done.push_back((now, at, offset));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// What to say now. An end is named for as long as `memory`. `None`: nothing, and nobody waits for a word.
    pub(crate) fn beat(&self, memory: Duration, now: Instant) -> Option<Beat> {
        let mut state = self.lock();
        let is_old = |(since, ..): &(Instant, _, _)| now.saturating_duration_since(*since) > memory;
        while state.done.front().is_some_and(is_old) {
            state.done.pop_front();
        }
        let mut beat = Beat {
            running: state.running.clone(),
            done: Spots::new(),
        };
        for (_, at, offset) in &state.done {
            beat.done.entry(at.clone()).or_default().insert(*offset);
        }
        let names = beat != Beat::default();
        let named = std::mem::replace(&mut state.named, names);
        (names || named).then_some(beat)
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Duration = Duration::from_secs(10);

    fn offsets(of: &[i64]) -> Offsets {
        let mut offsets = Offsets::new();
        of.iter().for_each(|offset| offsets.insert(*offset));
        offsets
    }

    #[test]
    fn what_is_given_up_is_named_until_it_ends_and_its_end_for_a_while() {
        let (given, now) = (Given::default(), Instant::now());
        assert_eq!(given.beat(MEMORY, now), None);
        given.give("t", 0, &offsets(&[5, 6, 7]));
        given.give("t", 1, &Offsets::new());
        given.ended("t", 0, 5, true, now);
        given.ended("t", 0, 6, false, now);
        given.ended("t", 0, 9, true, now);
        given.ended("u", 0, 7, true, now);
        let at = || ("t".to_owned(), 0);
        let beat = given.beat(MEMORY, now + MEMORY).unwrap();
        assert_eq!(beat.running, Spots::from([(at(), offsets(&[7]))]));
        assert_eq!(beat.done, Spots::from([(at(), offsets(&[5]))]));

        let later = now + MEMORY + Duration::from_millis(1);
        given.ended("t", 0, 7, false, later);
        let last = given.beat(MEMORY, later);
        assert_eq!(
            last,
            Some(Beat::default()),
            "that nothing runs is said once"
        );
        assert_eq!(given.beat(MEMORY, later), None);
    }
}
