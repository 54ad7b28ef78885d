//! The jobs that are called off, as whoever starts or moves jobs keeps them in mind. Pure: the time is passed in.
//!
//! A job is kept until its deadline, after which nobody starts it.

use std::collections::{BTreeSet, HashMap};

use crate::id::JobId;
use crate::time::Millis;

/// Jobs that are kept in mind at most, about 25 MB: beyond that those go first whose deadline is the nearest.
const LIMIT: usize = 200_000;
/// How long after its deadline a job is kept in mind, in milliseconds: clocks differ.
const SKEW: Millis = 2_000;

/// Jobs that are called off, a bounded number of them.
#[derive(Debug, Default)]
pub struct CalledOff {
    /// Until when each is kept.
    jobs: HashMap<JobId, Millis>,
    /// The same by that time.
    by_end: BTreeSet<(Millis, JobId)>,
}

impl CalledOff {
    /// A job is called off. `false` if its deadline is over, so that nobody starts it anyway.
    pub fn insert(&mut self, id: JobId, deadline: Millis, now: Millis) -> bool {
        let until = deadline.saturating_add(SKEW);
        self.forget_until(now);
        if until <= now {
            return false;
        }
        if let Some(before) = self.jobs.insert(id, until) {
            self.by_end.remove(&(before, id));
        }
        self.by_end.insert((until, id));
        while self.jobs.len() > LIMIT {
            self.forget_first();
        }
        true
    }

    /// Whether a job is called off, as far as is kept in mind.
    pub fn contains(&self, id: &JobId) -> bool {
        self.jobs.contains_key(id)
    }

    fn forget_first(&mut self) {
        if let Some((_, id)) = self.by_end.pop_first() {
            self.jobs.remove(&id);
        }
    }

    fn forget_until(&mut self, now: Millis) {
        while self.by_end.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000;

    #[test]
    fn nothing_is_kept_beyond_deadlines_and_the_limit() {
        let mut called_off = CalledOff::default();
        let ids: Vec<_> = (0..10).map(|_| JobId::generate()).collect();
        for (at, id) in (NOW..).zip(&ids) {
            called_off.insert(*id, at, NOW);
            called_off.insert(*id, at, NOW);
        }
        called_off.insert(ids[0], NOW + 50, NOW);
        called_off.insert(JobId::generate(), NOW + 99, NOW + 5 + SKEW);
        let kept = ids.iter().map(|id| called_off.contains(id));
        let kept: Vec<_> = kept.collect();
        assert!(kept[0] && !kept[5] && kept[6]);
        let late = JobId::generate();
        let is_kept = called_off.insert(late, NOW, NOW + SKEW);
        assert!(!is_kept && !called_off.contains(&late));
        let more = i64::try_from(LIMIT).unwrap();
        for at in 0..more {
            called_off.insert(JobId::generate(), NOW + 1_000 + at, NOW);
        }
        assert!(!called_off.contains(&ids[6]), "the nearest deadline first");
        let lengths = (called_off.jobs.len(), called_off.by_end.len());
        assert_eq!(lengths, (LIMIT, LIMIT));
    }
}
