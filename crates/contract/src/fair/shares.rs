//! Weighted shares between lanes.

/// Smooth weighted round robin, the scheme that nginx uses between upstreams: every lane that has work earns its
/// weight each turn, the richest goes and pays what all earned together. Turns of a lane are spread evenly rather
/// than in bursts, and no lane with work starves: one of weight `w` among lanes of weight `W` in all waits for
/// fewer than `2·W/w` turns.
///
/// Shares are of turns, not of time: a lane whose jobs run for longer holds more slots.
#[derive(Clone, Debug)]
pub struct Shares {
    lanes: Vec<Share>,
}

#[derive(Clone, Debug)]
struct Share {
    weight: i64,
    credit: i64,
}

impl Shares {
    /// Lanes by their weights; the answer of [`Shares::next`] is an index into these. A weight of 0 counts as 1.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let lanes = weights
            .into_iter()
            .map(|weight| Share {
                weight: i64::from(weight.max(1)),
                credit: 0,
            })
            .collect();
        Self { lanes }
    }

    /// The lane that goes next among those that have work; `None` if none has.
    ///
    /// A lane without work neither saves up nor stays in debt: it begins at nothing when it has work again.
    pub fn next(&mut self, mut has_work: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if !has_work(index) {
                lane.credit = 0;
                continue;
            }
            lane.credit += lane.weight;
            total += lane.weight;
            if best.is_none_or(|(_, credit)| lane.credit > credit) {
                best = Some((index, lane.credit));
            }
        }
        let (best, _) = best?;
        self.lanes[best].credit -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_spread_and_not_in_bursts() {
        let mut shares = Shares::new([4, 2, 1]);
        let turns: Vec<_> = (0..7).filter_map(|_| shares.next(|_| true)).collect();
        assert_eq!(turns, [0, 1, 0, 2, 0, 1, 0]);
        assert_eq!(shares.next(|_| false), None);
        assert_eq!(shares.next(|index| index == 2), Some(2));
    }

    proptest! {
        /// Over a full round every busy lane has exactly its share.
        #[test]
        fn shares_are_exact(weights in prop::collection::vec(1u32..20, 1..6)) {
            let mut shares = Shares::new(weights.clone());
            let round: u32 = weights.iter().sum();
            let mut turns = vec![0; weights.len()];
            for _ in 0..round * 3 {
                turns[shares.next(|_| true).unwrap()] += 1;
            }
            for (turns, weight) in turns.iter().zip(&weights) {
                prop_assert_eq!(*turns, weight * 3);
            }
        }

        /// Whatever the other lanes do, a lane with work has its turn within a known number of turns.
        #[test]
        fn nothing_starves_and_only_work_is_chosen(
            weights in prop::collection::vec(1u32..20, 2..6),
            busy in prop::collection::vec(prop::collection::vec(any::<bool>(), 6), 1..200),
        ) {
            let mut shares = Shares::new(weights.clone());
            let total: u32 = weights.iter().sum();
            let mut waited = 0;
            for turn in busy {
                // Lane 0 always has work, the others come and go.
                let has_work = |index: usize| index == 0 || turn[index];
                let chosen = shares.next(has_work).unwrap();
                prop_assert!(has_work(chosen));
                waited = if chosen == 0 { 0 } else { waited + 1 };
                prop_assert!(waited <= 2 * total / weights[0] + 1);
            }
        }
    }
}
