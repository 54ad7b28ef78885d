//! The engine of a running gateway: producer, codec, store, replies, and what is known of their health.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_contract::{JobEvent, JobId, JobMessage, Millis, Pool, Tier};
use tidegate_kafka::{Cluster, Codec, CodecError, Outgoing, ProduceError, Producer};
use tidegate_runtime::readiness::{Condition, Readiness};
use tidegate_store::{Inserter, Lookup, NewJob, Store, StoreError};
use tokio::sync::Mutex;

use crate::engine::{Ack, Engine};
use crate::problem::ApiError;
use crate::replies::{Replies, StoreHealth};

/// How long an answer about a group's members is good for, and how long it is waited for.
const MEMBERS_AGE: Duration = Duration::from_secs(3);
const MEMBERS_LIMIT: Duration = Duration::from_millis(400);

type Members = HashMap<(Pool, Tier), (Instant, Option<usize>)>;

/// Everything behind the HTTP side of a gateway.
pub struct Live {
    pub cluster: Cluster,
    pub producer: Producer,
    pub codec: Codec,
    pub store: Arc<dyn Store>,
    pub inserter: Inserter,
    pub health: StoreHealth,
    pub readiness: Readiness,
    pub broker: Condition,
    pub topics: Condition,
    /// Set once they run.
    pub replies: Arc<OnceLock<Replies>>,
    pub members: Mutex<Members>,
}

impl Live {
    fn reason(&self, condition: &Condition) -> String {
        let report = self.readiness.report();
        let found = report
            .conditions
            .into_iter()
            .find(|entry| entry.name == condition.name());
        found
            .and_then(|entry| entry.reason)
            .unwrap_or_else(|| "starting".to_owned())
    }

    /// Notes what a call of the store says about its health.
    fn judge<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            // Until the replies run it is the bring-up that speaks for the store.
            _ if self.replies.get().is_none() => {}
            Ok(_) => self.health.succeeded(),
            Err(error) if error.is_transient() => self.health.failed(error),
            Err(_) => {}
        }
        result
    }
}

#[async_trait]
impl Engine for Live {
    fn obstacle(&self) -> Option<ApiError> {
        if !self.broker.is_ok() {
            return Some(ApiError::BrokerUnavailable(self.reason(&self.broker)));
        }
        if !self.codec.is_warm() {
            let registry = self.readiness.condition("registry");
            return Some(ApiError::RegistryUnavailable(self.reason(&registry)));
        }
        if !self.topics.is_ok() {
            return Some(ApiError::Topics(self.reason(&self.topics)));
        }
        // A job taken now would show in no status, or in that of another installation.
        let refusal = self.replies.get().and_then(Replies::refusal);
        refusal.map(ApiError::NoReplies)
    }

    fn home(&self) -> Option<i32> {
        self.replies.get().and_then(Replies::home)
    }

    fn encode_job(&self, job: &JobMessage) -> Result<Bytes, CodecError> {
        self.codec.encode_job(job)
    }

    fn encode_event(&self, event: &JobEvent) -> Result<Bytes, CodecError> {
        self.codec.encode_event(event)
    }

    fn enqueue(&self, out: Outgoing) -> Result<Ack, ProduceError> {
        Ok(Box::pin(self.producer.enqueue(out)?))
    }

    fn store_ok(&self) -> bool {
        self.replies.get().is_some_and(Replies::store_ok)
    }

    async fn insert(&self, job: NewJob) -> Result<(), StoreError> {
        self.judge(self.inserter.insert(job).await)
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.judge(self.store.job(id).await)
    }

    async fn lag_horizon(&self) -> Option<Millis> {
        self.replies.get()?.lag_horizon().await
    }

    async fn workers(&self, pool: &Pool, tier: Tier) -> Option<usize> {
        // Held while asking: of many clients that give up at once, one asks.
        let mut members = self.members.lock().await;
        let key = (pool.clone(), tier);
        if let Some((at, count)) = members.get(&key)
            && at.elapsed() < MEMBERS_AGE
        {
            return *count;
        }
        let group = self.cluster.topics().worker_group(pool, tier);
        let asked = self.cluster.group_members(&group, MEMBERS_LIMIT).await;
        let count = asked
            .inspect_err(|error| tracing::debug!(group, %error, "members not known"))
            .ok();
        members.insert(key, (Instant::now(), count));
        count
    }
}
