//! Orders on the control topic that pause and resume a job type, and what they come to. Pure: the time is passed in.
//!
//! The key `type:NAME` is one per type, so that compaction keeps the last word; headers say the rest.

use std::collections::HashMap;
use std::time::Duration;

use crate::headers::{EVENT, JOB_TYPE, RecordHeaders, UNTIL};
use crate::names::JobType;
use crate::time::{Millis, parse_rfc3339, rfc3339};

/// How long a pause holds unless it is said again. The control topic keeps records for longer than this, whatever the
/// types: a pause ends by what it says, never by a record that is gone.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Types that are kept paused at most: more than anybody has.
const MOST: usize = 10_000;

const PREFIX: &str = "type:";
const PAUSED: &str = "paused";
const RESUMED: &str = "resumed";

/// What becomes of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeOrder {
    /// None of its jobs is begun before this time.
    Paused(Millis),
    /// Its jobs are begun.
    Resumed,
}

/// The key of a type's orders.
pub fn key(job_type: &JobType) -> String {
    format!("{PREFIX}{job_type}")
}

/// The type that a key on the control topic names, if it is not that of a job. `Some(None)`: of no possible type.
pub fn type_of_key(key: &[u8]) -> Option<Option<JobType>> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
    Some(name.parse().ok())
}

impl TypeOrder {
    /// A pause from now on.
    pub fn pause(now: Millis) -> Self {
        let longest = Millis::try_from(LONGEST.as_millis()).unwrap_or(Millis::MAX);
        Self::Paused(now.saturating_add(longest))
    }

    /// The headers of its record.
    pub fn headers(&self, job_type: &JobType) -> RecordHeaders {
        let mut headers = RecordHeaders::new();
        headers.set(JOB_TYPE, job_type.as_str());
        match self {
            Self::Paused(until) => {
                headers.set(EVENT, PAUSED);
                headers.set(UNTIL, rfc3339(*until));
            }
            Self::Resumed => headers.set(EVENT, RESUMED),
        }
        headers
    }

    /// What headers say; `None` for what this version does not know or cannot read.
    pub fn read(headers: &RecordHeaders) -> Option<Self> {
        match headers.get(EVENT)? {
            PAUSED => parse_rfc3339(headers.get(UNTIL)?).map(Self::Paused),
            RESUMED => Some(Self::Resumed),
            _ => None,
        }
    }
}

/// The types that are paused, as whoever reads the orders keeps them in mind; a bounded number of them.
#[derive(Debug, Default)]
pub struct Paused {
    until: HashMap<JobType, Millis>,
}

impl Paused {
    /// A type is paused or resumed; the last word counts.
    pub fn order(&mut self, job_type: JobType, order: &TypeOrder, now: Millis) {
        self.until.retain(|_, until| *until > now);
        match *order {
            TypeOrder::Paused(until) if until > now && self.until.len() < MOST => {
                self.until.insert(job_type, until);
            }
            TypeOrder::Paused(_) | TypeOrder::Resumed => drop(self.until.remove(&job_type)),
        }
    }

    /// Until when a type is paused, if it is.
    pub fn until(&self, job_type: &JobType, now: Millis) -> Option<Millis> {
        let until = self.until.get(job_type).copied();
        until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_type_is_paused_until_it_is_resumed_or_its_time_is_over() {
        const NOW: Millis = 1_000_000;
        let mut paused = Paused::default();
        let (one, other): (JobType, JobType) = ("one".parse().unwrap(), "other".parse().unwrap());
        let pause = TypeOrder::Paused(NOW + 10);
        paused.order(one.clone(), &pause, NOW);
        paused.order(one.clone(), &pause, NOW);
        assert_eq!(paused.until(&one, NOW), Some(NOW + 10));
        assert_eq!(paused.until(&other, NOW), None);
        assert_eq!(paused.until(&one, NOW + 10), None, "not for ever");
        paused.order(one.clone(), &TypeOrder::Resumed, NOW);
        assert_eq!(paused.until(&one, NOW), None);
        paused.order(one.clone(), &pause, NOW + 10);
        assert_eq!(paused.until(&one, NOW), None, "its time is over already");
        paused.order(other.clone(), &pause, NOW);
        paused.order(one, &TypeOrder::Resumed, NOW + 10);
        assert!(paused.until.is_empty(), "what is over is not kept");
    }

    #[test]
    fn keys_name_types_and_nothing_else() {
        let job_type: JobType = "a-b".parse().unwrap();
        assert_eq!(type_of_key(key(&job_type).as_bytes()), Some(Some(job_type)));
        assert_eq!(type_of_key(b"type:NOT A NAME"), Some(None));
        for strange in [&b"0190a6b8-0000-7000-8000-000000000000"[..], b"", b"\xff"] {
            assert_eq!(type_of_key(strange), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_order() {
        let mut headers = TypeOrder::pause(5).headers(&"a".parse().unwrap());
        headers.set(UNTIL, "soon");
        assert_eq!(TypeOrder::read(&headers), None);
        headers.remove(UNTIL);
        assert_eq!(TypeOrder::read(&headers), None);
        headers.set(EVENT, "beat");
        assert_eq!(TypeOrder::read(&headers), None);
    }

    proptest! {
        #[test]
        fn an_order_is_read_as_it_was_written(until in 0..4_000_000_000_000i64, paused in any::<bool>()) {
            let order = if paused { TypeOrder::Paused(until) } else { TypeOrder::Resumed };
            let headers = order.headers(&"a".parse().unwrap());
            prop_assert_eq!(TypeOrder::read(&headers), Some(order));
        }
    }
}
