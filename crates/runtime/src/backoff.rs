//! When to try again.

use std::fmt::Display;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::readiness::Condition;

/// Exponential back-off with full jitter. Pure: the random number is passed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Longest wait after the first failure.
    pub initial: Duration,
    /// How much longer each wait may be than the one before; at least 1.
    pub factor: f64,
    /// No wait is longer.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubling, at most 5 s: for a dependency that is away.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            factor: 2.0,
            cap: Duration::from_secs(5),
        }
    }
}

impl Backoff {
    /// The longest wait after failure number `failures`, counted from 0.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let cap = self.cap.as_secs_f64();
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        // Beyond any cap the power overflows to infinity, which `min` turns into the cap.
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * factor.powi(exponent);
        if grown < cap {
            Duration::from_secs_f64(grown)
        } else {
            self.cap
        }
    }

    /// The wait after failure number `failures` (from 0): anything between nothing and the ceiling, as `random`
    /// (0 to 1) says. Full jitter keeps many processes from coming back in step.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let random = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            1.0
        };
        self.ceiling(failures).mul_f64(random)
    }
}

/// Runs `op` until it succeeds, and tells `condition` why it has not yet: this is how a role brings up each of its
/// dependencies. On success the condition is ok. `None` only if `stop` was cancelled first.
///
/// `op` must have a time limit of its own.
pub async fn retry_forever<T, E, F, Fut>(
    condition: &Condition,
    stop: &CancellationToken,
    op: F,
) -> Option<T>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    retry_with(Backoff::default(), condition, stop, op).await
}

/// [`retry_forever`] with another back-off.
pub async fn retry_with<T, E, F, Fut>(
    backoff: Backoff,
    condition: &Condition,
    stop: &CancellationToken,
    mut op: F,
) -> Option<T>
where
    E: Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut failures = 0;
    let mut said = String::new();
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return None,
            result = op() => result,
        };
        match result {
            Ok(value) => {
                if failures > 0 {
                    tracing::info!(condition = condition.name(), failures, "recovered");
                }
                condition.ok();
                return Some(value);
            }
            Err(error) => {
                let reason = error.to_string();
                // Said once per reason: a dependency that is away for an hour is one line, not a thousand.
                if reason != said {
                    tracing::warn!(
                        condition = condition.name(),
                        reason,
                        "not ready, trying again"
                    );
                    said.clone_from(&reason);
                }
                condition.fail(reason);
                let wait = backoff.delay(failures, rand::random());
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoffs() -> impl Strategy<Value = Backoff> {
        (0u64..10_000, 0.5f64..10.0, 0u64..600_000).prop_map(|(initial, factor, cap)| Backoff {
            initial: Duration::from_millis(initial),
            factor,
            cap: Duration::from_millis(cap),
        })
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_its_ceiling_nor_that_than_the_cap(
            backoff in backoffs(), failures in any::<u32>(), random in any::<f64>(),
        ) {
            let ceiling = backoff.ceiling(failures);
            prop_assert!(ceiling <= backoff.cap);
            prop_assert!(backoff.delay(failures, random) <= ceiling);
        }

        #[test]
        fn ceilings_never_fall(backoff in backoffs(), failures in 0u32..100_000) {
            prop_assert!(backoff.ceiling(failures) <= backoff.ceiling(failures + 1));
        }

        #[test]
        fn the_jitter_is_full(backoff in backoffs(), failures in any::<u32>()) {
            prop_assert_eq!(backoff.delay(failures, 0.0), Duration::ZERO);
            prop_assert_eq!(backoff.delay(failures, 1.0), backoff.ceiling(failures));
        }
    }

    #[test]
    fn it_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..8).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
