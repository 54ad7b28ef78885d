//! Who may run beside whom in a process while some records are under suspicion. Pure; time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::poison::ALONE;

/// How long it is tried to get a process quiet for a record that must be really alone.
const TRY: Duration = ALONE;
/// The pause until that is tried again, while others run.
const REST: Duration = Duration::from_secs(60);

/// Every handler that runs in a process, and the suspects that wait.
///
/// While a suspect waits, nobody else begins: those that run end, or become *old* ([`ALONE`]), and then it goes. One
/// that must be strictly alone cannot wait for the old ones like that, as they may take hours: for it nobody begins
/// for [`ALONE`], and if the process has not become quiet then, that is tried again a minute later.
///
/// Times are durations since any fixed moment.
#[derive(Debug, Default)]
pub struct Turns {
    running: BTreeMap<u64, Duration>,
    next: u64,
    alone: Option<u64>,
    /// Suspects that wait, by whether they must be strictly alone.
    lenient: usize,
    strict: usize,
    /// Since when it is tried to become quiet.
    trying: Option<Duration>,
}

/// A handler that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn(u64);

impl Turns {
    /// Nothing runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record that nobody suspects: its turn, if it may begin.
    pub fn begin(&mut self, now: Duration) -> Option<Turn> {
        (self.alone.is_none() && !self.is_pressing(now)).then(|| self.enter(now))
    }

    /// A suspect waits from now on.
    pub fn queue(&mut self, strictly: bool) {
        *self.queue_of(strictly) += 1;
    }

    /// It waits no more, without having had its turn.
    pub fn give_up(&mut self, strictly: bool) {
        let queue = self.queue_of(strictly);
        *queue = queue.saturating_sub(1);
    }

    /// A suspect that waits: its turn, and whether nothing at all runs beside it.
    pub fn begin_alone(&mut self, strictly: bool, now: Duration) -> Option<(Turn, bool)> {
        let quiet = self.running.is_empty();
        if self.alone.is_some() || !(quiet || !strictly && self.all_old(now)) {
            // Noted even if nobody else asks meanwhile.
            let _ = self.is_pressing(now);
            return None;
        }
        self.give_up(strictly);
        self.trying = None;
        let turn = self.enter(now);
        self.alone = Some(turn.0);
        Some((turn, quiet))
    }

    /// The record that runs alone has run for long enough: others may begin beside it.
    pub fn let_go(&mut self, turn: Turn) {
        self.alone = self.alone.filter(|alone| *alone != turn.0);
    }

    /// A handler has ended.
    pub fn end(&mut self, turn: Turn) {
        self.running.remove(&turn.0);
        self.let_go(turn);
    }

    /// When something may change for those that wait, if nobody ends before.
    pub fn look_again(&self, now: Duration) -> Option<Duration> {
        if self.lenient + self.strict == 0 {
            return None;
        }
        let grown = self.running.values().map(|since| *since + ALONE);
        let tried = self.trying.into_iter();
        let tried = tried.flat_map(|since| [since + TRY, since + TRY + REST]);
        grown.chain(tried).filter(|at| *at > now).min()
    }

    /// How many handlers run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn queue_of(&mut self, strictly: bool) -> &mut usize {
        if strictly {
            &mut self.strict
        } else {
            &mut self.lenient
        }
    }

    fn enter(&mut self, now: Duration) -> Turn {
        self.next += 1;
        self.running.insert(self.next, now);
        Turn(self.next)
    }

    fn all_old(&self, now: Duration) -> bool {
        let mut running = self.running.values();
        running.all(|since| now.saturating_sub(*since) >= ALONE)
    }

    /// Whether those that wait keep everybody else from beginning.
    fn is_pressing(&mut self, now: Duration) -> bool {
        if self.lenient > 0 {
            return true;
        }
        if self.strict == 0 {
            self.trying = None;
            return false;
        }
        let since = self.trying.unwrap_or(now);
        let tried = now.saturating_sub(since);
        let since = if tried >= TRY + REST { now } else { since };
        self.trying = Some(since);
        now.saturating_sub(since) < TRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_suspect_waits_for_the_young_ones_and_is_let_go() {
        let mut turns = Turns::new();
        let long = turns.begin(s(0)).unwrap();
        let short = turns.begin(s(4)).unwrap();
        turns.queue(false);
        assert_eq!(turns.begin(s(4)), None, "nobody begins while it waits");
        assert_eq!(turns.begin_alone(false, s(5)), None, "one is young");
        assert_eq!(turns.look_again(s(5)), Some(s(9)));
        turns.end(short);
        let (suspect, quiet) = turns.begin_alone(false, s(6)).unwrap();
        assert!(!quiet, "the long one is about");
        assert_eq!(turns.begin(s(7)), None);
        assert_eq!(turns.look_again(s(7)), None, "nobody waits");
        turns.let_go(suspect);
        let other = turns.begin(s(11)).unwrap();
        for turn in [long, suspect, other] {
            turns.end(turn);
        }
        turns.queue(false);
        let (suspect, quiet) = turns.begin_alone(false, s(12)).unwrap();
        assert!(quiet);
        turns.end(suspect);
        assert!(turns.begin(s(12)).is_some());
    }

    #[test]
    fn what_must_be_strictly_alone_does_not_hold_up_others_for_ever() {
        let mut turns = Turns::new();
        let long = turns.begin(s(0)).unwrap();
        turns.queue(true);
        assert_eq!(turns.begin_alone(true, s(100)), None);
        assert_eq!(turns.begin(s(104)), None, "it is tried to become quiet");
        let other = turns.begin(s(105)).unwrap();
        assert_eq!(turns.begin_alone(true, s(110)), None);
        assert_eq!(turns.look_again(s(111)), Some(s(165)));
        assert_eq!(turns.begin(s(165)), None, "tried again");
        turns.end(other);
        turns.end(long);
        let (suspect, quiet) = turns.begin_alone(true, s(166)).unwrap();
        assert!(quiet);
        assert_eq!(turns.begin(s(200)), None);
        turns.end(suspect);
        assert!(turns.begin(s(200)).is_some());
    }

    #[test]
    fn who_gives_up_holds_up_nobody() {
        let mut turns = Turns::new();
        turns.queue(false);
        assert_eq!(turns.begin(s(0)), None);
        turns.give_up(false);
        assert!(turns.begin(s(0)).is_some());
    }
}
