//! How long jobs of each type usually take, so that who polls asks about when there is something to be told. Pure but for
//! the lock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidegate_contract::{EventKind, JobEvent, JobType, Millis};

/// The weight of the latest job against all before it.
const WEIGHT: f64 = 0.2;
/// Types that are remembered: more than anybody configures.
const TYPES: usize = 4_096;
/// The longest that a client is told to stay away, in seconds.
const MOST: u64 = 60;

/// A moving average a type, from the ends that this gateway has projected.
#[derive(Debug, Default)]
pub struct Usual {
    millis: Mutex<HashMap<JobType, f64>>,
}

impl Usual {
    /// Takes in the ends among these events. Jobs that were called off or ran out of time tell nothing.
    pub fn learn(&self, events: &[JobEvent]) {
        let ends = events.iter().filter(|event| {
            event.kind.is_terminal()
                && !matches!(event.kind, EventKind::Cancelled | EventKind::Expired)
        });
        let mut millis = self.millis.lock().unwrap_or_else(PoisonError::into_inner);
        for end in ends {
            let took = end.at.saturating_sub(end.job.created_at).max(0) as f64;
            if let Some(usual) = millis.get_mut(&end.job.job_type) {
                *usual += WEIGHT * (took - *usual);
            } else if millis.len() < TYPES {
                millis.insert(end.job.job_type.clone(), took);
            }
        }
    }

    /// From the acceptance of a job of this type to its end; `None` while none has ended.
    pub fn of(&self, job_type: &JobType) -> Option<Duration> {
        let millis = self.millis.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = millis.get(job_type)?;
        Some(Duration::from_millis(*usual as u64))
    }
}

/// When to ask again about a job that has waited for so long already (less than zero: it is not due yet), in seconds from
/// `least` to 60: when it will usually have ended, and later the longer it takes, a quarter of its age.
pub fn retry_after(usual: Option<Duration>, waited: Millis, least: u64) -> u64 {
    let usual = usual.map_or(0, |usual| {
        Millis::try_from(usual.as_millis()).unwrap_or(Millis::MAX)
    });
    let wait = usual.saturating_sub(waited).max(waited / 4).max(0);
    let seconds = u64::try_from(wait).unwrap_or(0).div_ceil(1_000);
    seconds.max(least).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{a_job, end};

    fn ended(kind: EventKind, took: Millis) -> JobEvent {
        let mut event = end(&a_job("default"), kind);
        event.job.created_at = event.at - took;
        event
    }

    #[test]
    fn the_usual_time_follows_what_was_seen_and_forgets_the_past() {
        let usual = Usual::default();
        let job_type = a_job("default").job_type;
        let of = || usual.of(&job_type).map(|time| time.as_millis());
        usual.learn(&[
            ended(EventKind::Started, 9_000),
            ended(EventKind::Cancelled, 9_000),
            ended(EventKind::Expired, 9_000),
        ]);
        assert_eq!(of(), None);
        usual.learn(&[ended(EventKind::Completed, 1_000)]);
        assert_eq!(of(), Some(1_000));
        usual.learn(&[ended(EventKind::Failed, 2_000)]);
        assert_eq!(of(), Some(1_200));
        let slow: Vec<_> = (0..50)
            .map(|_| ended(EventKind::Completed, 5_000))
            .collect();
        usual.learn(&slow);
        assert!(of().unwrap() > 4_990);
        // A clock that is behind.
        usual.learn(&[ended(EventKind::Completed, -5_000)]);
        assert!(of().unwrap() < 4_500);
    }

    #[test]
    fn who_asks_again_comes_when_it_is_usually_done_and_then_ever_more_rarely() {
        let after = |usual: u64, waited| retry_after(Some(Duration::from_secs(usual)), waited, 1);
        for (usual, waited, seconds) in [
            (0, 0, 1),
            (10, 0, 10),
            (10, 7_500, 3),
            (10, 10_000, 3),
            (10, 100_000, 25),
            (10, 1_000_000, 60),
            (600, 0, 60),
            (5, -20_000, 25),
        ] {
            assert_eq!(after(usual, waited), seconds, "{usual} s, {waited} ms");
        }
        assert_eq!(retry_after(None, 0, 1), 1);
        assert_eq!(retry_after(None, 0, 7), 7);
        assert_eq!(retry_after(None, i64::MIN, 1), 60);
        assert_eq!(retry_after(None, i64::MAX, 1), 60);
    }
}
