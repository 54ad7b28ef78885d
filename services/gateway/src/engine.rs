//! What the HTTP side needs from Kafka, the store and the replies: the seam at which tests put a fake.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tidegate_contract::{
    DeadLetterPlace, FollowUpKind, JobEvent, JobId, JobMessage, JobType, Millis, Pool, Tenant, Tier,
};
use tidegate_kafka::{CodecError, DecodeError, Delivered, KafkaError, Outgoing, ProduceError};
use tidegate_store::{
    Attempt, EndpointRow, FollowUp, Glimpse, JobRow, Listed, Listing, Lookup, NewJob, NewKey,
    NewRetry, Recover, Reserved, Retry, StoreError,
};

use crate::dead_letters::read::{Ask, Found, Page};
use crate::pauses::Pause;
use crate::problem::ApiError;

/// What became of a record.
pub type Ack = BoxFuture<'static, Result<Delivered, ProduceError>>;

/// Kafka, store and replies as the handlers see them.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Why no job can be taken now, as far as that is known without trying.
    fn obstacle(&self) -> Option<ApiError>;

    /// The reply partition that new jobs name.
    fn home(&self) -> Option<i32>;

    /// The job as the value of a record.
    fn encode_job(&self, job: &JobMessage) -> Result<Bytes, CodecError>;

    /// The event as the value of a record.
    fn encode_event(&self, event: &JobEvent) -> Result<Bytes, CodecError>;

    /// The partition that a job on this topic is put in, counted as written; `None` if the producer is to choose one by
    /// the key. To be asked once a job.
    fn place(&self, _topic: &str, _job: &JobMessage) -> Option<i32> {
        None
    }

    /// Puts a record into the producer's queue. Dropping the future does not take it back.
    fn enqueue(&self, out: Outgoing) -> Result<Ack, ProduceError>;

    /// Jobs of a tenant that have not ended, counted a moment ago; `None` if that is not known.
    fn tenant_backlog(&self, _tenant: &Tenant) -> Option<u64> {
        None
    }

    /// Whether the store answers, and rows can be promised.
    fn store_ok(&self) -> bool;

    /// Makes a job's row.
    async fn insert(&self, job: NewJob) -> Result<(), StoreError>;

    /// Takes an idempotency key at that time, or says whose it is.
    async fn reserve(&self, key: &NewKey, now: Millis) -> Result<Reserved, StoreError>;

    /// Makes the row of a job with a key, and says on the key that the job is in Kafka.
    async fn produced(&self, job: NewJob) -> Result<(), StoreError>;

    /// Gives a reservation up; with `forget` its job was certainly never produced.
    async fn release(&self, id: JobId, reserved_at: Millis, forget: bool)
    -> Result<(), StoreError>;

    /// How jobs stand that are watched.
    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError>;

    /// A page of the jobs that are open past this deadline.
    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError>;

    /// What the store knows of a job.
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError>;

    /// A page of jobs, newest first.
    async fn list(&self, listing: Listing) -> Result<Listed, StoreError>;

    /// Makes a tombstone of an ended job; `false` if there is none of that id.
    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError>;

    /// The follow-ups of a job, each with its last attempts.
    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError>;

    /// Makes a job's follow-ups of that kind due now, or all: which kinds. None, if it has none.
    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError>;

    /// Makes follow-ups that were given up due again, at most `limit` of them: how many.
    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError>;

    /// A page of a tenant's endpoints that have failed, by key.
    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError>;

    /// Forgets that an endpoint has failed; `false` if that was not known.
    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError>;

    /// Claims an ended job for another one that does it again; `None` if it is claimed, else who was first.
    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError>;

    /// Notes that the job which does another one again lies in Kafka.
    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError>;

    /// Reads the value of a job's record.
    async fn decode_job(&self, value: &[u8]) -> Result<JobMessage, DecodeError>;

    /// Dead letters, newest first.
    async fn letters(&self, ask: Ask) -> Result<Page, KafkaError>;

    /// The dead letter at a place; `None` if there is none any more.
    async fn letter(&self, place: DeadLetterPlace) -> Result<Option<Found>, KafkaError>;

    /// Jobs made up to this time have a row if they exist; `None` if that is not known.
    async fn lag_horizon(&self) -> Option<Millis>;

    /// How many workers are connected for a pool and tier; `None` if that cannot be told soon.
    async fn workers(&self, pool: &Pool, tier: Tier) -> Option<usize>;

    /// Whether a type is paused at this time; `None` if that is not known.
    fn pause(&self, _job_type: &JobType, _now: Millis) -> Option<Pause> {
        None
    }

    /// For each of these pools and tiers how many records of jobs its workers are not done with; `None` where that cannot
    /// be told soon.
    async fn backlogs(&self, wanted: &[(Pool, Tier)]) -> Vec<Option<u64>>;
}
