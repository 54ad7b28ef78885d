//! Runs handlers in tests as they run in production: through a broker, a registry and the worker's own loop.
//!
//! One call submits a job and waits for its end:
//!
//! ```
//! use tidegate_worker::{JobContext, JobFailure, testkit, typed};
//!
//! async fn sum(numbers: Vec<f64>, cx: JobContext) -> Result<f64, JobFailure> {
//!     cx.progress(50.0, Some("read"), None);
//!     Ok(numbers.iter().sum())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), testkit::KitError> {
//! let ran = testkit::run("sum", typed(sum), [1, 2, 3]).await?;
//! assert_eq!(ran.json::<f64>()?, 6.0);
//! assert_eq!(ran.progress[0].percent, 50.0);
//! # Ok(())
//! # }
//! ```
//!
//! [`job`] says more of the job: headers, path parameters, tier, attempt, time limits.
//!
//! The broker and the registry are in this process, start with the first call and serve all later ones of the process,
//! which may run side by side. The first call takes about three seconds, for that is how long this broker holds back a
//! new group; the others take milliseconds. Handlers run on threads of the kit, not on those of the test, so a paused
//! clock of the test's runtime does not reach them.

mod ran;
mod stack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tidegate_contract::{
    JobId, JobMessage, Pair, Pool, RequestInfo, RetryPolicy, Tenant, Tier, now_millis,
};

use crate::handler::Handler;
use crate::handlers::Runnable;
pub use ran::Ran;
use stack::Stack;

/// How long after the end of its time a job may still be under way: the first one waits for the broker's groups.
const SLACK: Duration = Duration::from_secs(30);

/// Why the kit cannot say how a job ended. That a handler failed is none of these: see [`Ran`].
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// What the test says of the job makes no sense: a name that is none, for instance.
    #[error("the job cannot be made: {0}")]
    BadJob(String),
    /// The embedded broker, registry or worker does not do its part.
    #[error("the embedded stack does not work: {0}")]
    Stack(String),
    /// The job has not ended within its time and half a minute.
    #[error("the job has not ended within {}", humantime::format_duration(*.0))]
    NoEnd(Duration),
    /// The job ended, and not with the JSON that the test asks for.
    #[error("{0}")]
    NotJson(String),
}

/// Runs a handler once on `input` as JSON, as a job of that type; see [`job`] for more.
///
/// # Errors
/// Only for what is not the handler's doing. A handler that fails, panics or takes too long gives a [`Ran`] that says so.
pub async fn run(
    job_type: &str,
    handler: impl Handler,
    input: impl Serialize,
) -> Result<Ran, KitError> {
    job(job_type).json(input)?.run(handler).await
}

/// A job of that type to run a handler on: an empty body, tier `normal`, first attempt, a minute to run in.
///
/// ```
/// use std::time::Duration;
/// use tidegate_worker::{Handler, JobContext, JobFailure, Outcome, Tier, async_trait, outcome, testkit};
///
/// /// Says what it is told about the request.
/// struct Look;
///
/// #[async_trait]
/// impl Handler for Look {
///     async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
///         let request = &cx.job().request;
///         let accept = request.header("accept").unwrap_or("anything");
///         let order = request.path_params.get("order").map_or("none", String::as_str);
///         Ok(outcome(200, "text/plain", format!("order {order} as {accept}, {} tier", cx.job().tier)))
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), testkit::KitError> {
/// let ran = testkit::job("look")
///     .header("accept", "text/csv")
///     .path_param("order", "7")
///     .tier(Tier::High)
///     .attempt_timeout(Duration::from_secs(2))
///     .run(Look)
///     .await?;
/// assert_eq!(ran.text(), "order 7 as text/csv, high tier");
/// # Ok(())
/// # }
/// ```
pub fn job(job_type: impl Into<String>) -> TestJob {
    TestJob {
        job_type: job_type.into(),
        tier: Tier::Normal,
        tenant: None,
        attempt: 1,
        attempt_timeout: Duration::from_secs(60),
        deadline: Duration::from_secs(3600),
        method: "POST".to_owned(),
        path: None,
        path_params: BTreeMap::new(),
        query: Vec::new(),
        headers: Vec::new(),
        content_type: None,
        body: Bytes::new(),
    }
}

/// A job that has not been submitted yet; made by [`job`].
#[derive(Clone, Debug)]
pub struct TestJob {
    job_type: String,
    tier: Tier,
    tenant: Option<String>,
    attempt: i32,
    attempt_timeout: Duration,
    deadline: Duration,
    method: String,
    path: Option<String>,
    path_params: BTreeMap<String, String>,
    query: Vec<Pair>,
    headers: Vec<Pair>,
    content_type: Option<String>,
    body: Bytes,
}

impl TestJob {
    /// The body: `input` as JSON, of media type `application/json`.
    ///
    /// # Errors
    /// [`KitError::BadJob`] if it cannot be written as JSON.
    pub fn json(self, input: impl Serialize) -> Result<Self, KitError> {
        let json = serde_json::to_vec(&input);
        let json = json.map_err(|error| KitError::BadJob(format!("no JSON: {error}")))?;
        Ok(self.body("application/json", json))
    }

    /// The body and its media type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }

    /// Adds a request header, as if the type had it in `pass_headers`; the name becomes lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Pair::new(name.to_lowercase(), value));
        self
    }

    /// Adds a parameter of the path, such as `order` of `/orders/{order}/report`.
    #[must_use]
    pub fn path_param(mut self, name: &str, value: &str) -> Self {
        self.path_params.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a name and a value of the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(Pair::new(name, value));
        self
    }

    /// The request's method and path; `POST` and `/v1/jobs/{type}` if nothing is said.
    #[must_use]
    pub fn request(mut self, method: &str, path: &str) -> Self {
        self.method = method.to_owned();
        self.path = Some(path.to_owned());
        self
    }

    /// The tier that the job is submitted to.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// The tenant; `default` if nothing is said.
    #[must_use]
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Which attempt the handler is told that it is, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: i32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Longest run of the handler; after it the job fails with code `timeout`.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// How long from now the job is worth its while; after it the job ends as expired.
    #[must_use]
    pub fn deadline(mut self, from_now: Duration) -> Self {
        self.deadline = from_now;
        self
    }

    /// Submits the job, lets `handler` run it, and waits for the end.
    ///
    /// # Errors
    /// As for [`run`].
    pub async fn run(self, handler: impl Handler) -> Result<Ran, KitError> {
        let runnable = Runnable {
            handler: Arc::new(handler),
            timeout: self.attempt_timeout,
            // One attempt a call: how it ends is what the test asks.
            retry: Arc::new(RetryPolicy::never()),
            gate: None,
        };
        let limit = self.attempt_timeout.min(self.deadline) + SLACK;
        let job = self.message()?;
        Stack::get().await?.run(job, runnable, limit).await
    }

    fn message(self) -> Result<JobMessage, KitError> {
        let bad = |error: &dyn std::fmt::Display| KitError::BadJob(error.to_string());
        if self.attempt < 1 {
            return Err(bad(&"attempts count from 1"));
        }
        let path = self.path;
        let path = path.unwrap_or_else(|| format!("/v1/jobs/{}", self.job_type));
        let now = now_millis();
        let deadline = i64::try_from(self.deadline.as_millis()).unwrap_or(i64::MAX);
        let tenant = self.tenant.map(|name| name.parse::<Tenant>()).transpose();
        Ok(JobMessage {
            job_id: JobId::generate(),
            job_type: self.job_type.parse().map_err(|error| bad(&error))?,
            pool: Pool::default(),
            tier: self.tier,
            tenant: tenant.map_err(|error| bad(&error))?.unwrap_or_default(),
            attempt: self.attempt,
            created_at: now,
            deadline: now.saturating_add(deadline),
            reply_partition: 0,
            request: RequestInfo {
                method: self.method,
                path,
                path_params: self.path_params,
                query: self.query,
                headers: self.headers,
            },
            content_type: self.content_type,
            body: self.body,
            serial_key: None,
            not_before: None,
            retry_of: None,
            redrives: 0,
            follow_ups: Vec::new(),
        })
    }
}
