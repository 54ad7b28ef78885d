//! How often progress is said. Pure: time is passed in.

use std::time::Duration;

/// Lets the latest of many values through, at most one per period. Times are since any fixed moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttle {
    every: Duration,
    /// Not before.
    next: Duration,
    pending: bool,
}

impl Throttle {
    /// The first value may go at `from`.
    pub(crate) fn new(every: Duration, from: Duration) -> Self {
        Self {
            every,
            next: from,
            pending: false,
        }
    }

    /// There is a newer value.
    pub(crate) fn offer(&mut self) {
        self.pending = true;
    }

    /// When the pending value may go; `None` if there is none.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.pending.then_some(self.next)
    }

    /// Whether a value goes now. If so it is taken.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        if !self.pending || now < self.next {
            return false;
        }
        self.pending = false;
        self.next = now + self.every;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the times of offers: no two values closer than the period, none before the start, and the last
        /// one is never left over once its time has come.
        #[test]
        fn spaced_and_the_last_wins(gaps in prop::collection::vec(0u64..300, 1..80), from in 0u64..500) {
            let (every, from) = (Duration::from_millis(100), Duration::from_millis(from));
            let mut throttle = Throttle::new(every, from);
            let mut now = Duration::ZERO;
            let mut sent: Vec<Duration> = Vec::new();
            for gap in gaps {
                let until = now + Duration::from_millis(gap);
                // What the loop does between offers: sleeps until due, then takes.
                if let Some(due) = throttle.due() && due <= until {
                    let at = due.max(now);
                    prop_assert!(throttle.take(at));
                    sent.push(at);
                }
                now = until;
                throttle.offer();
                prop_assert!(throttle.due().is_some());
            }
            let due = throttle.due().map(|due| due.max(now));
            if let Some(at) = due {
                prop_assert!(throttle.take(at));
                sent.push(at);
            }
            prop_assert_eq!(throttle.due(), None);
            prop_assert!(sent.iter().all(|at| *at >= from));
            prop_assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= every));
        }
    }
}
