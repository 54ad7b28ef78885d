//! What a handler is, what it is given, and how it fails.
//!
//! ```
//! use tidegate_contract::Outcome;
//! use tidegate_worker::{Handler, Handlers, JobContext, JobFailure};
//!
//! /// Adds up the numbers of a JSON array.
//! struct Sum;
//!
//! #[async_trait::async_trait]
//! impl Handler for Sum {
//!     async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
//!         let numbers: Vec<f64> = serde_json::from_slice(cx.body())
//!             .map_err(|e| JobFailure::refused(422, "not-numbers", format!("not an array of numbers: {e}")))?;
//!         cx.progress(50.0, Some("read"), None);
//!         let sum: f64 = numbers.iter().sum();
//!         Ok(tidegate_worker::outcome(200, "application/json", sum.to_string()))
//!     }
//! }
//!
//! // A job type with `handler = { kind = "custom", name = "sum" }` runs it.
//! let handlers = Handlers::new().custom("sum", Sum);
//! # assert!(handlers.get("sum").is_some());
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_contract::{FaultSource, JobError, Outcome};

pub use crate::context::JobContext;

/// Runs the jobs of a type.
///
/// It may run again for the same job after a crash, a rebalance or a retry, so what it does to the outside
/// should bear repeating; [`JobContext::attempt`] and [`JobContext::is_repeat`] tell what is known. The future is
/// dropped at an await when the attempt's time is up; code that blocks the thread cannot be stopped that way and
/// holds up other jobs, so give it to [`JobContext::blocking`] and look at [`JobContext::is_cancelled`] in it.
/// A panic ends the attempt, not the worker.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// One attempt at a job. The outcome's status, headers and body are what an HTTP client gets.
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure>;
}

/// The handlers written in Rust, by the name that a job type's `handler = { kind = "custom", name = … }` gives.
///
/// ```
/// use tidegate_worker::{Handlers, JobContext, JobFailure};
///
/// async fn double(number: i64, _cx: JobContext) -> Result<i64, JobFailure> {
///     Ok(number * 2)
/// }
///
/// let handlers = Handlers::new().typed("double", double);
/// assert_eq!(handlers.names(), ["double"]);
/// ```
#[derive(Clone, Default)]
pub struct Handlers(HashMap<String, Arc<dyn Handler>>);

impl Handlers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler; one of the same name is replaced.
    #[must_use]
    pub fn custom(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.0.insert(name.into(), Arc::new(handler));
        self
    }

    /// Adds an async function from JSON to JSON; see [`typed`](crate::typed()).
    #[must_use]
    pub fn typed<I, O, F, Fut>(self, name: impl Into<String>, run: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(I, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobFailure>> + Send + 'static,
    {
        self.custom(name, crate::typed::typed(run))
    }

    /// The handler of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Handler>> {
        self.0.get(name).cloned()
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// An outcome with a body of that media type and no headers. `status` is the HTTP status that a waiting client gets.
///
/// ```
/// let outcome = tidegate_worker::outcome(200, "text/csv", "a,b\n1,2\n");
/// assert_eq!((outcome.status, outcome.body.len()), (200, 8));
/// ```
pub fn outcome(status: u16, content_type: &str, body: impl Into<Bytes>) -> Outcome {
    Outcome {
        status: i32::from(status),
        content_type: Some(content_type.to_owned()),
        headers: Vec::new(),
        body: body.into(),
    }
}

/// Why an attempt did not complete its job.
///
/// Any `std::error::Error` becomes one through `?`: code `handler-error`, retryable, its chain of causes as the
/// message.
///
/// ```
/// use std::time::Duration;
/// use tidegate_worker::JobFailure;
///
/// fn parse(text: &str) -> Result<u32, JobFailure> {
///     Ok(text.parse::<u32>()?)
/// }
///
/// let failure = parse("seven").unwrap_err();
/// assert_eq!((failure.code.as_str(), failure.retryable), ("handler-error", true));
///
/// // The client is at fault, and gets 409 with code and message as JSON.
/// let refused = JobFailure::refused(409, "sold-out", "none are left");
/// assert!(!refused.retryable);
///
/// let later = JobFailure::retryable("busy", "the printer is busy").with_retry_after(Duration::from_secs(30));
/// assert_eq!(later.retry_after, Some(Duration::from_secs(30)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct JobFailure {
    /// Stable, kebab-case.
    pub code: String,
    /// For people; whoever may see the job may see it, so no secrets.
    pub message: String,
    /// Where the fault lies; `job` unless the worker knows better.
    pub source: FaultSource,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Not before this long from now.
    pub retry_after: Option<Duration>,
    /// More, as JSON.
    pub details: Option<serde_json::Value>,
    /// An answer of its own for the client; its status must be a 4xx or 5xx.
    pub outcome: Option<Box<Outcome>>,
}

impl JobFailure {
    /// A failure that another attempt would meet again.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            source: FaultSource::Job,
            retryable: false,
            retry_after: None,
            details: None,
            outcome: None,
        }
    }

    /// A failure that may pass.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(code, message)
        }
    }

    /// The request itself is at fault: the client gets `status` (4xx) with a JSON body of code and message.
    pub fn refused(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        let failure = Self::permanent(code, message);
        let body = serde_json::json!({ "code": failure.code, "message": failure.message });
        failure.with_outcome(outcome(status, "application/json", body.to_string()))
    }

    /// Adds an answer of its own.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(Box::new(outcome));
        self
    }

    /// Adds details.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Says not to try again before then.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// A fault of the worker rather than of the job.
    #[must_use]
    pub(crate) fn of_worker(mut self) -> Self {
        self.source = FaultSource::Worker;
        self
    }

    /// A fault of whoever wrote the record.
    #[must_use]
    pub(crate) fn of_gateway(mut self) -> Self {
        self.source = FaultSource::Gateway;
        self
    }

    /// The error as it stands in the event, texts cut to their limits.
    pub(crate) fn error(&self) -> JobError {
        JobError {
            code: cut(&self.code, 64).to_owned(),
            message: cut(&self.message, MESSAGE_LIMIT).to_owned(),
            source: self.source,
            retryable: self.retryable,
            retry_after_ms: self
                .retry_after
                .map(|pause| i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)),
            details: self
                .details
                .as_ref()
                .map(ToString::to_string)
                .filter(|text| text.len() <= DETAILS_LIMIT),
            attempts: None,
        }
    }
}

impl<E: std::error::Error> From<E> for JobFailure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self::retryable("handler-error", message)
    }
}

/// Longest message of a failure or of progress, in bytes.
pub const MESSAGE_LIMIT: usize = 1024;
/// Longest details of a failure, in bytes; longer ones are left out.
pub const DETAILS_LIMIT: usize = 16 * 1024;

/// The longest beginning of `text` that has at most `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_retryable_failure_with_its_causes() {
        fn fails() -> Result<(), JobFailure> {
            let outer = std::io::Error::other("disk gone".parse::<f64>().unwrap_err());
            Err(outer)?
        }
        let failure = fails().unwrap_err();
        assert_eq!(failure.code, "handler-error");
        assert!(failure.retryable);
        assert!(failure.message.contains("invalid float"), "{failure:?}");
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
        let error = JobFailure::permanent("c", "ä".repeat(5000)).error();
        assert!(error.message.len() <= MESSAGE_LIMIT);
    }

    #[test]
    fn a_refusal_carries_its_answer() {
        let failure = JobFailure::refused(422, "bad-range", "from is after to");
        let answer = failure.outcome.unwrap();
        assert_eq!(answer.status, 422);
        assert_eq!(
            answer.body,
            r#"{"code":"bad-range","message":"from is after to"}"#
        );
    }
}
