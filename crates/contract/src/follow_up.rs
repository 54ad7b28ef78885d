//! What a job's end causes, as the job itself says: callbacks and e-mails, and which ends they are for. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::EventKind;
use crate::status::Status;

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FollowUpKind {
    /// A signed request to a URL.
    Callback,
    /// A message to an address.
    Email,
}

impl FollowUpKind {
    /// Every kind.
    pub const ALL: [FollowUpKind; 2] = [FollowUpKind::Callback, FollowUpKind::Email];

    /// The name in records and rows.
    pub const fn as_str(self) -> &'static str {
        match self {
            FollowUpKind::Callback => "callback",
            FollowUpKind::Email => "email",
        }
    }

    /// What people call one.
    pub const fn noun(self) -> &'static str {
        match self {
            FollowUpKind::Callback => "callback",
            FollowUpKind::Email => "e-mail",
        }
    }

    /// The kind of that name; `None` for one of a newer version, which this one passes over.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for FollowUpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a job asks for: settled when it is accepted, and carried in its record and in its events, so that whoever has
/// one of these knows it. The fields are texts as they lie in Avro, because a newer version may know more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// Avro's name of the record: what is read straight into the struct must agree with it.
#[serde(rename = "FollowUp", rename_all = "camelCase")]
pub struct FollowUpSpec {
    /// See [`FollowUpKind`].
    pub kind: String,
    /// The URL or the address.
    pub target: String,
    /// The ends it is for, as [`EventFilter`] writes them.
    pub events: String,
}

impl FollowUpSpec {
    /// A follow-up of that kind.
    pub fn new(kind: FollowUpKind, target: String, events: EventFilter) -> Self {
        Self {
            kind: kind.as_str().to_owned(),
            target,
            events: events.to_string(),
        }
    }

    /// What it is if a job ends so; `None` if that end is not asked for, or if this version does not know what to do.
    pub fn wanted_at(&self, status: Status) -> Option<FollowUpKind> {
        let filter: EventFilter = self.events.parse().ok()?;
        let event = CallbackEvent::of(status)?;
        filter.wants(event).then(|| FollowUpKind::of(&self.kind))?
    }
}

/// The end of a job, as callbacks name it: `job.` and the name of the event, in the letters that Standard Webhooks
/// recommend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackEvent {
    /// The handler gave an answer.
    Completed,
    /// The handler failed for good.
    Failed,
    /// Somebody called the job off.
    Cancelled,
    /// The deadline passed.
    Expired,
    /// The attempts are used up, or the job could not be read.
    DeadLettered,
}

impl CallbackEvent {
    /// Every event.
    pub const ALL: [CallbackEvent; 5] = [
        CallbackEvent::Completed,
        CallbackEvent::Failed,
        CallbackEvent::Cancelled,
        CallbackEvent::Expired,
        CallbackEvent::DeadLettered,
    ];

    /// The event that a job's status is the end of. `None` while the job has not ended.
    pub const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Completed => Some(CallbackEvent::Completed),
            Status::Failed => Some(CallbackEvent::Failed),
            Status::Cancelled => Some(CallbackEvent::Cancelled),
            Status::Expired => Some(CallbackEvent::Expired),
            Status::DeadLettered => Some(CallbackEvent::DeadLettered),
            Status::Pending
            | Status::Scheduled
            | Status::Processing
            | Status::Retrying
            | Status::AwaitingCompletion => None,
        }
    }

    /// The status of a job that has ended so.
    pub const fn status(self) -> Status {
        match self {
            CallbackEvent::Completed => Status::Completed,
            CallbackEvent::Failed => Status::Failed,
            CallbackEvent::Cancelled => Status::Cancelled,
            CallbackEvent::Expired => Status::Expired,
            CallbackEvent::DeadLettered => Status::DeadLettered,
        }
    }

    /// The name without `job.`.
    pub const fn end(self) -> &'static str {
        match self {
            CallbackEvent::Completed => EventKind::Completed.as_str(),
            CallbackEvent::Failed => EventKind::Failed.as_str(),
            CallbackEvent::Cancelled => EventKind::Cancelled.as_str(),
            CallbackEvent::Expired => EventKind::Expired.as_str(),
            CallbackEvent::DeadLettered => EventKind::DeadLettered.as_str(),
        }
    }
}

impl fmt::Display for CallbackEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job.{}", self.end())
    }
}

/// Why a list of events is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEvents {
    /// Nothing between the commas: whoever wants no callback gives no URL.
    #[error("no event is named: leave the list away for all, or name some of {known}", known = known())]
    Empty,
    /// Not the name of an event, cut short.
    #[error("`{0}` is not an event: expected some of {known}", known = known())]
    Unknown(String),
}

fn known() -> String {
    EventFilter::default().to_string()
}

/// The events that a callback is for: all, unless `Tidegate-Callback-Events` names some, separated by commas. Its text
/// reads back, so that it can be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventFilter([bool; CallbackEvent::ALL.len()]);

impl Default for EventFilter {
    fn default() -> Self {
        Self([true; CallbackEvent::ALL.len()])
    }
}

impl EventFilter {
    /// Whether the callback is for this event.
    pub fn wants(&self, event: CallbackEvent) -> bool {
        self.wanted().any(|wanted| wanted == event)
    }

    fn wanted(&self) -> impl Iterator<Item = CallbackEvent> {
        let pairs = CallbackEvent::ALL.into_iter().zip(self.0);
        pairs.filter_map(|(event, wanted)| wanted.then_some(event))
    }
}

impl FromStr for EventFilter {
    type Err = BadEvents;

    fn from_str(text: &str) -> Result<Self, BadEvents> {
        let mut filter = Self([false; CallbackEvent::ALL.len()]);
        // Empty elements of a list mean nothing (RFC 9110, 5.6.1.2).
        let names = text.split(',').map(str::trim).filter(|it| !it.is_empty());
        for name in names {
            let index = CallbackEvent::ALL
                .iter()
                .position(|event| name.strip_prefix("job.") == Some(event.end()))
                .ok_or_else(|| BadEvents::Unknown(name.chars().take(64).collect()))?;
            filter.0[index] = true;
        }
        match filter.0.contains(&true) {
            true => Ok(filter),
            false => Err(BadEvents::Empty),
        }
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, event) in self.wanted().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{event}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventFilter({self})")
    }
}

impl Serialize for EventFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_follow_up_is_for_the_ends_that_it_names() {
        let events = "job.failed".parse().unwrap();
        let mut spec =
            FollowUpSpec::new(FollowUpKind::Callback, "https://a.example/".into(), events);
        assert_eq!(spec.wanted_at(Status::Failed), Some(FollowUpKind::Callback));
        assert_eq!(spec.wanted_at(Status::Completed), None);
        assert_eq!(spec.wanted_at(Status::Processing), None);
        // Of a newer version.
        spec.kind = "fax".to_owned();
        assert_eq!(spec.wanted_at(Status::Failed), None);
        spec.kind = "callback".to_owned();
        spec.events = "job.failed, job.paused".to_owned();
        assert_eq!(spec.wanted_at(Status::Failed), None);
    }

    #[test]
    fn every_end_of_a_job_is_an_event_and_nothing_else_is() {
        for status in Status::ALL {
            let event = CallbackEvent::of(status);
            assert_eq!(event.is_some(), status.is_terminal(), "{status}");
            assert!(event.is_none_or(|event| event.status() == status));
        }
        let ends = Status::ALL.into_iter().filter_map(CallbackEvent::of);
        assert_eq!(ends.count(), CallbackEvent::ALL.len());
    }

    #[test]
    fn names_are_those_that_clients_know() {
        let known = "job.completed, job.failed, job.cancelled, job.expired, job.dead_lettered";
        assert_eq!(EventFilter::default().to_string(), known);
    }

    #[test]
    fn a_list_names_what_is_wanted() {
        let filter: EventFilter = " job.failed,job.completed ,, job.failed".parse().unwrap();
        assert_eq!(filter.to_string(), "job.completed, job.failed");
        assert!(filter.wants(CallbackEvent::Failed));
        assert!(!filter.wants(CallbackEvent::Expired));
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        let error = |text: &str| text.parse::<EventFilter>().unwrap_err();
        assert_eq!(
            error("job.completed, job.started").to_string(),
            "`job.started` is not an event: expected some of job.completed, job.failed, job.cancelled, job.expired, \
             job.dead_lettered"
        );
        for text in [
            "completed",
            "JOB.COMPLETED",
            "job.",
            "*",
            "job.completed;job.failed",
        ] {
            assert_eq!(error(text), BadEvents::Unknown(text.to_owned()));
        }
        for text in ["", " , "] {
            assert_eq!(error(text), BadEvents::Empty);
        }
        let long = "x".repeat(1000);
        assert_eq!(error(&long), BadEvents::Unknown("x".repeat(64)));
    }

    proptest! {
        #[test]
        fn text_reads_back(flags in any::<[bool; CallbackEvent::ALL.len()]>()) {
            let filter = EventFilter(flags);
            let read = filter.to_string().parse();
            if flags.contains(&true) {
                prop_assert_eq!(read, Ok(filter));
            } else {
                prop_assert_eq!(read, Err(BadEvents::Empty));
            }
        }
    }
}
