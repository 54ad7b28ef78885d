//! What workers say of the jobs that they run on partitions of others. Pure but for its lock: time is passed in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::handover::{Beat, Spots};
use tokio::sync::watch;

/// What was said lately.
pub(crate) struct Heard {
    state: Mutex<State>,
    /// How long a process that says nothing is taken to go on.
    patience: Duration,
    /// Counts beats.
    pub news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The last beat of each process.
    by_owner: HashMap<u64, (Instant, Beat)>,
    /// What a process named as running and then, itself alive, named no more.
    let_go: VecDeque<(Instant, Spots)>,
}

/// What becomes of a record that may run where its partition comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It runs there, or may.
    Wait,
    /// It has ended there, and everybody knows how.
    Done,
    /// It does not run there.
    Ours,
}

impl Heard {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            state: Mutex::default(),
            patience,
            news: watch::Sender::new(0),
        }
    }

    /// A process has said all it has to say.
    pub(crate) fn take(&self, owner: u64, beat: Beat, now: Instant) {
        let mut state = self.lock();
        let is_old = |at: Instant| now.saturating_duration_since(at) >= self.patience;
        state.by_owner.retain(|_, (at, _)| !is_old(*at));
        while state.let_go.front().is_some_and(|(at, _)| is_old(*at)) {
            state.let_go.pop_front();
        }
        if let Some((_, before)) = state.by_owner.remove(&owner) {
            let let_go = without(&without(&before.running, &beat.running), &beat.done);
            if !let_go.is_empty() {
                state.let_go.push_back((now, let_go));
            }
        }
        if beat != Beat::default() {
            state.by_owner.insert(owner, (now, beat));
        }
        drop(state);
        self.news.send_modify(|news| *news += 1);
    }

    /// Whether a record may be begun for which we wait since then. A first word has the same time to come as a further
    /// one.
    pub(crate) fn verdict(
        &self,
        (topic, partition, offset): (&str, i32, i64),
        since: Instant,
        now: Instant,
    ) -> Verdict {
        let at = (topic.to_owned(), partition);
        let has = |spots: &Spots| spots.get(&at).is_some_and(|of| of.contains(offset));
        let is_over = |begin: Instant| now.saturating_duration_since(begin) >= self.patience;
        let state = self.lock();
        let mut runs = false;
        for (said, beat) in state.by_owner.values() {
            if has(&beat.done) {
                return Verdict::Done;
            }
            runs |= has(&beat.running) && !is_over(*said);
        }
        let is_let_go = || state.let_go.iter().any(|(_, spots)| has(spots));
        match runs {
            true => Verdict::Wait,
            false if is_over(since) || is_let_go() => Verdict::Ours,
            false => Verdict::Wait,
        }
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of the first that are not among the others.
fn without(all: &Spots, others: &Spots) -> Spots {
    let mut left = Spots::new();
    for (at, offsets) in all {
        let others = others.get(at);
        for offset in offsets.iter() {
            if !others.is_some_and(|others| others.contains(offset)) {
                left.entry(at.clone()).or_default().insert(offset);
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const AT: (&str, i32, i64) = ("t", 3, 7);

    fn spots(offset: i64) -> Spots {
        let mut spots = Spots::new();
        let of = spots.entry((AT.0.to_owned(), AT.1)).or_default();
        of.insert(offset);
        spots
    }

    fn running(offset: i64) -> Beat {
        Beat {
            running: spots(offset),
            ..Beat::default()
        }
    }

    #[test]
    fn it_waits_while_it_is_named_and_is_ours_when_nothing_is_said_any_more() {
        let (heard, begin) = (Heard::new(PATIENCE), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let at = |seconds| heard.verdict(AT, begin, after(seconds));
        assert_eq!(at(0), Verdict::Wait, "a first word may come yet");
        assert_eq!(at(10), Verdict::Ours, "none has come");
        heard.take(1, running(7), after(9));
        heard.take(2, running(8), after(9));
        assert_eq!(at(18), Verdict::Wait);
        heard.take(1, running(7), after(18));
        assert_eq!(at(27), Verdict::Wait, "however long it takes");
        assert_eq!(at(28), Verdict::Ours, "nothing was said for a while");
    }

    #[test]
    fn what_is_let_go_is_ours_at_once() {
        for next in [running(8), Beat::default()] {
            let (heard, now) = (Heard::new(PATIENCE), Instant::now());
            heard.take(1, running(7), now);
            assert_eq!(heard.verdict(AT, now, now), Verdict::Wait);
            heard.take(1, next, now);
            // Also where the record comes only now.
            assert_eq!(heard.verdict(AT, now, now), Verdict::Ours);
            heard.take(2, running(7), now);
            assert_eq!(
                heard.verdict(AT, now, now),
                Verdict::Wait,
                "begun by another"
            );
        }
    }

    #[test]
    fn what_is_done_is_done() {
        let (heard, now) = (Heard::new(PATIENCE), Instant::now());
        heard.take(1, running(7), now);
        let done = Beat {
            done: spots(7),
            ..running(8)
        };
        heard.take(1, done, now);
        // By others too, who ran it before.
        heard.take(2, running(7), now);
        assert_eq!(heard.verdict(AT, now, now), Verdict::Done);
        heard.take(1, running(8), now);
        heard.take(2, Beat::default(), now);
        assert!(heard.lock().let_go.len() <= 1);
    }

    #[test]
    fn only_what_is_alive_is_kept() {
        let (heard, now) = (Heard::new(PATIENCE), Instant::now());
        heard.take(1, running(7), now);
        heard.take(2, running(7), now);
        heard.take(2, Beat::default(), now);
        heard.take(3, running(7), now + PATIENCE);
        let state = heard.lock();
        assert_eq!(state.by_owner.keys().collect::<Vec<_>>(), [&3]);
        assert!(state.let_go.is_empty());
    }
}
