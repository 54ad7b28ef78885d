//! What is old enough to go, and how much of it has gone.

use std::time::Duration;

use tidegate_contract::{Millis, Status};

use crate::settings::Retention;
use crate::types::Purged;

/// Times before which things go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cutoffs {
    /// For each terminal status: ended at this time or earlier.
    pub ended: Vec<(Status, Millis)>,
    /// Of rows that never ended: with this deadline or an earlier one.
    pub unfinished: Millis,
    /// Of rows that go by their age alone: with this time or an earlier one.
    pub aged: [(Aged, Millis); 3],
}

/// Rows that go by their age alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aged {
    /// Since they were made.
    Tombstones,
    /// Notes of retries, since they were made.
    Retries,
    /// Since something new was kept of them.
    Endpoints,
}

/// How long it is noted that a job was done again: longer than dead letters are kept, so that none is done twice.
const RETRIES: Duration = Duration::from_secs(100 * 24 * 3600);

/// How long it is remembered that an endpoint failed, or is ended, when nobody uses it any more.
const ENDPOINTS: Duration = RETRIES;

impl Cutoffs {
    pub fn new(keep: &Retention, now: Millis) -> Self {
        let ended = Status::ALL
            .into_iter()
            .filter_map(|status| Some((status, before(now, keep.after_end(status)?))));
        Self {
            ended: ended.collect(),
            unfinished: before(now, keep.unfinished),
            aged: [
                (Aged::Tombstones, before(now, keep.tombstones)),
                (Aged::Retries, before(now, RETRIES)),
                (Aged::Endpoints, before(now, ENDPOINTS)),
            ],
        }
    }
}

fn before(now: Millis, age: Duration) -> Millis {
    now.saturating_sub(Millis::try_from(age.as_millis()).unwrap_or(Millis::MAX))
}

/// Counts towards the limit of one call.
#[derive(Debug)]
pub(crate) struct Tally {
    limit: u64,
    purged: Purged,
}

impl Tally {
    pub fn new(limit: u32) -> Self {
        Self {
            limit: limit.into(),
            purged: Purged::default(),
        }
    }

    /// How many rows may still go.
    pub fn rows_left(&self) -> i64 {
        let gone = self.purged.rows + self.purged.unfinished;
        i64::try_from(self.limit.saturating_sub(gone)).unwrap_or(i64::MAX)
    }

    pub fn ended(&mut self, count: u64) {
        self.purged.rows += count;
    }

    pub fn unfinished(&mut self, count: u64) {
        self.purged.unfinished += count;
    }

    pub fn aged(&mut self, kind: Aged, count: u64) {
        *match kind {
            Aged::Tombstones => &mut self.purged.tombstones,
            Aged::Retries => &mut self.purged.retries,
            Aged::Endpoints => &mut self.purged.endpoints,
        } += count;
    }

    /// Keys of jobs that never came to be.
    pub fn keys(&mut self, count: u64) {
        self.purged.keys += count;
    }

    pub fn purged(mut self) -> Purged {
        let full = |count| count >= self.limit;
        let Purged {
            tombstones,
            retries,
            keys,
            endpoints,
            ..
        } = self.purged;
        let others = [tombstones, retries, keys, endpoints];
        self.purged.more = self.rows_left() == 0 || others.into_iter().any(full);
        self.purged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_an_age_and_ages_never_overflow() {
        let keep = Retention {
            completed: Duration::MAX,
            ..Retention::default()
        };
        let cutoffs = Cutoffs::new(&keep, 1_000);
        assert_eq!(cutoffs.ended.len(), 5);
        assert!(cutoffs.ended.iter().all(|(status, _)| status.is_terminal()));
        assert_eq!(cutoffs.ended[0], (Status::Completed, 1_000 - Millis::MAX));
        let day = 24 * 60 * 60 * 1000;
        assert_eq!(cutoffs.unfinished, 1_000 - 14 * day);
    }

    #[test]
    fn the_limit_is_for_rows_of_all_kinds_together() {
        let mut tally = Tally::new(10);
        tally.ended(4);
        tally.unfinished(5);
        assert_eq!(tally.rows_left(), 1);
        tally.ended(1);
        assert!(tally.purged().more);
    }
}
