//! What the HTTP side needs from Kafka, the store and the replies: the seam at which tests put a fake.

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use tidegate_contract::{JobEvent, JobId, JobMessage, Millis, Pool, Tier};
use tidegate_kafka::{CodecError, Delivered, Outgoing, ProduceError};
use tidegate_store::{Lookup, NewJob, StoreError};

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

    /// Puts a record into the producer's queue. Dropping the future does not take it back.
    fn enqueue(&self, out: Outgoing) -> Result<Ack, ProduceError>;

    /// Whether the store answers, and rows can be promised.
    fn store_ok(&self) -> bool;

    /// Makes a job's row.
    async fn insert(&self, job: NewJob) -> Result<(), StoreError>;

    /// What the store knows of a job.
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError>;

    /// Jobs made up to this time have a row if they exist; `None` if that is not known.
    async fn lag_horizon(&self) -> Option<Millis>;

    /// How many workers are connected for a pool and tier; `None` if that cannot be told soon.
    async fn workers(&self, pool: &Pool, tier: Tier) -> Option<usize>;
}
