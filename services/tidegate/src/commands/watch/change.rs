//! What an event says of a job, as a line. Pure.

use serde_json::{Value, json};
use tidegate_contract::{JobId, Status};

use crate::output::plain;

/// What of an event is worth a line when it is another one than before.
#[derive(Debug, PartialEq)]
pub struct Change {
    status: String,
    attempt: i64,
    progress: Value,
}

impl Change {
    /// What the data of an event says: that of a step on the way, or the whole status.
    pub fn of(data: &Value) -> Self {
        Self {
            status: data["status"].as_str().unwrap_or_default().to_owned(),
            attempt: data["attempt"].as_i64().unwrap_or_default(),
            progress: data["progress"].clone(),
        }
    }

    /// How the job has ended, if it has.
    pub fn end(&self) -> Option<Status> {
        let status = self.status.parse::<Status>().ok();
        status.filter(|status| status.is_terminal())
    }

    /// As one JSON object.
    pub fn json(&self, id: JobId, data: &Value) -> String {
        let line = json!({
            "at": at(data),
            "jobId": id,
            "status": self.status,
            "attempt": self.attempt,
            "progress": self.progress,
            "error": data["error"],
        });
        line.to_string()
    }

    /// As a line for people.
    pub fn text(&self, data: &Value) -> String {
        let at = at(data).unwrap_or("-");
        let mut line = format!("{at}  {:<20} attempt {}", self.status, self.attempt);
        if let Some(percent) = self.progress["percent"].as_f64() {
            line.push_str(&format!("  {percent} %"));
        }
        let error = &data["error"];
        let error = error["message"].as_str().or(error["code"].as_str());
        for text in [self.progress["message"].as_str(), error]
            .into_iter()
            .flatten()
        {
            line.push_str(&format!("  {}", plain(text)));
        }
        line
    }
}

/// When it happened; of the whole status, when it became what it is.
fn at(data: &Value) -> Option<&str> {
    ["at", "endedAt", "updatedAt"]
        .into_iter()
        .find_map(|name| data[name].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_when_status_attempt_or_progress_changes() {
        let data = json!({ "status": "processing", "attempt": 1, "progress": { "percent": 10.0 }, "at": "x" });
        let mut later = data.clone();
        later["at"] = json!("y");
        assert_eq!(Change::of(&data), Change::of(&later));
        for (name, value) in [
            ("status", json!("retrying")),
            ("attempt", json!(2)),
            ("progress", json!({ "percent": 20.0 })),
        ] {
            let mut other = data.clone();
            other[name] = value;
            assert_ne!(Change::of(&data), Change::of(&other), "{name}");
        }
        assert_eq!(Change::of(&data).end(), None);
        for ended in [
            "completed",
            "failed",
            "dead-lettered",
            "cancelled",
            "expired",
        ] {
            let end = Change::of(&json!({ "status": ended })).end();
            assert_eq!(end.map(|end| end.to_string()).as_deref(), Some(ended));
        }
        assert_eq!(Change::of(&json!({})).end(), None);
    }

    #[test]
    fn a_line_says_when_how_far_and_why() {
        let step = json!({ "status": "processing", "attempt": 2, "at": "T1", "progress": { "percent": 40.0, "message": "half" } });
        let line = "T1  processing           attempt 2  40 %  half";
        assert_eq!(Change::of(&step).text(&step), line);
        let retry = json!({ "status": "retrying", "attempt": 1, "at": "T2", "error": { "code": "bu\nsy" } });
        let line = "T2  retrying             attempt 1  bu\u{fffd}sy";
        assert_eq!(Change::of(&retry).text(&retry), line);
        let end = json!({
            "status": "failed", "attempt": 1, "createdAt": "T0", "updatedAt": "T4", "endedAt": "T3",
            "error": { "code": "busy", "message": "no" },
        });
        let line = "T3  failed               attempt 1  no";
        assert_eq!(Change::of(&end).text(&end), line);
        let id = JobId::generate();
        let object: Value = serde_json::from_str(&Change::of(&end).json(id, &end)).unwrap();
        let expected = json!({
            "at": "T3", "jobId": id, "status": "failed", "attempt": 1, "progress": null, "error": end["error"],
        });
        assert_eq!(object, expected);
    }
}
