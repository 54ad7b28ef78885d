//! What a record on the control topic asks for.
//!
//! Key and headers say all that its readers need, so that neither an absent registry nor a newer schema keeps a job from
//! being called off. Pure: the time is passed in.

use crate::event::EventKind;
use crate::handover::{self, Beat};
use crate::headers::{self, RecordHeaders};
use crate::id::JobId;
use crate::names::JobType;
use crate::pause::{self, TypeOrder};
use crate::time::Millis;

/// How long a job is called off whose order names no deadline: for as long as it may matter at all by default.
const WEEK: Millis = 7 * 24 * 3_600_000;

/// What a record on the control topic asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The job has ended: no copy of it is to be run. With its deadline.
    CallOff(JobId, Millis),
    /// A type is paused or resumed.
    Type(JobType, TypeOrder),
    /// A process says which jobs it runs.
    Beat(u64, Beat),
    /// Something that this version does not know.
    Other,
}

impl Order {
    /// The order of a record; `None` if it cannot be read.
    pub fn read(key: &[u8], read: &RecordHeaders, now: Millis) -> Option<Self> {
        if let Some(job_type) = pause::type_of_key(key) {
            let order = TypeOrder::read(read)?;
            return Some(Self::Type(job_type?, order));
        }
        if let Some(owner) = handover::owner_of_key(key) {
            return Some(Self::Beat(owner?, Beat::read(read)?));
        }
        let id = JobId::from_key(key)?;
        if read.get(headers::EVENT)? != EventKind::Cancelled.as_str() {
            return Some(Self::Other);
        }
        let deadline = read.deadline().ok()?;
        Some(Self::CallOff(id, deadline.unwrap_or(now + WEEK)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::rfc3339;

    const DEADLINE: Millis = 1_738_315_800_123;

    #[test]
    fn orders_are_read_by_key_and_headers_alone() {
        let (id, job_type) = (JobId::generate(), "echo".parse::<JobType>().unwrap());
        let key = id.to_string();
        let read = |key: &str, headers: &RecordHeaders| Order::read(key.as_bytes(), headers, 5);
        let mut called_off = RecordHeaders::new();
        called_off.set(headers::EVENT, "cancelled");
        let week = Order::CallOff(id, 5 + WEEK);
        assert_eq!(read(&key, &called_off), Some(week), "of some other gateway");
        called_off.set(headers::DEADLINE, rfc3339(DEADLINE));
        let expected = Order::CallOff(id, DEADLINE);
        assert_eq!(read(&key, &called_off), Some(expected));
        let mut later = called_off.clone();
        later.set(headers::EVENT, "beat");
        assert_eq!(read(&key, &later), Some(Order::Other));

        let of_type = pause::key(&job_type);
        assert_eq!(
            read(&of_type, &called_off),
            None,
            "a type is not called off"
        );
        let pause = TypeOrder::Paused(7);
        let order = read(&of_type, &pause.headers(&job_type));
        assert_eq!(order, Some(Order::Type(job_type, pause)));
        let (owner, beat) = (handover::key(7), Beat::default());
        assert_eq!(read(&owner, &called_off), None, "nor is a process");
        let order = read(&owner, &beat.headers());
        assert_eq!(order, Some(Order::Beat(7, beat)));

        let mut strange = called_off.clone();
        strange.set(headers::DEADLINE, "soon");
        assert_eq!(read(&key, &strange), None);
        assert_eq!(read("7", &called_off), None);
    }
}
