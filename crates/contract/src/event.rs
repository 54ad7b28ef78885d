//! Events: facts about a job on the replies topic. The log of a job's reply partition decides its status.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::follow_up::FollowUpSpec;
use crate::id::JobId;
use crate::job::{JobMessage, Pair};
use crate::names::{JobType, Pool, Tenant, Tier};
use crate::time::Millis;

/// What happened. An older reader sees a newer kind as `Unknown` (the default of the Avro enum).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A kind that this version does not know.
    Unknown,
    /// A gateway took the job, and could not write its row.
    Accepted,
    /// The handler has been running for a while.
    Started,
    /// The handler says how far it is.
    Progress,
    /// An attempt failed, and another follows.
    RetryScheduled,
    /// An outside party is to complete the job.
    AwaitingCompletion,
    /// An end: the handler gave an answer.
    Completed,
    /// An end: the handler failed, and no other attempt follows.
    Failed,
    /// An end: somebody called the job off.
    Cancelled,
    /// An end: the deadline passed.
    Expired,
    /// An end: the job lies in the dead letters.
    DeadLettered,
}

impl EventKind {
    /// Every kind, in the order of the Avro symbols.
    pub const ALL: [EventKind; 11] = [
        EventKind::Unknown,
        EventKind::Accepted,
        EventKind::Started,
        EventKind::Progress,
        EventKind::RetryScheduled,
        EventKind::AwaitingCompletion,
        EventKind::Completed,
        EventKind::Failed,
        EventKind::Cancelled,
        EventKind::Expired,
        EventKind::DeadLettered,
    ];

    /// The Avro symbol.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventKind::Unknown => "unknown",
            EventKind::Accepted => "accepted",
            EventKind::Started => "started",
            EventKind::Progress => "progress",
            EventKind::RetryScheduled => "retry_scheduled",
            EventKind::AwaitingCompletion => "awaiting_completion",
            EventKind::Completed => "completed",
            EventKind::Failed => "failed",
            EventKind::Cancelled => "cancelled",
            EventKind::Expired => "expired",
            EventKind::DeadLettered => "dead_lettered",
        }
    }

    /// Whether the event ends its job.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            EventKind::Completed
                | EventKind::Failed
                | EventKind::Cancelled
                | EventKind::Expired
                | EventKind::DeadLettered
        )
    }
}

/// One fact about a job. It carries enough of the job that a status row can be made from it alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEvent {
    /// The job that it is about.
    pub job_id: JobId,
    /// What happened.
    pub kind: EventKind,
    /// When it happened, by the clock of whoever says so.
    pub at: Millis,
    /// The execution it belongs to, from 1; 0 before the first.
    pub attempt: i32,
    /// The facts of the job.
    pub job: JobSummary,
    /// The instance that says so.
    pub source: String,
    /// With `completed`, and with `failed` where the handler gave an answer of its own.
    pub outcome: Option<Outcome>,
    /// With every other end.
    pub error: Option<JobError>,
    /// With `progress`.
    pub progress: Option<Progress>,
    /// With an end that a worker came to.
    pub timings: Option<Timings>,
    /// With `retry_scheduled`: when the next attempt is due. With `accepted`: when a delayed job is.
    pub next_attempt_at: Option<Millis>,
    /// With an end whose record lies on the dead-letters topic.
    pub dead_letter: Option<DeadLetterPlace>,
}

/// Where a record lies on the dead-letters topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterPlace {
    /// Of that topic.
    pub partition: i32,
    /// In that partition.
    pub offset: i64,
}

/// The facts of a job that its row shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// What is to be done.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// The workers that run it.
    pub pool: Pool,
    /// How urgent it is.
    pub tier: Tier,
    /// For whom it is run.
    pub tenant: Tenant,
    /// When a gateway accepted it.
    pub created_at: Millis,
    /// After this it is not started any more.
    pub deadline: Millis,
    /// The trace that the job belongs to: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The ended job that this one does again.
    pub retry_of: Option<JobId>,
    /// Who is told when it has ended.
    pub follow_ups: Vec<FollowUpSpec>,
}

impl JobSummary {
    /// The summary of a job and the trace it travels in.
    pub fn of(job: &JobMessage, trace_id: Option<String>) -> Self {
        Self {
            job_type: job.job_type.clone(),
            pool: job.pool.clone(),
            tier: job.tier,
            tenant: job.tenant.clone(),
            created_at: job.created_at,
            deadline: job.deadline,
            trace_id,
            retry_of: job.retry_of,
            follow_ups: job.follow_ups.clone(),
        }
    }
}

/// The answer of a handler: what an HTTP client gets as its response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// HTTP status, 100 to 599.
    pub status: i32,
    /// Media type of `body`.
    pub content_type: Option<String>,
    /// More response headers, in order.
    pub headers: Vec<Pair>,
    /// The bytes of the answer.
    #[serde(with = "crate::job::body")]
    pub body: Bytes,
}

/// Where a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultSource {
    /// What was asked for.
    Client,
    /// The gateway.
    Gateway,
    /// Kafka.
    Broker,
    /// The status store.
    Store,
    /// The worker around the handler.
    Worker,
    /// The handler, or what it works on.
    Job,
}

impl FaultSource {
    /// The source as it stands in problem documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultSource::Client => "client",
            FaultSource::Gateway => "gateway",
            FaultSource::Broker => "broker",
            FaultSource::Store => "store",
            FaultSource::Worker => "worker",
            FaultSource::Job => "job",
        }
    }
}

/// Why a job did not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobError {
    /// Stable, kebab-case: `timeout`, `panic`, `handler-error`, `unreadable-record`, …
    pub code: String,
    /// For people.
    pub message: String,
    /// Where the fault lies.
    pub source: FaultSource,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Not before this many milliseconds from `at`, if the handler said so.
    pub retry_after_ms: Option<i64>,
    /// More, as JSON text.
    pub details: Option<String>,
    /// How many attempts the job's type allows, where that is known.
    #[serde(default)]
    pub attempts: Option<i32>,
}

/// How far a handler is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// For people, 1 KiB at most.
    pub message: Option<String>,
    /// A piece of the result that is ready, in the media type of the result.
    #[serde(with = "crate::job::optional_body")]
    pub partial: Option<Bytes>,
}

/// Where a job's time went, for `Server-Timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// From acceptance to the start of the handler, in microseconds (two clocks: never negative, not exact).
    pub queue_us: i64,
    /// In the handler, in microseconds.
    pub handler_us: i64,
}

/// A record that could not be handled, kept whole on the dead-letters topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// If it could be read.
    pub job_id: Option<JobId>,
    /// Stable code, such as `unreadable-record`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it was set aside.
    pub at: Millis,
    /// The instance that set it aside.
    pub source: String,
    /// Where it lay.
    pub topic: String,
    /// Of that topic.
    pub partition: i32,
    /// In that partition.
    pub offset: i64,
    /// The execution that the record asked for, from 1; 0 if that could not be read.
    pub attempt: i32,
    /// The record's key as it was.
    #[serde(with = "crate::job::optional_body")]
    pub key: Option<Bytes>,
    /// The record's headers; values that are not UTF-8 are read lossily.
    pub headers: Vec<Pair>,
    /// The value as it was.
    #[serde(with = "crate::job::optional_body")]
    pub value: Option<Bytes>,
    /// The job's type, if it could be read.
    #[serde(rename = "type")]
    pub job_type: Option<String>,
    /// For whom the job was run, if that could be read.
    pub tenant: Option<String>,
    /// How many attempts the job's type allows; 0 where nothing ran.
    pub attempts: i32,
    /// How many jobs lie before this one on the chain of `retryOf`.
    pub redrives: i32,
    /// Code and message of the first attempt that failed, if it was not the last.
    pub first_error: Option<String>,
    /// Of the last attempt.
    pub last_error: Option<JobError>,
    /// The trace that the job belongs to: 32 hexadecimal digits.
    pub trace_id: Option<String>,
}

impl DeadLetter {
    /// Adds what is known of the job.
    pub fn describe(&mut self, job: Option<&JobSummary>) {
        let Some(job) = job else { return };
        self.job_type = Some(job.job_type.to_string());
        self.tenant = Some(job.tenant.to_string());
        self.trace_id.clone_from(&job.trace_id);
    }
}
