//! The engine of a running gateway: producer, codec, store, replies, and what is known of their health.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_contract::{
    DeadLetterPlace, FollowUpKind, JobEvent, JobId, JobMessage, JobType, Millis, Pool, Tenant, Tier,
};
use tidegate_kafka::{
    Cluster, Codec, CodecError, DecodeError, KafkaError, KafkaSettings, Outgoing, ProduceError,
    Producer,
};
use tidegate_runtime::readiness::{Condition, Readiness};
use tidegate_store::{
    Attempt, EndpointRow, FollowUp, Glimpse, Inserter, JobRow, Listed, Listing, Lookup, NewJob,
    NewKey, NewRetry, Recover, Reserved, Retry, Store, StoreError,
};
use tokio::sync::{Mutex, Notify};

use crate::backlogs::Backlogs;
use crate::callbacks::LOOKUP;
use crate::dead_letters::read::{self, Ask, Found, Page};
use crate::engine::{Ack, Engine};
use crate::pauses::{Pause, Pauses};
use crate::placing::Placing;
use crate::problem::ApiError;
use crate::replies::{Replies, StoreHealth};
use crate::tenants::TenantBacklogs;

/// How long an answer about a group's members is good for, and how long it is waited for.
const MEMBERS_AGE: Duration = Duration::from_secs(3);
const MEMBERS_LIMIT: Duration = Duration::from_millis(400);

/// What a reservation of an idempotency key may take besides the produce and the look-up of a callback's name: a call of the
/// store, and clocks that differ.
const KEY_SLACK: Duration = Duration::from_secs(5);

/// For how long nobody else touches a reserved key: after that, whoever reserved it is not producing any more.
pub fn key_lease(settings: &KafkaSettings) -> Duration {
    settings.produce_timeout + LOOKUP + KEY_SLACK
}

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
    pub backlogs: Backlogs,
    pub pauses: Pauses,
    pub placing: Placing,
    /// Counted only if there is a limit.
    pub tenants: TenantBacklogs,
    /// Told when follow-ups have become due.
    pub on_follow_ups: Option<Arc<Notify>>,
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

    /// Wakes the notifier of this process, if there is one and it has something to do.
    fn wake(&self, due: bool) {
        if due && let Some(notify) = &self.on_follow_ups {
            notify.notify_one();
        }
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

    fn place(&self, topic: &str, job: &JobMessage) -> Option<i32> {
        self.placing.place(topic, job)
    }

    fn enqueue(&self, out: Outgoing) -> Result<Ack, ProduceError> {
        Ok(Box::pin(self.producer.enqueue(out)?))
    }

    fn tenant_backlog(&self, tenant: &Tenant) -> Option<u64> {
        self.tenants.of(tenant)
    }

    fn store_ok(&self) -> bool {
        self.replies.get().is_some_and(Replies::store_ok)
    }

    async fn insert(&self, job: NewJob) -> Result<(), StoreError> {
        self.judge(self.inserter.insert(job).await)
    }

    async fn reserve(&self, key: &NewKey, now: Millis) -> Result<Reserved, StoreError> {
        let lease = key_lease(self.cluster.settings());
        let lease = Millis::try_from(lease.as_millis()).unwrap_or(Millis::MAX);
        self.judge(self.store.reserve(key, now, lease).await)
    }

    async fn produced(&self, job: NewJob) -> Result<(), StoreError> {
        self.judge(self.store.produced(&job).await)
    }

    async fn release(
        &self,
        id: JobId,
        reserved_at: Millis,
        forget: bool,
    ) -> Result<(), StoreError> {
        self.judge(self.store.release(id, reserved_at, forget).await)
    }

    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        self.judge(self.store.glance(ids).await)
    }

    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        self.judge(self.store.overdue(deadline, after, limit).await)
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.judge(self.store.job(id).await)
    }

    async fn list(&self, listing: Listing) -> Result<Listed, StoreError> {
        self.judge(self.store.list(&listing).await)
    }

    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError> {
        self.judge(self.store.erase(id, now).await)
    }

    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        self.judge(self.store.follow_ups(job).await)
    }

    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        let due = self.judge(self.store.resend(job, kind, now).await);
        self.wake(due.as_ref().is_ok_and(|due| !due.is_empty()));
        due
    }

    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError> {
        let due = self.judge(self.store.recover(which, now, limit).await);
        self.wake(due.as_ref().is_ok_and(|count| *count > 0));
        due
    }

    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        self.judge(self.store.endpoints(tenant, after, limit).await)
    }

    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError> {
        self.judge(self.store.forget_endpoint(tenant, key).await)
    }

    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        self.judge(self.store.claim_retry(retry).await)
    }

    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        self.judge(self.store.retry_produced(of, job).await)
    }

    async fn decode_job(&self, value: &[u8]) -> Result<JobMessage, DecodeError> {
        self.codec.decode_job(value).await
    }

    async fn letters(&self, ask: Ask) -> Result<Page, KafkaError> {
        read::page(&self.cluster, &self.codec, &ask).await
    }

    async fn letter(&self, place: DeadLetterPlace) -> Result<Option<Found>, KafkaError> {
        read::one(&self.cluster, &self.codec, place).await
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

    fn pause(&self, job_type: &JobType, now: Millis) -> Option<Pause> {
        self.pauses.of(job_type, now)
    }

    async fn backlogs(&self, wanted: &[(Pool, Tier)]) -> Vec<Option<u64>> {
        self.backlogs.of(&self.cluster, &self.placing, wanted).await
    }
}
