//! Slots that are kept for a tier.

use crate::names::Tier;

/// A number for each tier, such as of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierSlots {
    /// Of tier `high`.
    pub high: usize,
    /// Of tier `normal`.
    pub normal: usize,
    /// Of tier `low`.
    pub low: usize,
}

impl TierSlots {
    /// The number of a tier.
    pub const fn of(&self, tier: Tier) -> usize {
        match tier {
            Tier::High => self.high,
            Tier::Normal => self.normal,
            Tier::Low => self.low,
        }
    }

    fn of_mut(&mut self, tier: Tier) -> &mut usize {
        match tier {
            Tier::High => &mut self.high,
            Tier::Normal => &mut self.normal,
            Tier::Low => &mut self.low,
        }
    }

    /// All together.
    pub fn sum(&self) -> usize {
        Tier::ALL.iter().map(|tier| self.of(*tier)).sum()
    }
}

/// Which tiers the running jobs are of, and how many more may run.
///
/// A reserved slot is kept even while its tier has nothing to run: jobs of another tier in it would have to end before
/// the tier gets it back, and how long they run is not this tier's to bound. The reservation is a number and not a
/// place: a tier runs its reserved number whatever the others do, and what it runs beyond that takes shared slots.
#[derive(Clone, Debug)]
pub struct Slots {
    shared: usize,
    reserved: TierSlots,
    running: TierSlots,
}

impl Slots {
    /// `total` slots, of which some are reserved. What does not fit is not reserved, beginning with the tier that
    /// comes first: `low` needs it most.
    pub fn new(total: usize, reserved: TierSlots) -> Self {
        let mut left = total;
        let mut fitting = TierSlots::default();
        for tier in Tier::ALL.iter().rev() {
            let kept = reserved.of(*tier).min(left);
            *fitting.of_mut(*tier) = kept;
            left -= kept;
        }
        Self {
            shared: left,
            reserved: fitting,
            running: TierSlots::default(),
        }
    }

    /// Whether a tier runs fewer jobs than it has slots reserved.
    pub fn has_own(&self, tier: Tier) -> bool {
        self.running.of(tier) < self.reserved.of(tier)
    }

    /// Whether a slot is free that any tier may have.
    pub fn has_shared(&self) -> bool {
        let beyond = |tier: &Tier| {
            self.running
                .of(*tier)
                .saturating_sub(self.reserved.of(*tier))
        };
        Tier::ALL.iter().map(beyond).sum::<usize>() < self.shared
    }

    /// Whether a job of this tier may begin.
    pub fn may_start(&self, tier: Tier) -> bool {
        self.has_own(tier) || self.has_shared()
    }

    /// A job of this tier begins.
    pub fn started(&mut self, tier: Tier) {
        *self.running.of_mut(tier) += 1;
    }

    /// A job of this tier has ended.
    pub fn ended(&mut self, tier: Tier) {
        let running = self.running.of_mut(tier);
        *running = running.saturating_sub(1);
    }

    /// Jobs that run now.
    pub fn running(&self) -> TierSlots {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_taken_from_the_first_tiers() {
        let wish = TierSlots {
            high: 3,
            normal: 2,
            low: 1,
        };
        let slots = Slots::new(2, wish);
        assert_eq!(
            slots.reserved,
            TierSlots {
                high: 0,
                normal: 1,
                low: 1
            }
        );
        assert!(!slots.may_start(Tier::High));
        assert_eq!(Slots::new(16, wish).shared, 10);
    }

    fn tier() -> impl Strategy<Value = Tier> {
        prop::sample::select(Tier::ALL.to_vec())
    }

    proptest! {
        /// Whatever comes and goes: no more run than there are slots, and a tier below its reserve may always start.
        #[test]
        fn a_reserve_holds_under_any_arrivals(
            shared in 1usize..20,
            high in 0usize..4,
            normal in 0usize..4,
            low in 0usize..4,
            steps in prop::collection::vec((tier(), any::<bool>()), 1..400),
        ) {
            let reserved = TierSlots { high, normal, low };
            let total = shared + reserved.sum();
            let mut slots = Slots::new(total, reserved);
            for (tier, starts) in steps {
                if !starts {
                    slots.ended(tier);
                } else if slots.may_start(tier) {
                    slots.started(tier);
                }
                prop_assert!(slots.running().sum() <= total);
                for tier in Tier::ALL {
                    let others = total - reserved.sum() + reserved.of(tier);
                    prop_assert!(slots.running().of(tier) <= others);
                    if slots.running().of(tier) < reserved.of(tier) {
                        prop_assert!(slots.may_start(tier));
                        prop_assert!(slots.running().sum() < total);
                    }
                }
            }
        }
    }
}
