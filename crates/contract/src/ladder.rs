//! The delay ladder: topics with one fixed delay each, so that the record at the head of a partition is always the
//! next of it to move.
//!
//! A record that is due later goes to the largest rung that fits what remains, leaves it when the rung's time has
//! passed since it was appended, and goes to the next rung or to its target. Every step is measured against when the
//! record is due, so that delays of single steps do not add up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// The rungs of an installation that says nothing else.
pub const RUNGS: [Duration; 8] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
];

/// The most rungs that a ladder may have: each is a topic, and a consumer of every scheduler.
pub const MOST_RUNGS: usize = 16;
/// The shortest rung.
pub const SHORTEST: Duration = Duration::from_millis(50);
/// The longest rung.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Rungs that make no ladder.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be 1 to 16 durations from 50ms to 24h in whole milliseconds, each longer than the one before"
)]
pub struct BadLadder;

/// The rungs, shortest first. In configurations a list of texts such as `["1s", "15m"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Ladder(Vec<Duration>);

/// Where a record on a rung goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is due: to its target.
    Target,
    /// To this rung.
    Rung(Duration),
    /// What remains is shorter than every rung: it waits in memory until then.
    Wait(Duration),
}

impl Default for Ladder {
    fn default() -> Self {
        Self(RUNGS.to_vec())
    }
}

impl TryFrom<Vec<String>> for Ladder {
    type Error = BadLadder;

    fn try_from(texts: Vec<String>) -> Result<Self, BadLadder> {
        let rungs = texts.iter().map(|text| humantime::parse_duration(text));
        let rungs: Vec<_> = rungs.collect::<Result<_, _>>().map_err(|_| BadLadder)?;
        Self::new(&rungs)
    }
}

impl From<Ladder> for Vec<String> {
    fn from(ladder: Ladder) -> Self {
        let text = |rung: &Duration| humantime::format_duration(*rung).to_string();
        ladder.0.iter().map(text).collect()
    }
}

impl Ladder {
    /// A ladder of these rungs.
    ///
    /// # Errors
    /// When there are none or too many, or one is too short, too long or not longer than the one before.
    pub fn new(rungs: &[Duration]) -> Result<Self, BadLadder> {
        let good = |rung: &Duration| {
            (SHORTEST..=LONGEST).contains(rung) && rung.subsec_nanos().is_multiple_of(1_000_000)
        };
        let rises = rungs.windows(2).all(|pair| pair[0] < pair[1]);
        if (1..=MOST_RUNGS).contains(&rungs.len()) && rises && rungs.iter().all(good) {
            Ok(Self(rungs.to_vec()))
        } else {
            Err(BadLadder)
        }
    }

    /// The rungs, shortest first.
    pub fn rungs(&self) -> &[Duration] {
        &self.0
    }

    /// The shortest rung: what is due sooner than that waits in memory.
    pub fn shortest(&self) -> Duration {
        self.0.first().copied().unwrap_or(SHORTEST)
    }

    /// The rung for a record that is not on the ladder yet: the largest that fits, else the shortest, from which it is
    /// taken early.
    pub fn first_rung(&self, remaining: Duration) -> Duration {
        self.fitting(remaining).unwrap_or_else(|| self.shortest())
    }

    /// Where a record goes that leaves its rung now.
    pub fn step(&self, remaining: Duration) -> Step {
        if remaining.is_zero() {
            return Step::Target;
        }
        self.fitting(remaining)
            .map_or(Step::Wait(remaining), Step::Rung)
    }

    fn fitting(&self, remaining: Duration) -> Option<Duration> {
        self.0
            .iter()
            .rev()
            .find(|rung| **rung <= remaining)
            .copied()
    }
}

/// When a record leaves its rung: the rung's time after it was appended, or when it is due if that is sooner.
pub fn leaves_at(appended: Millis, rung: Duration, due: Millis) -> Millis {
    let rung = Millis::try_from(rung.as_millis()).unwrap_or(Millis::MAX);
    appended.saturating_add(rung).min(due)
}

/// What remains from now until then.
pub fn remaining(until: Millis, now: Millis) -> Duration {
    Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_no_ladder_is_refused() {
        assert_eq!(Ladder::new(&RUNGS), Ok(Ladder::default()));
        assert!(Ladder::new(&[ms(50)]).is_ok());
        for bad in [
            vec![],
            vec![ms(49)],
            vec![LONGEST + ms(1)],
            vec![ms(100), ms(100)],
            vec![ms(200), ms(100)],
            vec![Duration::from_micros(100_500)],
            (1..=17).map(|n| ms(n * 100)).collect(),
        ] {
            assert_eq!(Ladder::new(&bad), Err(BadLadder), "{bad:?}");
        }
    }

    #[test]
    fn a_record_takes_the_largest_rung_that_fits() {
        let ladder = Ladder::default();
        let secs = Duration::from_secs;
        let texts: Vec<String> = ladder.clone().into();
        assert_eq!(texts, ["1s", "5s", "15s", "1m", "5m", "15m", "1h", "6h"]);
        assert_eq!(Ladder::try_from(texts), Ok(ladder.clone()));
        assert!(Ladder::try_from(vec!["soon".to_owned()]).is_err());
        assert_eq!(ladder.step(secs(7 * 3600)), Step::Rung(secs(6 * 3600)));
        assert_eq!(ladder.step(secs(3600)), Step::Rung(secs(3600)));
        assert_eq!(ladder.step(secs(3599)), Step::Rung(secs(900)));
        assert_eq!(ladder.step(ms(999)), Step::Wait(ms(999)));
        assert_eq!(ladder.step(ms(0)), Step::Target);
        assert_eq!(ladder.first_rung(ms(1)), secs(1));
    }

    fn ladders() -> impl Strategy<Value = Ladder> {
        prop::collection::btree_set(50u64..5_000, 1..10).prop_map(|rungs| {
            let rungs: Vec<_> = rungs.into_iter().map(ms).collect();
            Ladder::new(&rungs).unwrap()
        })
    }

    proptest! {
        /// From the first rung to the target, with every step taken late by up to 40 ms: never early, and no later than
        /// a single step.
        #[test]
        fn nothing_comes_early_and_the_delays_of_steps_do_not_add_up(
            ladder in ladders(), wait in 1i64..2_000_000, lates in prop::collection::vec(0i64..40, 64),
        ) {
            let (start, due) = (1_000_000, 1_000_000 + wait);
            let mut now = start;
            let mut rung = ladder.first_rung(remaining(due, now));
            let mut lates = lates.iter().cycle();
            loop {
                let at = leaves_at(now, rung, due);
                prop_assert!(at <= due && at >= now.min(due));
                now = at.max(now) + lates.next().unwrap();
                match ladder.step(remaining(due, now)) {
                    Step::Target => break,
                    Step::Wait(left) => {
                        prop_assert!(left < ladder.shortest());
                        now = due;
                    }
                    Step::Rung(next) => {
                        prop_assert!(next <= remaining(due, now));
                        rung = next;
                    }
                }
            }
            prop_assert!(now >= due);
            prop_assert!(now - due < 40, "late by {}", now - due);
        }
    }
}
