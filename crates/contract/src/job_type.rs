//! The settings of job types, shared by gateways and workers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::BreakerPolicy;
use crate::email::EmailSpec;
use crate::follow_up::EventFilter;
use crate::names::{JobType, Pool, Tier, nearest};
use crate::retry::RetryPolicy;

/// Every job type that an installation knows.
pub type JobTypes = BTreeMap<JobType, JobTypeSpec>;

/// Whether a client that says nothing is made to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The request is held for the outcome.
    #[default]
    Wait,
    /// `202` at once.
    Async,
}

/// What bodies a type takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// JSON; anything else is refused with the line and column.
    #[default]
    Json,
    /// Any bytes.
    Any,
}

/// How a job of a type is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum HandlerSpec {
    /// Answers with the body of the job.
    Echo,
    /// Posts the job to a URL; the answer is the outcome.
    Http {
        /// Where it is posted to.
        url: String,
        /// Largest answer that is read, in bytes.
        #[serde(default = "default_answer_limit")]
        max_answer_bytes: usize,
        /// When the URL's server counts as down, so that its jobs wait without spending attempts.
        #[serde(default)]
        breaker: BreakerPolicy,
    },
    /// Runs a program: body on standard input, result on standard output.
    Command {
        /// Program and arguments, never given to a shell.
        program: Vec<String>,
        /// Variables besides those that every command gets.
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// Media type of the output.
        #[serde(default = "default_output_type")]
        content_type: String,
    },
    /// A handler registered in Rust under this name.
    Custom {
        /// The name that the worker's program gives it.
        name: String,
    },
}

fn default_answer_limit() -> usize {
    1 << 20
}

fn default_output_type() -> String {
    "application/octet-stream".to_owned()
}

/// Settings of one job type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTypeSpec {
    /// What runs it.
    pub handler: HandlerSpec,
    /// The workers that run it: those that have the pool in `worker.pools`.
    #[serde(default)]
    pub pool: Pool,
    /// The tier of a job that asks for none.
    #[serde(default)]
    pub tier: Tier,
    /// The tiers that a caller may ask for with `Tidegate-Priority`, besides `tier`.
    #[serde(default)]
    pub allowed_tiers: Vec<Tier>,
    /// For a client that does not say whether it waits.
    #[serde(default)]
    pub mode: Mode,
    /// How long a request waits that does not say so itself.
    #[serde(default = "default_wait", with = "humantime_serde")]
    pub wait: Duration,
    /// Jobs of this type that run at once in one worker process; 0: as many as it has slots.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_running: usize,
    /// Longest run of one attempt.
    #[serde(default = "default_attempt_timeout", with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// How long after acceptance a job may still be started, unless the request says less.
    #[serde(default = "default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// What bodies it takes.
    #[serde(default)]
    pub content: Content,
    /// Request headers that the handler gets to see (lower case).
    #[serde(default)]
    pub pass_headers: Vec<String>,
    /// What follows a failed attempt.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Who is told by e-mail how a job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailSpec>,
    /// Who is told of the ends of its jobs, unless the request says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackSpec>,
}

/// The endpoint of a type: the operator's, so it may be anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbackSpec {
    /// Where to.
    pub url: String,
    /// The ends that it is told of; all if nothing is said.
    #[serde(default)]
    pub events: EventFilter,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn default_wait() -> Duration {
    Duration::from_secs(10)
}

fn default_attempt_timeout() -> Duration {
    Duration::from_secs(60)
}

fn default_deadline() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}

impl JobTypeSpec {
    /// A type with every default and this handler.
    pub fn new(handler: HandlerSpec) -> Self {
        Self {
            handler,
            pool: Pool::default(),
            tier: Tier::default(),
            allowed_tiers: Vec::new(),
            mode: Mode::default(),
            wait: default_wait(),
            max_running: 0,
            attempt_timeout: default_attempt_timeout(),
            deadline: default_deadline(),
            content: Content::default(),
            pass_headers: Vec::new(),
            retry: RetryPolicy::default(),
            email: None,
            callback: None,
        }
    }

    /// Whether a caller may have this tier.
    pub fn allows(&self, tier: Tier) -> bool {
        tier == self.tier || self.allowed_tiers.contains(&tier)
    }
}

/// The known type whose name is most like `given`.
pub fn nearest_type<'a>(types: &'a JobTypes, given: &str) -> Option<&'a str> {
    nearest(given, types.keys().map(JobType::as_str))
}
