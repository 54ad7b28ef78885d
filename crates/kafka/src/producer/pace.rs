//! Whether records come so quickly that it pays to collect them. Pure: time is passed in.

use std::time::{Duration, Instant};

/// Records are counted over this long.
const WINDOW: Duration = Duration::from_millis(4);
/// So many in a window are many: 2,000 a second. Of fewer, too few would meet to be worth waiting for.
const MANY: u32 = 8;
/// So many are very many, 8,000 a second: nobody's answer is quick any more, and larger batches are what helps.
const VERY_MANY: u32 = 32;

/// How quickly records come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    #[default]
    Few,
    Many,
    VeryMany,
}

impl Load {
    fn of(count: u32) -> Self {
        if count > VERY_MANY {
            Self::VeryMany
        } else if count > MANY {
            Self::Many
        } else {
            Self::Few
        }
    }
}

/// Counts records by windows of time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the present window began; `None` before the first record.
    began: Option<Instant>,
    so_far: u32,
    /// How many came in the window before the present one.
    before: u32,
}

impl Pace {
    /// Counts a record that comes at `now`, and says how quickly they come: by the window before, or by the present one
    /// if there are more in it already.
    pub(super) fn note(&mut self, now: Instant) -> Load {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= WINDOW {
            // After a gap the window before is empty.
            self.before = if age < 2 * WINDOW { self.so_far } else { 0 };
            self.so_far = 0;
            self.began = Some(now);
        }
        self.so_far += 1;
        Load::of(self.before.max(self.so_far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Which of `count` records, `gap` apart, found that many come.
    fn many(count: u32, gap: Duration) -> Vec<bool> {
        let loads = loads(count, gap).into_iter();
        loads.map(|load| load > Load::Few).collect()
    }

    fn loads(count: u32, gap: Duration) -> Vec<Load> {
        let begin = Instant::now();
        let mut pace = Pace::default();
        (0..count).map(|n| pace.note(begin + gap * n)).collect()
    }

    #[test]
    fn very_many_are_told_from_many() {
        let at = |per_second| loads(5_000, Duration::from_secs(1) / per_second);
        assert!(!at(6_000).contains(&Load::VeryMany));
        assert_eq!(at(12_000)[100..].iter().min(), Some(&Load::VeryMany));
    }

    #[test]
    fn few_are_never_many() {
        for per_second in [1, 100, 700, 1_000, 1_500] {
            let found = many(2_000, Duration::from_secs(1) / per_second);
            assert!(!found.contains(&true), "{per_second} a second");
        }
    }

    #[test]
    fn many_are_noticed_within_two_windows() {
        for per_second in [2_500, 10_000, 100_000] {
            let found = many(per_second, Duration::from_secs(1) / per_second);
            let first = found.iter().position(|many| *many).unwrap();
            let after = Duration::from_secs(1) * u32::try_from(first).unwrap() / per_second;
            assert!(after <= 2 * WINDOW, "{per_second} a second: {after:?}");
            assert!(
                found[first..].iter().all(|many| *many),
                "{per_second} a second"
            );
        }
    }

    #[test]
    fn a_gap_ends_it() {
        let begin = Instant::now();
        let mut pace = Pace::default();
        for n in 0..100 {
            pace.note(begin + Duration::from_micros(100) * n);
        }
        assert_eq!(pace.note(begin + Duration::from_millis(50)), Load::Few);
    }

    proptest! {
        /// Whatever the gaps: many are only found where a window's worth of time had more than a few.
        #[test]
        fn many_means_that_so_many_came_lately(gaps in prop::collection::vec(0u64..3_000, 1..200)) {
            let begin = Instant::now();
            let mut pace = Pace::default();
            let mut at = 0;
            let mut all = Vec::new();
            for gap in gaps {
                at += gap;
                all.push(at);
                let found = pace.note(begin + Duration::from_micros(at));
                let lately = all.iter().filter(|then| **then + 12_000 >= at).count();
                prop_assert!(found == Load::Few || lately > 8, "{lately} in the last three windows");
            }
        }
    }
}
