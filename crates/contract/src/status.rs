//! What a job's status is, and what each event makes of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::EventKind;

/// The status of a job as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Accepted, not yet started.
    Pending,
    /// Accepted, not due yet.
    Scheduled,
    /// A worker has it.
    Processing,
    /// An attempt failed; another follows.
    Retrying,
    /// An outside party completes it later.
    AwaitingCompletion,
    /// Ended with a result.
    Completed,
    /// Ended by a failure that is not worth a repeat.
    Failed,
    /// Ended because its attempts are used up, or it could not be read.
    DeadLettered,
    /// Ended by its owner.
    Cancelled,
    /// Ended because its deadline passed.
    Expired,
}

/// What an event does to a job in a given status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The job takes this status, and with it all that the event carries.
    To(Status),
    /// The status stays; what the event carries (progress, facts of the job) is merged.
    Merge,
    /// The job has ended: the event came late, is counted and dropped.
    Late,
    /// A kind that this version does not know: passed over.
    Skip,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 10] = [
        Status::Pending,
        Status::Scheduled,
        Status::Processing,
        Status::Retrying,
        Status::AwaitingCompletion,
        Status::Completed,
        Status::Failed,
        Status::DeadLettered,
        Status::Cancelled,
        Status::Expired,
    ];

    /// Whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        match self {
            Status::Pending
            | Status::Scheduled
            | Status::Processing
            | Status::Retrying
            | Status::AwaitingCompletion => false,
            Status::Completed
            | Status::Failed
            | Status::DeadLettered
            | Status::Cancelled
            | Status::Expired => true,
        }
    }

    /// What an event makes of a job in this status. The order of events is their order in the job's reply
    /// partition, so a `started` after a `retry_scheduled` is the next attempt, and one after an
    /// `awaiting_completion` is a repeat of the work after a crash.
    pub const fn on(self, event: EventKind) -> Transition {
        if self.is_terminal() {
            return match event {
                EventKind::Unknown => Transition::Skip,
                _ => Transition::Late,
            };
        }
        match event {
            EventKind::Unknown => Transition::Skip,
            EventKind::Accepted => Transition::Merge,
            EventKind::Started => Transition::To(Status::Processing),
            EventKind::Progress => match self {
                // Whoever completes the job later may report on the way there.
                Status::AwaitingCompletion => Transition::Merge,
                _ => Transition::To(Status::Processing),
            },
            EventKind::RetryScheduled => Transition::To(Status::Retrying),
            EventKind::AwaitingCompletion => Transition::To(Status::AwaitingCompletion),
            EventKind::Completed => Transition::To(Status::Completed),
            EventKind::Failed => Transition::To(Status::Failed),
            EventKind::Cancelled => Transition::To(Status::Cancelled),
            EventKind::Expired => Transition::To(Status::Expired),
            EventKind::DeadLettered => Transition::To(Status::DeadLettered),
        }
    }

    /// The status as it stands in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Scheduled => "scheduled",
            Status::Processing => "processing",
            Status::Retrying => "retrying",
            Status::AwaitingCompletion => "awaiting-completion",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::DeadLettered => "dead-lettered",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a status.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a status")]
pub struct BadStatus(String);

impl FromStr for Status {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| BadStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, written out: a row a status, a column an event in the order of `EventKind::ALL`.
    /// `.` merge, `-` late, ` ` skip, a letter the status that follows.
    #[test]
    fn every_pair_of_status_and_event_is_decided() {
        let order = "unknown accepted started progress retry_scheduled awaiting_completion completed failed cancelled expired dead_lettered";
        let names: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.join(" "), order);
        let table = [
            (Status::Pending, " .PPRACFXED"),
            (Status::Scheduled, " .PPRACFXED"),
            (Status::Processing, " .PPRACFXED"),
            (Status::Retrying, " .PPRACFXED"),
            (Status::AwaitingCompletion, " .P.RACFXED"),
            (Status::Completed, " ----------"),
            (Status::Failed, " ----------"),
            (Status::DeadLettered, " ----------"),
            (Status::Cancelled, " ----------"),
            (Status::Expired, " ----------"),
        ];
        assert_eq!(table.len(), Status::ALL.len());
        for (status, row) in table {
            for (kind, cell) in EventKind::ALL.into_iter().zip(row.chars()) {
                let expected = match cell {
                    ' ' => Transition::Skip,
                    '.' => Transition::Merge,
                    '-' => Transition::Late,
                    'P' => Transition::To(Status::Processing),
                    'R' => Transition::To(Status::Retrying),
                    'A' => Transition::To(Status::AwaitingCompletion),
                    'C' => Transition::To(Status::Completed),
                    'F' => Transition::To(Status::Failed),
                    'X' => Transition::To(Status::Cancelled),
                    'E' => Transition::To(Status::Expired),
                    'D' => Transition::To(Status::DeadLettered),
                    other => panic!("unknown cell {other}"),
                };
                assert_eq!(status.on(kind), expected, "{status} on {kind:?}");
            }
        }
    }

    #[test]
    fn text_reads_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
    }
}
