//! The events of a job as clients see them, and their framing as server-sent events. Pure.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{EventKind, Status};
use tidegate_store::{HistoryEntry, JobRow};

use super::cursor::{Step, What};
use crate::status::partial;

/// One event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    pub id: i64,
    pub kind: &'static str,
    /// A JSON object with at least one member.
    pub data: String,
}

impl StreamEvent {
    /// A step of a row, whose whole status is `status` as JSON.
    pub fn new(row: &JobRow, step: Step<'_>, status: impl FnOnce() -> String) -> Self {
        let (kind, data) = match step.what {
            What::Accepted => ("accepted", accepted(row).to_string()),
            What::Snapshot(lost) => {
                let reason = json!(lost.as_str());
                ("snapshot", with_members(&status(), "reason", &reason))
            }
            What::Happened(entry) => (kind(entry.kind), happened(row, entry).to_string()),
            What::Ended => (row.status.as_str(), status()),
        };
        Self {
            id: step.id,
            kind,
            data,
        }
    }

    /// As a server-sent event. `data` may have line ends of its own, between the members of a handler's result.
    pub fn sse(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 64);
        let _ = write!(text, "id: {}\nevent: {}\n", self.id, self.kind);
        for line in lines(&self.data) {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
        text.into()
    }

    /// As one message: the members of `data`, and `id` and `event` before them.
    pub fn message(&self) -> String {
        let event = json!(self.kind);
        let text = with_members(&self.data, "event", &event);
        with_members(&text, "id", &json!(self.id))
    }
}

/// A JSON object with one member more, at its beginning.
fn with_members(object: &str, name: &str, value: &Value) -> String {
    let rest = object.strip_prefix('{').unwrap_or("}");
    format!("{{\"{name}\":{value},{rest}")
}

/// What a line is for those who read event streams: CR, LF and both end one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .flat_map(|line| line.split('\r'))
}

fn accepted(row: &JobRow) -> Value {
    let status = match row.status {
        Status::Scheduled => Status::Scheduled,
        _ => Status::Pending,
    };
    json!({
        "jobId": row.id,
        "status": status,
        "attempt": 0,
        "at": rfc3339(row.summary.created_at),
    })
}

fn happened(row: &JobRow, entry: &HistoryEntry) -> Value {
    let mut data = json!({
        "jobId": row.id,
        "status": entry.status,
        "attempt": entry.attempt,
        "at": rfc3339(entry.at),
    });
    if let Some(percent) = entry.percent {
        let mut progress = json!({ "percent": percent });
        if let Some(message) = &entry.message {
            progress["message"] = json!(message);
        }
        if let Some(partial) = entry
            .partial
            .as_deref()
            .and_then(|it| partial(it.as_bytes()))
        {
            progress["partial"] = partial;
        }
        data["progress"] = progress;
    }
    if let Some(at) = entry.next_attempt_at {
        data["nextAttemptAt"] = json!(rfc3339(at));
    }
    if let Some(code) = &entry.error {
        data["error"] = json!({ "code": code });
    }
    data
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::RetryScheduled => "retry-scheduled",
        EventKind::AwaitingCompletion => "awaiting-completion",
        EventKind::DeadLettered => "dead-lettered",
        kind => kind.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::cursor::Lost;
    use crate::tests::{a_job, new_job, pending};

    fn event(data: &str) -> StreamEvent {
        StreamEvent {
            id: 7,
            kind: "completed",
            data: data.to_owned(),
        }
    }

    #[test]
    fn every_line_of_the_data_has_its_field() {
        let framed = |data| String::from_utf8(event(data).sse().to_vec()).unwrap();
        let one = "id: 7\nevent: completed\ndata: {\"a\":1}\n\n";
        assert_eq!(framed("{\"a\":1}"), one);
        for data in ["{\n\"a\":1}", "{\r\n\"a\":1}", "{\r\"a\":1}"] {
            let two = "id: 7\nevent: completed\ndata: {\ndata: \"a\":1}\n\n";
            assert_eq!(framed(data), two, "{data:?}");
        }
        // An event may not be ended, and no field begun, by what a handler wrote.
        let text = framed("{\"a\":\n\n1,\r\revent: x\n\r\n}");
        assert_eq!(text.matches("\n\n").count(), 1, "{text}");
        assert_eq!(text.matches("\nevent:").count(), 1, "{text}");
    }

    #[test]
    fn a_message_is_the_data_with_two_members_more() {
        let message: Value = serde_json::from_str(&event("{\"a\":1}").message()).unwrap();
        assert_eq!(message, json!({ "id": 7, "event": "completed", "a": 1 }));
    }

    #[test]
    fn each_step_has_its_name_and_its_data() {
        let row = pending(&new_job(&a_job("default")));
        let entry = HistoryEntry {
            sequence: 3,
            kind: EventKind::RetryScheduled,
            status: Status::Retrying,
            at: 1_738_315_800_000,
            attempt: 2,
            percent: None,
            message: None,
            partial: None,
            next_attempt_at: Some(1_738_315_801_000),
            error: Some("busy".into()),
        };
        let progress = HistoryEntry {
            kind: EventKind::Progress,
            percent: Some(40.0),
            message: Some("half".into()),
            partial: Some("{\"rows\":7}".into()),
            next_attempt_at: None,
            error: None,
            ..entry.clone()
        };
        let of = |what| {
            let status = || "{\"status\":\"pending\"}".to_owned();
            let event = StreamEvent::new(&row, Step { id: 3, what }, status);
            let data: Value = serde_json::from_str(&event.data).unwrap();
            (event.kind, data)
        };
        let (kind, data) = of(What::Accepted);
        assert_eq!((kind, &data["status"]), ("accepted", &json!("pending")));
        assert_eq!(data["jobId"], row.id.to_string());
        let (kind, data) = of(What::Happened(&entry));
        assert_eq!(
            (kind, &data["nextAttemptAt"], &data["error"]["code"]),
            (
                "retry-scheduled",
                &json!("2025-01-31T09:30:01.000Z"),
                &json!("busy")
            )
        );
        let (kind, data) = of(What::Happened(&progress));
        assert_eq!((kind, &data["attempt"]), ("progress", &json!(2)));
        let shown = json!({ "percent": 40.0, "message": "half", "partial": { "rows": 7 } });
        assert_eq!(data["progress"], shown);
        let (kind, data) = of(What::Snapshot(Lost::TooOld));
        assert_eq!((kind, &data["status"]), ("snapshot", &json!("pending")));
        assert!(data["reason"].as_str().unwrap().contains("not kept"));
    }
}
