//! What a test sees of a job that has ended.

use serde::de::DeserializeOwned;
use tidegate_contract::{EventKind, JobEvent, Outcome, Progress};

use super::KitError;

/// How a job ended, and what came before.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The event that ended the job, as it lies on the replies topic.
    pub end: JobEvent,
    /// The events before it: `started`, and progress at most every 100 ms. A quick job has none.
    pub events: Vec<JobEvent>,
    /// Everything that the handler said with [`JobContext::progress`](crate::JobContext::progress), in order, also
    /// what went by too quickly to become an event.
    pub progress: Vec<Progress>,
}

impl Ran {
    /// How it ended: completed, failed or expired. The kit makes one attempt, whatever the failure.
    pub fn kind(&self) -> EventKind {
        self.end.kind
    }

    /// The handler's answer: of a job that completed, or of one that failed with an answer of its own.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.end.outcome.as_ref()
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> Option<i32> {
        self.outcome().map(|outcome| outcome.status)
    }

    /// The code of the failure; `None` for a job that completed.
    pub fn code(&self) -> Option<&str> {
        self.end.error.as_ref().map(|error| error.code.as_str())
    }

    /// The body of the answer as text, what is not UTF-8 replaced; empty if there is no answer.
    pub fn text(&self) -> String {
        let body = self.outcome().map(|outcome| &outcome.body[..]);
        String::from_utf8_lossy(body.unwrap_or_default()).into_owned()
    }

    /// The body of a completed job, read as JSON.
    ///
    /// # Errors
    /// [`KitError::NotJson`], with the failure's code and message if the job did not complete.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, KitError> {
        match (&self.end.error, self.outcome()) {
            (None, Some(outcome)) => serde_json::from_slice(&outcome.body).map_err(|error| {
                let text = self.text();
                KitError::NotJson(format!(
                    "the answer is not the JSON asked for: {error}: {text}"
                ))
            }),
            (Some(error), _) => Err(KitError::NotJson(format!(
                "the job ended as {}: {}: {}",
                self.kind().as_str(),
                error.code,
                error.message
            ))),
            (None, None) => Err(KitError::NotJson("the job has no answer".to_owned())),
        }
    }
}
