//! What follows a failed attempt. Pure: the time and the random number are passed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// When a job that failed is tried again, and when no more. Durations are texts such as `1s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included: 1 to 100.
    pub attempts: u32,
    /// The pause after the first failure.
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    /// How much longer each pause is than the one before: 1 to 10.
    pub factor: f64,
    /// No pause of the back-off is longer.
    #[serde(with = "humantime_serde")]
    pub cap: Duration,
    /// By what share a pause may be shorter or longer at random, so that jobs which failed together do not come back
    /// together: 0 to 1.
    pub jitter: f64,
    /// Codes of failures that are tried again, whatever the handler says of them.
    pub retry_codes: Vec<String>,
    /// Codes of failures that are never tried again, whatever the handler says of them.
    pub final_codes: Vec<String>,
    /// A handler that asks for a longer pause (`Retry-After`) gets it, up to this.
    #[serde(with = "humantime_serde")]
    pub max_retry_after: Duration,
    /// Time for all attempts, from acceptance (or from when a delayed job was due); without one, the job's deadline is
    /// the only end.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub budget: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(300),
            jitter: 0.2,
            retry_codes: Vec::new(),
            final_codes: Vec::new(),
            max_retry_after: Duration::from_secs(3600),
            budget: None,
        }
    }
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Which one, from 1.
    pub number: i32,
    /// The code of its failure.
    pub code: &'a str,
    /// Whether the handler thinks that another one may succeed.
    pub retryable: bool,
    /// The pause that the handler asks for.
    pub retry_after: Option<Duration>,
    /// When it failed.
    pub at: Millis,
    /// When the time of the job began to count.
    pub begun: Millis,
    /// After this the job is not started any more.
    pub deadline: Millis,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, not before this.
    Again(Millis),
    /// The job has failed for good: another attempt would fail as well, or the type is never tried again.
    Final,
    /// Another attempt might succeed, and there is none left.
    Exhausted(Limit),
}

/// What is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The number of attempts.
    Attempts,
    /// The time budget of the policy.
    Budget,
    /// The time until the job's deadline.
    Deadline,
}

impl Limit {
    /// The reason as it stands in dead letters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Limit::Attempts => "attempts-exhausted",
            Limit::Budget => "budget-exhausted",
            Limit::Deadline => "deadline-too-near",
        }
    }
}

impl RetryPolicy {
    /// No attempt after the first.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// Whether a failure is tried again, as long as there are attempts left.
    pub fn retries(&self, code: &str, retryable: bool) -> bool {
        let among = |codes: &[String]| codes.iter().any(|known| known == code);
        !among(&self.final_codes) && (retryable || among(&self.retry_codes))
    }

    /// What follows a failed attempt; `random` is from 0 to 1. A pause that would end after the budget or the deadline
    /// is none.
    pub fn after(&self, attempt: Attempt<'_>, random: f64) -> Verdict {
        if self.attempts <= 1 || !self.retries(attempt.code, attempt.retryable) {
            return Verdict::Final;
        }
        let number = u32::try_from(attempt.number).unwrap_or(1).max(1);
        if number >= self.attempts {
            return Verdict::Exhausted(Limit::Attempts);
        }
        let asked = attempt.retry_after.unwrap_or_default();
        let pause = self
            .pause(number, random)
            .max(asked.min(self.max_retry_after));
        let next = attempt.at.saturating_add(millis(pause));
        let budget = self
            .budget
            .map(|budget| attempt.begun.saturating_add(millis(budget)));
        if next >= attempt.deadline {
            Verdict::Exhausted(Limit::Deadline)
        } else if budget.is_some_and(|end| next >= end) {
            Verdict::Exhausted(Limit::Budget)
        } else {
            Verdict::Again(next)
        }
    }

    /// The pause of the back-off after attempt `number` (from 1).
    pub fn pause(&self, number: u32, random: f64) -> Duration {
        let cap = self.cap.as_secs_f64();
        let exponent = i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX);
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        // Beyond any cap the power overflows to infinity.
        let grown = (self.first.as_secs_f64() * factor.powi(exponent)).min(cap);
        let random = if random.is_finite() {
            random.clamp(0.0, 1.0)
        } else {
            0.5
        };
        let jitter = if self.jitter.is_finite() {
            self.jitter.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let pause = grown * (1.0 + jitter * (2.0 * random - 1.0));
        Duration::from_secs_f64(pause.clamp(0.0, cap))
    }

    /// Refuses numbers that make no policy: the key below `retry`, and what is allowed.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let day = Duration::from_secs(24 * 3600);
        let long = day * 366;
        if !(1..=100).contains(&self.attempts) {
            return Err(("attempts", "must be from 1 to 100"));
        }
        if !(1.0..=10.0).contains(&self.factor) {
            return Err(("factor", "must be from 1 to 10"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(("jitter", "is a share: 0 to 1"));
        }
        for (key, value) in [("first", self.first), ("cap", self.cap)] {
            if value < Duration::from_millis(1) || value > day {
                return Err((key, "must be from 1ms to 24h"));
            }
        }
        if self.first > self.cap {
            return Err(("first", "must be at most the cap"));
        }
        if self.max_retry_after > long {
            return Err(("max_retry_after", "must be at most 366days"));
        }
        if self
            .budget
            .is_some_and(|budget| budget.is_zero() || budget > long)
        {
            return Err(("budget", "must be from 1ms to 366days"));
        }
        if self
            .final_codes
            .iter()
            .any(|code| self.retry_codes.contains(code))
        {
            return Err(("final_codes", "has a code that stands in retry_codes too"));
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attempt(number: i32) -> Attempt<'static> {
        Attempt {
            number,
            code: "busy",
            retryable: true,
            retry_after: None,
            at: 10_000,
            begun: 0,
            deadline: 1_000_000,
        }
    }

    #[test]
    fn three_attempts_a_second_and_two_apart() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.after(attempt(1), 0.5), Verdict::Again(11_000));
        assert_eq!(policy.after(attempt(2), 0.5), Verdict::Again(12_000));
        assert_eq!(
            policy.after(attempt(3), 0.5),
            Verdict::Exhausted(Limit::Attempts)
        );
        assert_eq!(policy.pause(1, 0.0), Duration::from_millis(800));
        assert_eq!(policy.pause(1, 1.0), Duration::from_millis(1200));
        assert_eq!(policy.pause(40, 1.0), policy.cap);
        let never = RetryPolicy::never();
        assert_eq!(never.after(attempt(1), 0.5), Verdict::Final);
    }

    #[test]
    fn codes_overrule_the_handler() {
        let policy = RetryPolicy {
            retry_codes: vec!["odd".to_owned()],
            final_codes: vec!["busy".to_owned()],
            ..RetryPolicy::default()
        };
        assert_eq!(policy.after(attempt(1), 0.5), Verdict::Final);
        let odd = Attempt {
            code: "odd",
            retryable: false,
            ..attempt(1)
        };
        assert_eq!(policy.after(odd, 0.5), Verdict::Again(11_000));
        let other = Attempt {
            code: "other",
            retryable: false,
            ..attempt(1)
        };
        assert_eq!(policy.after(other, 0.5), Verdict::Final);
    }

    #[test]
    fn a_handler_may_ask_for_a_longer_pause_within_bounds() {
        let policy = RetryPolicy::default();
        let asks = |secs| {
            let retry_after = Some(Duration::from_secs(secs));
            policy.after(
                Attempt {
                    retry_after,
                    deadline: i64::MAX,
                    ..attempt(1)
                },
                0.5,
            )
        };
        assert_eq!(asks(0), Verdict::Again(11_000));
        assert_eq!(asks(30), Verdict::Again(40_000));
        assert_eq!(asks(90_000), Verdict::Again(10_000 + 3_600_000));
        let near = Attempt {
            retry_after: Some(Duration::from_secs(2_000)),
            ..attempt(1)
        };
        assert_eq!(policy.after(near, 0.5), Verdict::Exhausted(Limit::Deadline));
    }

    #[test]
    fn what_makes_no_policy_is_refused_by_key() {
        assert_eq!(RetryPolicy::default().check(), Ok(()));
        type Bend = fn(&mut RetryPolicy);
        let bends: [(Bend, &str); 9] = [
            (|p| p.attempts = 0, "attempts"),
            (|p| p.factor = 0.5, "factor"),
            (|p| p.factor = f64::NAN, "factor"),
            (|p| p.jitter = 1.5, "jitter"),
            (|p| p.first = Duration::ZERO, "first"),
            (|p| p.cap = Duration::from_millis(10), "first"),
            (|p| p.max_retry_after = Duration::MAX, "max_retry_after"),
            (|p| p.budget = Some(Duration::ZERO), "budget"),
            (
                |p| {
                    p.retry_codes = vec!["x".to_owned()];
                    p.final_codes = vec!["x".to_owned()];
                },
                "final_codes",
            ),
        ];
        for (bend, key) in bends {
            let mut policy = RetryPolicy::default();
            bend(&mut policy);
            assert_eq!(policy.check().map_err(|(key, _)| key), Err(key));
        }
    }

    fn policies() -> impl Strategy<Value = RetryPolicy> {
        (
            1u32..=100,
            1u64..10_000,
            1.0f64..=10.0,
            0u64..1_000_000,
            0.0f64..=1.0,
            0u64..10_000_000,
            any::<Option<u32>>(),
        )
            .prop_map(|(attempts, first, factor, more, jitter, after, budget)| {
                RetryPolicy {
                    attempts,
                    first: Duration::from_millis(first),
                    factor,
                    cap: Duration::from_millis(first + more),
                    jitter,
                    max_retry_after: Duration::from_millis(after),
                    budget: budget.map(|ms| Duration::from_millis(u64::from(ms) + 1)),
                    ..RetryPolicy::default()
                }
            })
    }

    proptest! {
        #[test]
        fn a_next_attempt_is_always_within_all_bounds(
            policy in policies(), number in any::<i32>(), retryable in any::<bool>(), asked in any::<Option<u32>>(),
            at in 0i64..1_000_000_000, begun in 0i64..1_000_000_000, deadline in any::<i64>(), random in any::<f64>(),
        ) {
            let retry_after = asked.map(|ms| Duration::from_millis(u64::from(ms)));
            let attempt = Attempt { number, code: "x", retryable, retry_after, at, begun, deadline };
            match policy.after(attempt, random) {
                Verdict::Final => prop_assert!(!retryable || policy.attempts == 1),
                Verdict::Exhausted(Limit::Attempts) => {
                    prop_assert!(u32::try_from(number).unwrap_or(1).max(1) >= policy.attempts);
                }
                Verdict::Exhausted(Limit::Budget) => prop_assert!(policy.budget.is_some()),
                Verdict::Exhausted(Limit::Deadline) => {}
                Verdict::Again(next) => {
                    prop_assert!(retryable && number < policy.attempts as i32);
                    prop_assert!(next >= at && next < deadline);
                    let longest = policy.cap.max(policy.max_retry_after);
                    prop_assert!(next - at <= longest.as_millis() as i64);
                    let asked = retry_after.unwrap_or_default().min(policy.max_retry_after);
                    prop_assert!(next - at >= asked.as_millis() as i64);
                    if let Some(budget) = policy.budget {
                        prop_assert!(next < begun + budget.as_millis() as i64);
                    }
                }
            }
        }

        #[test]
        fn pauses_grow_and_stray_by_no_more_than_their_share(policy in policies(), number in 1u32..200, random in 0.0f64..=1.0) {
            let middle = policy.pause(number, 0.5);
            prop_assert!(policy.pause(number + 1, 0.5) >= middle);
            let pause = policy.pause(number, random);
            prop_assert!(pause <= policy.cap);
            let share = middle.as_secs_f64() * policy.jitter + 1e-6;
            prop_assert!((pause.as_secs_f64() - middle.as_secs_f64()).abs() <= share);
        }
    }
}
