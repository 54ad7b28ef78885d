//! What this gateway does with each reply partition: pure decisions, no I/O.
//!
//! A partition that the group gives us goes through [`Phase::Opening`] (where does the store stand?) and
//! [`Phase::Verifying`] (is the record before that position still the one that was applied?) to [`Phase::Live`],
//! in which one read serves both the waits and the projection. In every other phase the *side reader* serves the
//! waits, from exactly where the last read of them ended: [`Ledger::side_reads`] says which partitions it must
//! follow, and it is left again when the main read has caught up with it.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::Epoch;

/// Where a partition stands that the group gave us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The store has been asked for its position; the partition is paused.
    Opening,
    /// The next record must be the last one that was applied.
    Verifying { offset: i64, key: String },
    /// Read for waits and projection.
    Live,
    /// Paused: the projection queue is full.
    Full,
    /// Paused: a record cannot be decoded yet, or is being set aside.
    Held,
    /// Not to be projected at all, with the reason in a sentence.
    Refused(String),
}

#[derive(Debug)]
pub(crate) struct Owned {
    pub phase: Phase,
    /// The projection queue that this assignment fills.
    pub epoch: Epoch,
    /// One past the last record that was taken over for projection.
    pub read: i64,
    /// The end of the log when the partition was opened: reading below it is catching up.
    pub target: i64,
    /// The end of the log was reached and nothing has come since.
    pub at_end: bool,
}

impl Owned {
    fn is_live(&self) -> bool {
        self.phase == Phase::Live && self.read >= self.target
    }
}

/// All reply partitions that concern this gateway.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    owned: BTreeMap<i32, Owned>,
    /// Partition named in new jobs.
    home: Option<i32>,
    /// One past the last record that was offered to the waits, by either reader.
    seen: BTreeMap<i32, i64>,
    /// Partitions that the side reader follows.
    side: BTreeSet<i32>,
}

impl Ledger {
    pub fn assign(&mut self, partition: i32) {
        let owned = Owned {
            phase: Phase::Opening,
            epoch: 0,
            read: 0,
            target: 0,
            at_end: false,
        };
        self.owned.insert(partition, owned);
    }

    pub fn revoke(&mut self, partition: i32) {
        self.owned.remove(&partition);
    }

    pub fn owned(&self, partition: i32) -> Option<&Owned> {
        self.owned.get(&partition)
    }

    pub fn owned_mut(&mut self, partition: i32) -> Option<&mut Owned> {
        self.owned.get_mut(&partition)
    }

    pub fn partitions(&self) -> impl Iterator<Item = (i32, &Owned)> {
        self.owned
            .iter()
            .map(|(partition, owned)| (*partition, owned))
    }

    pub fn home(&self) -> Option<i32> {
        self.home
    }

    /// Why a partition that is ours cannot be projected, if one cannot.
    pub fn refusal(&self) -> Option<&str> {
        self.owned.values().find_map(|owned| match &owned.phase {
            Phase::Refused(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// Whether the main read serves the waits of a partition: it reads, and does not catch up any more.
    fn is_live(&self, partition: i32) -> bool {
        self.owned.get(&partition).is_some_and(Owned::is_live)
    }

    /// Notes that a record was offered to the waits.
    pub fn see(&mut self, partition: i32, offset: i64) {
        let seen = self.seen.entry(partition).or_insert(0);
        *seen = (*seen).max(offset + 1);
    }

    /// Where a side read of a partition must begin; `None` if nobody has read it yet.
    pub fn seen(&self, partition: i32) -> Option<i64> {
        self.seen
            .get(&partition)
            .copied()
            .filter(|offset| *offset >= 0)
    }

    /// Notes that the log of a partition ends at `end` now: outcomes of waits that open from now on lie behind it.
    /// While waits are open that expect theirs here, what was seen stays what was seen: theirs may lie before the end.
    pub fn ends_at(&mut self, partition: i32, end: i64, waits: &BTreeSet<i32>) {
        let expected = waits.contains(&partition)
            || self.home == Some(partition)
            || self.side.contains(&partition);
        let seen = self.seen.entry(partition).or_insert(end);
        if !expected {
            *seen = (*seen).max(end);
        }
    }

    /// Notes where a side read is to begin of a partition that nobody has read yet.
    pub fn side_begins(&mut self, partition: i32, from: i64) {
        self.seen.entry(partition).or_insert(from);
    }

    pub fn side_started(&mut self, partition: i32, from: i64) {
        self.side_begins(partition, from);
        self.side.insert(partition);
    }

    pub fn side_stopped(&mut self, partition: i32) {
        self.side.remove(&partition);
    }

    /// How many partitions the side reader follows.
    pub fn side_count(&self) -> usize {
        self.side.len()
    }

    pub fn is_side_read(&self, partition: i32) -> bool {
        self.side.contains(&partition)
    }

    /// The partitions that the side reader must begin and may leave, given those with open waits.
    pub fn side_reads(&self, waits: &BTreeSet<i32>) -> (Vec<i32>, Vec<i32>) {
        let needed = |partition: i32| {
            (waits.contains(&partition) || self.home == Some(partition)) && !self.is_live(partition)
        };
        // A live read that is still behind the side reader has not taken over yet.
        let behind = |partition: i32| {
            waits.contains(&partition)
                && self.owned.get(&partition).is_some_and(|owned| {
                    self.seen
                        .get(&partition)
                        .is_some_and(|seen| owned.read < *seen)
                })
        };
        let candidates = waits.iter().copied().chain(self.home);
        let mut start: Vec<_> = candidates
            .filter(|partition| needed(*partition) && !self.side.contains(partition))
            .collect();
        start.dedup();
        let stop = self
            .side
            .iter()
            .copied()
            .filter(|partition| !needed(*partition) && !behind(*partition))
            .collect();
        (start, stop)
    }

    /// Chooses the home anew. The present one is kept while the group leaves it to us, and while there is nothing
    /// better; `spare` is the partition to borrow when the group gives us none; `salt` spreads gateways.
    /// Returns whether it changed.
    pub fn choose_home(&mut self, spare: Option<i32>, salt: u64) -> bool {
        let keeps = |partition: i32| {
            self.owned
                .get(&partition)
                .is_some_and(|owned| matches!(owned.phase, Phase::Live | Phase::Full | Phase::Held))
        };
        if self.home.is_some_and(keeps) {
            return false;
        }
        let pick = |fits: &dyn Fn(&Owned) -> bool| {
            let fitting: Vec<i32> = self
                .partitions()
                .filter(|(_, owned)| fits(owned))
                .map(|(p, _)| p)
                .collect();
            (!fitting.is_empty()).then(|| fitting[(salt % fitting.len() as u64) as usize])
        };
        let choice = pick(&Owned::is_live)
            .or_else(|| pick(&|owned| owned.phase == Phase::Live))
            .or(self.home)
            .or(spare);
        let changed = choice != self.home;
        self.home = choice;
        changed
    }

    /// Whether jobs may name the home: its outcomes will be read by somebody in this process.
    pub fn home_is_served(&self) -> bool {
        self.home
            .is_some_and(|home| self.is_live(home) || self.side.contains(&home))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(ledger: &mut Ledger, partition: i32, read: i64) {
        ledger.assign(partition);
        let owned = ledger.owned_mut(partition).unwrap();
        owned.phase = Phase::Live;
        owned.read = read;
    }

    #[test]
    fn waits_follow_a_home_that_moves() {
        let mut ledger = Ledger::default();
        live(&mut ledger, 3, 10);
        assert!(ledger.choose_home(None, 0));
        assert!(ledger.home_is_served());
        ledger.see(3, 9);
        let waits = BTreeSet::from([3]);
        assert_eq!(ledger.side_reads(&waits), (vec![], vec![]));

        ledger.revoke(3);
        live(&mut ledger, 8, 0);
        assert!(ledger.choose_home(None, 0));
        assert_eq!(ledger.home(), Some(8));
        assert_eq!(ledger.side_reads(&waits), (vec![3], vec![]));
        assert_eq!(
            ledger.seen(3),
            Some(10),
            "the side read begins where the main read stopped"
        );
        ledger.side_started(3, 10);
        assert_eq!(ledger.side_reads(&waits), (vec![], vec![]));
        assert_eq!(ledger.side_reads(&BTreeSet::new()), (vec![], vec![3]));
    }

    #[test]
    fn the_last_home_is_borrowed_when_there_is_none_left() {
        let mut ledger = Ledger::default();
        assert!(!ledger.choose_home(None, 5));
        live(&mut ledger, 3, 0);
        ledger.choose_home(None, 5);
        ledger.revoke(3);
        assert!(
            !ledger.choose_home(Some(1), 5),
            "the old home goes on as a borrowed one"
        );
        assert!(!ledger.home_is_served());
        assert_eq!(ledger.side_reads(&BTreeSet::new()), (vec![3], vec![]));
        ledger.side_started(3, 0);
        assert!(ledger.home_is_served());
    }

    #[test]
    fn a_gateway_without_partitions_borrows_the_spare() {
        let mut ledger = Ledger::default();
        assert!(ledger.choose_home(Some(4), 0));
        assert_eq!((ledger.home(), ledger.home_is_served()), (Some(4), false));
        assert_eq!(ledger.side_reads(&BTreeSet::new()).0, vec![4]);
        live(&mut ledger, 0, 0);
        ledger.side_started(4, 100);
        assert!(ledger.choose_home(Some(4), 0));
        assert_eq!(ledger.home(), Some(0));
        assert_eq!(ledger.side_reads(&BTreeSet::new()), (vec![], vec![4]));
    }

    #[test]
    fn a_partition_that_catches_up_is_read_aside_from_its_end() {
        let mut ledger = Ledger::default();
        live(&mut ledger, 6, 100);
        ledger.owned_mut(6).unwrap().target = 5000;
        ledger.ends_at(6, 5000, &BTreeSet::new());
        ledger.choose_home(None, 0);
        assert_eq!((ledger.home(), ledger.home_is_served()), (Some(6), false));
        assert_eq!(ledger.side_reads(&BTreeSet::new()), (vec![6], vec![]));
        assert_eq!(ledger.seen(6), Some(5000));
        ledger.side_started(6, 5000);
        assert!(ledger.home_is_served());
        ledger.owned_mut(6).unwrap().read = 5000;
        assert_eq!(ledger.side_reads(&BTreeSet::new()), (vec![], vec![6]));
    }

    #[test]
    fn a_home_that_comes_back_is_read_aside_from_where_it_was_left() {
        let mut ledger = Ledger::default();
        live(&mut ledger, 6, 100);
        ledger.ends_at(6, 100, &BTreeSet::new());
        ledger.choose_home(None, 0);
        let waits = BTreeSet::from([6]);
        ledger.revoke(6);
        assert_eq!(ledger.side_reads(&waits).0, vec![6]);
        ledger.side_started(6, 100);
        // Given back, with outcomes of open waits between what was seen and the end.
        live(&mut ledger, 6, 100);
        ledger.owned_mut(6).unwrap().target = 250;
        ledger.ends_at(6, 250, &waits);
        assert_eq!(ledger.seen(6), Some(100));
        assert_eq!(ledger.side_reads(&waits), (vec![], vec![]));
        // Nobody waits: only what comes is of interest.
        let mut idle = Ledger::default();
        idle.see(6, 99);
        idle.ends_at(6, 250, &BTreeSet::new());
        assert_eq!(idle.seen(6), Some(250));
    }

    #[test]
    fn the_side_read_goes_on_until_the_main_read_has_caught_up() {
        let mut ledger = Ledger::default();
        live(&mut ledger, 2, 50);
        ledger.choose_home(None, 0);
        ledger.see(2, 49);
        let waits = BTreeSet::from([2]);
        ledger.owned_mut(2).unwrap().phase = Phase::Full;
        assert_eq!(ledger.side_reads(&waits), (vec![2], vec![]));
        ledger.side_started(2, 50);
        for offset in 50..80 {
            ledger.see(2, offset);
        }
        ledger.owned_mut(2).unwrap().phase = Phase::Live;
        assert_eq!(ledger.side_reads(&waits), (vec![], vec![]));
        ledger.owned_mut(2).unwrap().read = 80;
        assert_eq!(ledger.side_reads(&waits), (vec![], vec![2]));
    }
}
