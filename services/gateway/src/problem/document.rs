//! What stands in a problem document, and in the error of a job.

use serde_json::{Map, Value, json};
use tidegate_contract::JobError;

use super::ApiError;

impl ApiError {
    /// The body of the answer.
    pub fn document(&self) -> Value {
        let facts = self.facts();
        let mut doc = Map::new();
        let mut set = |name: &str, value: Value| {
            doc.insert(name.to_owned(), value);
        };
        set("type", json!(format!("/problems/{}", facts.code)));
        set("title", json!(facts.title));
        set("status", json!(facts.status.as_u16()));
        set("detail", json!(self.to_string()));
        set("code", json!(facts.code));
        set("source", json!(facts.source.as_str()));
        set("repeatSafe", json!(facts.repeat_safe));
        match self {
            Self::UnknownJobType { given, nearest } => {
                set("given", json!(given));
                if let Some(nearest) = nearest {
                    set("nearest", json!(nearest));
                }
            }
            Self::UnknownRoute { path, nearest } => {
                set("given", json!(path));
                if let Some(nearest) = nearest {
                    set("nearest", json!(nearest));
                }
            }
            Self::MalformedHeader { name, allowed } => {
                set("header", json!(name));
                set("allowed", json!(allowed));
            }
            Self::UnsupportedOption { name } => set("header", json!(name)),
            Self::TierNotAllowed { allowed, .. } => {
                set("header", json!("Tidegate-Priority"));
                set("allowed", json!(allowed));
            }
            Self::CallbackRefused { rule, .. } => {
                set("header", json!("Tidegate-Callback-Url"));
                set("rule", json!(rule));
            }
            Self::NotJson { line, column, .. } => {
                set("line", json!(line));
                set("column", json!(column));
            }
            Self::TenantBacklog { jobs, limit } => {
                set("unfinished", json!(jobs));
                set("limit", json!(limit));
            }
            Self::TooManyStreams { limit } | Self::TenantStreams { limit } => {
                set("limit", json!(limit));
            }
            Self::BodyTooLarge { limit } | Self::RecordTooLarge { limit, .. } => {
                set("limit", json!(limit));
            }
            Self::RetriedAlready { id, job } => {
                set("jobId", json!(id));
                set("retriedAs", json!(job));
            }
            Self::UnknownJob(id)
            | Self::NoCallback(id, _)
            | Self::DeadLetterGone(id)
            | Self::NotRetried { id, .. }
            | Self::StatusBehind(id)
            | Self::NotJudged(id)
            | Self::NotCancelled { id, .. }
            | Self::NotWritten { id, .. }
            | Self::OutcomeUnknown { id, .. }
            | Self::BadOutcome { id, .. } => set("jobId", json!(id)),
            Self::JobGone { id, status }
            | Self::NotEnded { id, status }
            | Self::EndedOtherwise { id, status } => {
                set("jobId", json!(id));
                set("jobStatus", json!(status));
            }
            Self::Ended {
                id,
                status,
                error,
                attempt,
                at,
            } => {
                set("jobId", json!(id));
                set("jobStatus", json!(status));
                if let Some(error) = error {
                    set("code", json!(error.code));
                    set("error", error_json(error, *attempt, *at));
                }
            }
            _ => {}
        }
        Value::Object(doc)
    }
}

/// The `error` of a job as statuses and problems show it. `at` in Unix milliseconds.
pub fn error_json(error: &JobError, attempt: i32, at: i64) -> Value {
    let details = error.details.as_deref().map(|text| {
        // JSON text by contract; whatever else a worker wrote is shown as text.
        serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
    });
    let mut value = json!({
        "code": error.code,
        "message": error.message,
        "source": error.source.as_str(),
        "retryable": error.retryable,
        "attempt": attempt,
        // Where nobody says how many the type allows, those that were made.
        "attempts": error.attempts.unwrap_or(attempt).max(attempt),
        "at": tidegate_contract::time::rfc3339(at),
    });
    if let (Value::Object(map), Some(details)) = (&mut value, details) {
        map.insert("details".to_owned(), details);
    }
    value
}

/// Foreign text as it may stand in an answer or a log line: short.
pub fn clip(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().nth(LONGEST).is_none() {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
