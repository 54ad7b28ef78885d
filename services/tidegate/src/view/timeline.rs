//! What happened to a job, from its status, its records and its events.

use serde::Serialize;
use serde_json::Value;
use tidegate_contract::time::{parse_rfc3339, rfc3339};
use tidegate_contract::{EventKind, JobEvent, Millis, Status, Transition};

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A record of the job on a jobs topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub place: Place,
    /// The record's time.
    pub at: Millis,
    pub attempt: i32,
    /// How often it had been parked since its last attempt.
    pub parked: u32,
    /// It lay on the delay ladder, to go on from there.
    pub delayed: bool,
    /// Of the value, in bytes.
    pub size: usize,
}

/// A record of the job on the replies topic, and why it is no event if it is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub place: Place,
    /// The record's time.
    pub at: Millis,
    pub event: Result<JobEvent, String>,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// RFC 3339 in UTC, by the clock of whoever says so.
    pub at: String,
    /// Milliseconds since the job was accepted.
    pub since_accept_ms: i64,
    pub event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The instance that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub detail: String,
    /// It came after the job's end, and changed nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// The timeline of a job that was accepted at `accepted`. Without any record it is what the status tells.
pub fn lines(accepted: Millis, status: Option<&Value>, sent: &[Sent], said: &[Said]) -> Vec<Line> {
    if sent.is_empty() && said.is_empty() {
        return status
            .map(|status| of_status(accepted, status))
            .unwrap_or_default();
    }
    let mut lines = Vec::with_capacity(sent.len() + said.len());
    let mut sent = sent.iter().peekable();
    let mut at = Status::Pending;
    // The log's own order decides between events; records of the job stand where their time puts them.
    for said in said {
        while let Some(before) = sent.next_if(|sent| sent.at <= said.at) {
            lines.push(of_sent(accepted, before));
        }
        lines.push(of_said(accepted, said, &mut at));
    }
    lines.extend(sent.map(|sent| of_sent(accepted, sent)));
    lines
}

fn of_sent(accepted: Millis, sent: &Sent) -> Line {
    let what = match (sent.parked, sent.attempt) {
        (0, _) if sent.delayed => "delayed".to_owned(),
        (times, _) if sent.delayed => format!("parked ({times})"),
        (0, 0 | 1) => "submitted".to_owned(),
        (0, _) => "sent again".to_owned(),
        (times, _) => format!("back ({times})"),
    };
    Line {
        at: rfc3339(sent.at),
        since_accept_ms: sent.at - accepted,
        event: what,
        attempt: Some(sent.attempt),
        source: None,
        detail: format!(
            "{} bytes on {} {}/{}",
            sent.size, sent.place.topic, sent.place.partition, sent.place.offset
        ),
        late: false,
        place: Some(sent.place.clone()),
    }
}

fn of_said(accepted: Millis, said: &Said, status: &mut Status) -> Line {
    let mut line = Line {
        at: rfc3339(said.at),
        since_accept_ms: said.at - accepted,
        event: "unreadable".to_owned(),
        attempt: None,
        source: None,
        detail: String::new(),
        late: false,
        place: Some(said.place.clone()),
    };
    match &said.event {
        Err(reason) => line.detail.clone_from(reason),
        Ok(event) => {
            match status.on(event.kind) {
                Transition::To(next) => *status = next,
                Transition::Late => line.late = true,
                Transition::Merge | Transition::Skip => {}
            }
            line.at = rfc3339(event.at);
            line.since_accept_ms = event.at - accepted;
            line.event = event.kind.as_str().replace('_', " ");
            line.attempt = Some(event.attempt);
            line.source = Some(event.source.clone());
            line.detail = detail(event);
            if line.late {
                line.detail = format!("late, the job had ended: {}", line.detail);
            }
        }
    }
    line
}

fn detail(event: &JobEvent) -> String {
    let mut parts = Vec::new();
    if let Some(error) = &event.error {
        parts.push(format!(
            "{}: {} ({})",
            error.code,
            error.message,
            error.source.as_str()
        ));
    }
    if let Some(outcome) = &event.outcome {
        let media = outcome.content_type.as_deref().unwrap_or("no media type");
        parts.push(format!(
            "{} {media}, {} bytes",
            outcome.status,
            outcome.body.len()
        ));
    }
    if let Some(progress) = &event.progress {
        let message = progress.message.as_deref();
        let message = message.map(|text| format!(": {text}")).unwrap_or_default();
        parts.push(format!("{:.0} %{message}", progress.percent));
        if let Some(partial) = &progress.partial {
            parts.push(format!("{} bytes of the result", partial.len()));
        }
    }
    if let Some(timings) = &event.timings {
        let ms = |us: i64| us as f64 / 1000.0;
        parts.push(format!(
            "queue {:.1} ms, handler {:.1} ms",
            ms(timings.queue_us),
            ms(timings.handler_us)
        ));
    }
    if let Some(next) = event.next_attempt_at {
        parts.push(format!("not before {}", rfc3339(next)));
    }
    if let Some(place) = &event.dead_letter {
        parts.push(format!("dead letter {}/{}", place.partition, place.offset));
    }
    if event.kind == EventKind::Unknown {
        parts.push("a kind that this version does not know".to_owned());
    }
    parts.join("; ")
}

/// The little that a status tells of how it came about.
fn of_status(accepted: Millis, status: &Value) -> Vec<Line> {
    let text = |name: &str| status[name].as_str();
    let state = text("status").unwrap_or("unknown");
    let attempt = status["attempt"]
        .as_i64()
        .and_then(|attempt| i32::try_from(attempt).ok());
    let error = &status["error"];
    let ended = match error["code"].as_str() {
        Some(code) => format!("{code}: {}", error["message"].as_str().unwrap_or_default()),
        None => String::new(),
    };
    let times = [
        ("createdAt", "accepted", None, String::new()),
        ("startedAt", "started", attempt, String::new()),
        ("endedAt", state, attempt, ended),
    ];
    let line = |(name, event, attempt, detail): (&str, &str, Option<i32>, String)| {
        let at = text(name)?;
        Some(Line {
            at: at.to_owned(),
            since_accept_ms: parse_rfc3339(at)? - accepted,
            event: event.to_owned(),
            attempt,
            source: None,
            detail,
            late: false,
            place: None,
        })
    };
    times.into_iter().filter_map(line).collect()
}

/// The timeline as a table.
pub fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let row = |line: &Line| {
        vec![
            line.at.clone(),
            format!("{:+} ms", line.since_accept_ms),
            line.event.clone(),
            line.attempt
                .map_or("-".to_owned(), |attempt| attempt.to_string()),
            line.source.clone().unwrap_or_else(|| "-".to_owned()),
            line.detail.clone(),
        ]
    };
    lines.iter().map(row).collect()
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
