//! When a message that was not taken is sent again, and when no more. Pure: the time and the random number are passed in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::Millis;

use crate::settings::BadSetting;

/// The most steps that a schedule may have.
const MOST_STEPS: usize = 32;
/// The longest step: longer than that nobody waits for a message.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The pauses between the attempts of one message. Durations are texts such as `5m`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The pause after the first failure, after the second and so on: one attempt more than there are steps.
    #[serde(with = "texts")]
    pub steps: Vec<Duration>,
    /// By what share a pause may be shorter or longer at random, so that messages which failed together do not come back
    /// together: 0 to 1.
    pub jitter: f64,
}

impl Default for Schedule {
    /// Eight attempts in 28 hours.
    fn default() -> Self {
        let steps = [
            5,
            5 * MINUTE,
            30 * MINUTE,
            2 * HOUR,
            5 * HOUR,
            10 * HOUR,
            10 * HOUR,
        ];
        Self {
            steps: steps.map(Duration::from_secs).to_vec(),
            jitter: 0.2,
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, not before this.
    At(Millis),
    /// No other.
    GivenUp,
}

impl Schedule {
    /// What follows when attempt `number` (from 1) failed at `now`; `random` is from 0 to 1. A receiver that asks for a
    /// longer pause (`Retry-After`) gets it, up to the longest step; a shorter one it does not get.
    pub fn after(
        &self,
        number: u32,
        retry_after: Option<Duration>,
        now: Millis,
        random: f64,
    ) -> Next {
        let index = usize::try_from(number.max(1) - 1).unwrap_or(usize::MAX);
        let Some(step) = self.steps.get(index) else {
            return Next::GivenUp;
        };
        let longest = self.steps.iter().max().copied().unwrap_or_default();
        let asked = retry_after.unwrap_or_default().min(longest);
        let pause = self.spread(*step, random).max(asked);
        let pause = Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX);
        Next::At(now.saturating_add(pause))
    }

    fn spread(&self, step: Duration, random: f64) -> Duration {
        let share = |value: f64, otherwise: f64| {
            if value.is_finite() {
                value.clamp(0.0, 1.0)
            } else {
                otherwise
            }
        };
        let factor = 1.0 + share(self.jitter, 0.0) * (2.0 * share(random, 0.5) - 1.0);
        step.min(LONGEST).mul_f64(factor)
    }

    /// Refuses numbers that make no schedule.
    ///
    /// # Errors
    /// The first key that is out of its bounds. No steps at all are allowed: nothing is tried twice then.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = BadSetting::new;
        if self.steps.len() > MOST_STEPS {
            return bad("steps", "must be at most 32");
        }
        let good = Duration::from_millis(1)..=LONGEST;
        if !self.steps.iter().all(|step| good.contains(step)) {
            return bad("steps", "must each be from 1ms to 7days");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return bad("jitter", "is a share: 0 to 1");
        }
        Ok(())
    }
}

/// Durations as a list of texts.
mod texts {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        steps: &[Duration],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = steps.iter().copied().map(humantime::format_duration);
        let texts: Vec<String> = texts.map(|text| text.to_string()).collect();
        texts.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let read = |text: &String| {
            humantime::parse_duration(text)
                .map_err(|error| D::Error::custom(format!("`{text}` is not a duration: {error}")))
        };
        texts.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pauses after the attempts, in seconds, with the same random number each time.
    fn pauses(schedule: &Schedule, random: f64) -> Vec<i64> {
        let mut pauses = Vec::new();
        for number in 1.. {
            match schedule.after(number, None, 1_000, random) {
                Next::At(at) => pauses.push((at - 1_000) / 1_000),
                Next::GivenUp => break,
            }
        }
        pauses
    }

    #[test]
    fn seven_steps_over_28_hours_and_then_no_more() {
        let schedule = Schedule::default();
        let steps = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
        assert_eq!(pauses(&schedule, 0.5), steps);
        assert_eq!(pauses(&schedule, 0.0), steps.map(|step| step * 4 / 5));
        assert_eq!(pauses(&schedule, 1.0), steps.map(|step| step * 6 / 5));
        assert_eq!(schedule.check(), Ok(()));
    }

    #[test]
    fn retry_after_lengthens_a_pause_up_to_the_longest_step() {
        let schedule = Schedule::default();
        let after =
            |number, seconds| schedule.after(number, Some(Duration::from_secs(seconds)), 0, 0.5);
        assert_eq!(after(1, 1), Next::At(5_000));
        assert_eq!(after(1, 60), Next::At(60_000));
        assert_eq!(after(1, u64::MAX), Next::At(36_000_000));
        assert_eq!(after(8, 60), Next::GivenUp);
    }

    #[test]
    fn it_is_configured_with_texts() {
        let text = r#"{"steps":["5s","1h"],"jitter":0.1}"#;
        let schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(pauses(&schedule, 0.5), [5, 3_600]);
        assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
        let error = serde_json::from_str::<Schedule>(r#"{"steps":["soon"]}"#).unwrap_err();
        assert!(error.to_string().starts_with("`soon` is not a duration"));
        let defaults: Schedule = serde_json::from_str("{}").unwrap();
        assert_eq!(defaults, Schedule::default());
    }

    #[test]
    fn what_makes_no_schedule_is_refused_by_name() {
        let message = |change: fn(&mut Schedule)| {
            let mut schedule = Schedule::default();
            change(&mut schedule);
            schedule.check().unwrap_err().to_string()
        };
        let each = "steps must each be from 1ms to 7days";
        assert_eq!(message(|it| it.steps[0] = Duration::ZERO), each);
        assert_eq!(message(|it| it.steps[0] = LONGEST * 2), each);
        let many = message(|it| it.steps = vec![LONGEST; 33]);
        assert_eq!(many, "steps must be at most 32");
        assert_eq!(
            message(|it| it.jitter = f64::NAN),
            "jitter is a share: 0 to 1"
        );
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_jitter_and_the_longest_step(
            steps in proptest::collection::vec(1u64..100_000, 0..8),
            jitter in 0.0f64..=1.0,
            number in 0u32..10,
            asked in proptest::option::of(any::<u64>()),
            now in any::<i64>(),
            random in any::<f64>(),
        ) {
            let schedule = Schedule {
                steps: steps.iter().copied().map(Duration::from_secs).collect(),
                jitter,
            };
            let asked = asked.map(Duration::from_secs);
            let step = schedule.steps.get(number.max(1) as usize - 1).copied();
            let longest = schedule.steps.iter().max().copied().unwrap_or_default();
            match (schedule.after(number, asked, now, random), step) {
                (Next::GivenUp, None) => {}
                (Next::At(at), Some(step)) => {
                    let least = step.mul_f64(1.0 - jitter).as_millis() as i64 - 1;
                    let most = step.mul_f64(1.0 + jitter).max(longest).as_millis() as i64 + 1;
                    prop_assert!(at >= now.saturating_add(least));
                    prop_assert!(at <= now.saturating_add(most));
                    if let Some(asked) = asked {
                        let asked = asked.min(longest).as_millis() as i64;
                        prop_assert!(at >= now.saturating_add(asked));
                    }
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
