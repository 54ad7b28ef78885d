//! What a job's end causes: callbacks and e-mails, made in the projection's own transaction and taken by notifiers.
//!
//! A follow-up is never there before its job's status says that it has ended, and never for an end that lost. Whoever
//! takes one holds it by its lease: nobody else gets it before that time, and what comes of it is written only while
//! the lease is still the one that was taken. A notifier that dies in between leaves it to be taken again then, so each
//! is delivered at least once.

use async_trait::async_trait;
use tidegate_contract::{FollowUpKind, JobId, Millis, Tenant};

use crate::error::StoreError;

/// Where a follow-up stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FollowUpState {
    /// To be delivered when it is due.
    Pending,
    /// The other side has taken it.
    Delivered,
    /// Given up: attempts are used up, or the endpoint is ended.
    Failed,
}

impl FollowUpState {
    /// Every state.
    pub const ALL: [FollowUpState; 3] = [
        FollowUpState::Pending,
        FollowUpState::Delivered,
        FollowUpState::Failed,
    ];

    /// The name in rows and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            FollowUpState::Pending => "pending",
            FollowUpState::Delivered => "delivered",
            FollowUpState::Failed => "failed",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One message that a job's end causes. There is one of a kind for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    pub job: JobId,
    pub kind: FollowUpKind,
    pub tenant: Tenant,
    /// The URL or the address.
    pub target: String,
    /// Whose failures count together: see [`endpoint_key`].
    pub endpoint: String,
    /// `traceparent` of the event that ended the job, if it is known.
    pub trace: Option<String>,
    pub created_at: Millis,
    pub state: FollowUpState,
    /// When the next attempt is due; while it is taken, when its lease ends.
    pub due_at: Millis,
    /// Attempts since it was made or sent again.
    pub attempts: u32,
    /// Attempts ever: the number of the last one.
    pub number: u32,
    /// When it was delivered or given up.
    pub settled_at: Option<Millis>,
    /// Why it was given up, in words.
    pub reason: Option<String>,
}

/// What is to be taken.
#[derive(Clone, Debug)]
pub struct Take<'a> {
    pub kind: FollowUpKind,
    pub now: Millis,
    /// Until when nobody else gets them.
    pub lease: Millis,
    /// At most so many.
    pub limit: u32,
    /// Of one endpoint.
    pub per_endpoint: u32,
    /// Endpoints of which none is wanted now.
    pub except: &'a [String],
}

/// One attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    pub at: Millis,
    pub duration: Millis,
    /// The HTTP status, or the SMTP reply code.
    pub status: Option<u16>,
    /// Why there is none, in words.
    pub error: Option<String>,
    /// How the answer begins.
    pub excerpt: String,
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    Delivered,
    /// Another attempt at that time.
    At(Millis),
    /// No other, and why.
    GivenUp(String),
}

/// What is kept of an endpoint that has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    pub key: String,
    pub tenant: Tenant,
    /// Without its query.
    pub url: String,
    /// JSON, for the notifier.
    pub record: String,
    /// It is not called any more, since then.
    pub ended_at: Option<Millis>,
    pub updated_at: Millis,
}

/// Which given-up follow-ups are to be sent again.
#[derive(Clone, Debug)]
pub struct Recover {
    pub tenant: Tenant,
    /// Of one kind only.
    pub kind: Option<FollowUpKind>,
    /// Of one endpoint only.
    pub endpoint: Option<String>,
    /// Given up at or after.
    pub since: Millis,
}

/// How many wait, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub pending: u64,
    /// Since when the one that is due for the longest is due.
    pub oldest_due: Option<Millis>,
    /// When the last lease of those that are held ends: in the future while somebody takes some.
    pub held_until: Option<Millis>,
}

/// The follow-ups of a store. Every write may be repeated.
#[async_trait]
pub trait FollowUps: Send + Sync {
    /// Takes follow-ups that are due, those due for the longest first.
    async fn take_follow_ups(&self, take: &Take<'_>) -> Result<Vec<FollowUp>, StoreError>;

    /// Keeps an attempt of a follow-up that is held, and what follows. `false`: it is not held by this lease any more
    /// (`taken.due_at`), and only the attempt is kept.
    async fn attempted(
        &self,
        taken: &FollowUp,
        attempt: &Attempt,
        then: &Then,
    ) -> Result<bool, StoreError>;

    /// Gives one that is held back without an attempt. With [`Then::GivenUp`] it is over.
    async fn give_back(&self, taken: &FollowUp, then: &Then) -> Result<bool, StoreError>;

    /// Nothing of an endpoint is due before that time. What is held stays with whoever holds it.
    async fn postpone(&self, endpoint: &str, until: Millis) -> Result<(), StoreError>;

    /// The follow-ups of a job, each with its last attempts, oldest first.
    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError>;

    /// Makes a job's follow-ups of that kind due now, or all of them, whatever became of them: which kinds, in the order of
    /// [`FollowUpKind::ALL`]. None: it has none.
    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError>;

    /// Makes follow-ups that were given up due again, at most `limit` at a call: how many.
    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError>;

    /// What is kept of these endpoints.
    async fn endpoints_of(&self, keys: &[String]) -> Result<Vec<EndpointRow>, StoreError>;

    /// What is kept of a tenant's endpoints, by key, those behind `after`.
    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError>;

    /// Keeps an endpoint as it is now.
    async fn keep_endpoint(&self, row: &EndpointRow) -> Result<(), StoreError>;

    /// Forgets what was kept of an endpoint, so that it is called again. `false`: there was nothing.
    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError>;

    /// How many follow-ups wait.
    async fn waiting(&self, kind: FollowUpKind) -> Result<Waiting, StoreError>;
}

/// The endpoint that a target belongs to: of one tenant, the same URL without its query. Readable, and stable.
pub fn endpoint_key(tenant: &Tenant, target: &str) -> String {
    let url = target.split(['?', '#']).next().unwrap_or_default();
    format!("{tenant} {url}")
}
