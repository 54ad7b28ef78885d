//! What happened to a job between its creation and its end, as far as that is kept: so that who follows it can go on where
//! it stopped. Pure.
//!
//! The creation, number 0, and the end, the last number and one, are read off the row itself: a quick job has an empty
//! history.

use serde::{Deserialize, Serialize};
use tidegate_contract::{EventKind, JobEvent, Millis, Status};

use crate::types::JobRow;

/// Entries that are kept of a job, the latest.
pub const ENTRIES: usize = 50;
/// Bytes of them all, as JSON.
pub const BYTES: usize = 64 << 10;

/// One event of a job that neither made nor ended it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// From 1, and one more with each event of the job.
    pub sequence: i64,
    pub kind: EventKind,
    /// What the event made of the job.
    pub status: Status,
    /// When it happened, in Unix milliseconds.
    pub at: Millis,
    pub attempt: i32,
    /// With `progress`: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A piece of the result; left out where it is no text, or over the limit by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// With `retry_scheduled`: when the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Millis>,
    /// With `retry_scheduled`: the code of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which state of a row somebody has seen: another one means that the row has changed in a way that people look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub status: Status,
    pub updated_at: Millis,
    /// As [`JobRow::events`].
    pub events: i64,
}

impl Version {
    /// Whether a row in this state knows more than one in the other: events and times only rise, and an end stays.
    pub fn later_than(&self, other: &Version) -> bool {
        self.events > other.events
            || self.updated_at > other.updated_at
            || self.status.is_terminal() && !other.status.is_terminal()
    }
}

impl JobRow {
    /// The state that this row shows.
    pub fn version(&self) -> Version {
        Version {
            status: self.status,
            updated_at: self.updated_at,
            events: self.events,
        }
    }
}

/// Whether events of this kind stand in the history.
fn counts(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Started
            | EventKind::Progress
            | EventKind::RetryScheduled
            | EventKind::AwaitingCompletion
    )
}

/// Adds an event that was merged into the row already, and drops what is over the limits, oldest first.
pub(crate) fn note(row: &mut JobRow, event: &JobEvent) {
    if !counts(event.kind) {
        return;
    }
    row.events = row.events.saturating_add(1);
    // As the row has it: clean.
    let progress = row.progress.as_ref().filter(|_| event.progress.is_some());
    let partial = progress.and_then(|it| it.partial.as_deref());
    let mut entry = HistoryEntry {
        sequence: row.events,
        kind: event.kind,
        status: row.status,
        at: event.at,
        attempt: event.attempt,
        percent: progress.map(|it| it.percent),
        message: progress.and_then(|it| it.message.clone()),
        partial: partial
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .map(str::to_owned),
        next_attempt_at: event.next_attempt_at,
        error: event.error.as_ref().map(|error| error.code.clone()),
    };
    if size(&entry) > BYTES {
        entry.partial = None;
    }
    if size(&entry) > BYTES {
        (entry.message, entry.error) = (None, None);
    }
    row.history.push(entry);
    let mut bytes = 0;
    let kept = row.history.iter().rev().take(ENTRIES).take_while(|entry| {
        bytes += size(entry);
        bytes <= BYTES
    });
    let dropped = row.history.len() - kept.count();
    row.history.drain(..dropped);
}

/// Of its JSON, in bytes; what cannot be written has none.
fn size(entry: &HistoryEntry) -> usize {
    serde_json::to_string(entry).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidegate_contract::{JobId, JobSummary, Progress, Tenant, Tier};

    use super::*;
    use crate::merge::fold;

    fn event(id: JobId, kind: EventKind, at: Millis) -> JobEvent {
        JobEvent {
            job_id: id,
            kind,
            at,
            attempt: 1,
            job: JobSummary {
                job_type: "echo".parse().unwrap(),
                pool: "default".parse().unwrap(),
                tier: Tier::Normal,
                tenant: Tenant::default(),
                created_at: 100,
                deadline: 900,
                trace_id: None,
                retry_of: None,
                follow_ups: Vec::new(),
            },
            source: String::new(),
            outcome: None,
            error: None,
            progress: None,
            timings: None,
            next_attempt_at: None,
            dead_letter: None,
        }
    }

    fn progress(id: JobId, partial: &[u8]) -> JobEvent {
        JobEvent {
            progress: Some(Progress {
                percent: 50.0,
                message: None,
                partial: Some(Bytes::copy_from_slice(partial)),
            }),
            ..event(id, EventKind::Progress, 1)
        }
    }

    fn sequences(row: &JobRow) -> Vec<i64> {
        row.history.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn a_quick_job_has_no_history() {
        let id = JobId::generate();
        let log = [
            EventKind::Accepted,
            EventKind::Unknown,
            EventKind::Completed,
        ];
        let log = log.map(|kind| event(id, kind, 5));
        let row = fold(None, 0, &log).row.unwrap();
        assert_eq!((row.events, row.history), (0, Vec::new()));
    }

    #[test]
    fn every_event_between_has_a_number_and_its_status() {
        let id = JobId::generate();
        let log = [
            event(id, EventKind::Accepted, 1),
            event(id, EventKind::Started, 2),
            progress(id, b"[1]"),
            event(id, EventKind::RetryScheduled, 4),
            event(id, EventKind::AwaitingCompletion, 5),
            progress(id, b"\xff"),
            event(id, EventKind::Failed, 7),
            event(id, EventKind::Started, 8),
        ];
        let row = fold(None, 0, &log).row.unwrap();
        assert_eq!((sequences(&row), row.events), (vec![1, 2, 3, 4, 5], 5));
        let statuses: Vec<_> = row.history.iter().map(|entry| entry.status).collect();
        use Status::{AwaitingCompletion as Awaiting, Processing, Retrying};
        assert_eq!(
            statuses,
            [Processing, Processing, Retrying, Awaiting, Awaiting]
        );
        let partials: Vec<_> = row.history.iter().map(|it| it.partial.as_deref()).collect();
        assert_eq!(partials, [None, Some("[1]"), None, None, None]);
    }

    #[test]
    fn the_oldest_are_dropped_over_either_limit() {
        let id = JobId::generate();
        let many: Vec<_> = (0..70)
            .map(|at| event(id, EventKind::Started, at))
            .collect();
        let row = fold(None, 0, &many).row.unwrap();
        assert_eq!(sequences(&row), (21..=70).collect::<Vec<_>>());

        let large: Vec<_> = (0..9).map(|_| progress(id, &[b'x'; 20_000])).collect();
        let row = fold(Some(row), 0, &large).row.unwrap();
        assert_eq!(sequences(&row), [77, 78, 79]);
        let json = serde_json::to_string(&row.history).unwrap();
        assert!(json.len() < BYTES + ENTRIES, "{}", json.len());
    }

    #[test]
    fn a_piece_that_is_too_large_by_itself_is_left_out_and_the_event_stays() {
        let id = JobId::generate();
        // Six bytes each as JSON.
        let log = [event(id, EventKind::Started, 1), progress(id, &[1; 11_000])];
        let row = fold(None, 0, &log).row.unwrap();
        assert_eq!(sequences(&row), [1, 2]);
        let entry = &row.history[1];
        assert_eq!((entry.percent, &entry.partial), (Some(50.0), &None));
        let kept = row.progress.unwrap().partial.unwrap();
        assert_eq!(kept.len(), 11_000, "where it is shown");
    }

    proptest! {
        /// A row is read before each batch of its events, and written after it: in however many batches they came, the
        /// row is the same.
        #[test]
        fn a_percentage_stays_what_it_is_when_it_is_read_and_written(percent in 0.0..=100.0) {
            for percent in [percent, 26.666_645_205_735_218] {
                let mut event = progress(JobId::generate(), b"");
                event.progress.as_mut().unwrap().percent = percent;
                let history = fold(None, 0, &[event]).row.unwrap().history;
                let text = serde_json::to_string(&history).unwrap();
                let read: Vec<HistoryEntry> = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(read, history);
            }
        }
    }
}
