//! When the target of an `http` handler counts as down, and for how long it is left alone then.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a breaker opens and how long it stays so. Durations are texts such as `5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerPolicy {
    /// Failures in a row, within a minute, after which the target counts as down; 0: it never does.
    pub failures: u32,
    /// How long it is left alone first; it doubles with every probe that fails.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// The longest such pause.
    #[serde(with = "humantime_serde")]
    pub max_pause: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(5),
            max_pause: Duration::from_secs(60),
        }
    }
}

impl BreakerPolicy {
    /// The most that `failures` may be.
    pub const MOST_FAILURES: u32 = 1000;

    /// Refuses numbers that make no policy: the key below `breaker`, and what is allowed.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let day = Duration::from_secs(24 * 3600);
        if self.failures > Self::MOST_FAILURES {
            return Err((
                "failures",
                "must be from 1 to 1000, or 0 for a target that is never left alone",
            ));
        }
        for (key, value) in [("pause", self.pause), ("max_pause", self.max_pause)] {
            if value < Duration::from_millis(1) || value > day {
                return Err((key, "must be from 1ms to 24h"));
            }
        }
        if self.pause > self.max_pause {
            return Err(("pause", "must be at most max_pause"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_policy_are_refused_by_their_key() {
        let good = BreakerPolicy::default();
        assert_eq!(good.check(), Ok(()));
        let off = BreakerPolicy {
            failures: 0,
            ..good
        };
        assert_eq!(off.check(), Ok(()));
        let (zero, long) = (Duration::ZERO, Duration::from_secs(61));
        for (bad, key) in [
            (
                BreakerPolicy {
                    failures: 1001,
                    ..good
                },
                "failures",
            ),
            (
                BreakerPolicy {
                    pause: zero,
                    ..good
                },
                "pause",
            ),
            (
                BreakerPolicy {
                    pause: long,
                    ..good
                },
                "pause",
            ),
            (
                BreakerPolicy {
                    max_pause: zero,
                    ..good
                },
                "max_pause",
            ),
        ] {
            assert_eq!(bad.check().unwrap_err().0, key, "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let said: BreakerPolicy = serde_json::from_str(r#"{"pause":"2s"}"#).unwrap();
        let expected = BreakerPolicy {
            pause: Duration::from_secs(2),
            ..BreakerPolicy::default()
        };
        assert_eq!(said, expected);
        assert!(serde_json::from_str::<BreakerPolicy>(r#"{"pauses":"2s"}"#).is_err());
    }
}
