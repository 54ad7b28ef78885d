//! Replies on the embedded broker, with a store that can be taken away.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_contract::*;
use tidegate_gateway::replies::{Replies, RepliesConfig, StoreHealth};
use tidegate_gateway::waits::Waits;
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_kafka::{
    Codec, KafkaSettings, Outgoing, PartitionCounts, Producer, RegistrySettings, topic_plan,
};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::readiness::Readiness;
use tidegate_store::{Attempt, *};

/// The store of a gateway, with a switch.
pub struct Gate {
    pub inner: Arc<dyn Store>,
    away: AtomicBool,
    /// Says that it is empty, whatever is in it.
    emptied: AtomicBool,
}

impl Gate {
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn pretend_empty(&self) {
        self.emptied.store(true, Ordering::SeqCst);
    }

    fn pass(&self) -> Result<&Arc<dyn Store>, StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("switched off".into())),
            false => Ok(&self.inner),
        }
    }
}

#[async_trait]
impl Store for Gate {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.pass()?.prepare().await
    }
    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.pass()?.inspect().await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.pass()?.ping().await
    }
    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError> {
        self.pass()?.insert(jobs).await
    }
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.pass()?.job(id).await
    }
    async fn list(&self, listing: &Listing) -> Result<Listed, StoreError> {
        self.pass()?.list(listing).await
    }
    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError> {
        self.pass()?.erase(id, now).await
    }
    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        self.pass()?.claim_retry(retry).await
    }
    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        self.pass()?.retry_produced(of, job).await
    }
    async fn retry(&self, of: JobId) -> Result<Option<Retry>, StoreError> {
        self.pass()?.retry(of).await
    }
    async fn reserve(
        &self,
        key: &NewKey,
        now: Millis,
        lease: Millis,
    ) -> Result<Reserved, StoreError> {
        self.pass()?.reserve(key, now, lease).await
    }
    async fn produced(&self, job: &NewJob) -> Result<(), StoreError> {
        self.pass()?.produced(job).await
    }
    async fn release(&self, id: JobId, at: Millis, forget: bool) -> Result<(), StoreError> {
        self.pass()?.release(id, at, forget).await
    }
    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        self.pass()?.glance(ids).await
    }
    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        self.pass()?.overdue(deadline, after, limit).await
    }
    async fn position(&self, partition: i32) -> Result<Option<Position>, StoreError> {
        self.pass()?.position(partition).await
    }
    async fn project(&self, batch: Batch) -> Result<Projected, StoreError> {
        self.pass()?.project(batch).await
    }
    async fn mark_caught_up(&self, partitions: &[(i32, Millis)]) -> Result<(), StoreError> {
        self.pass()?.mark_caught_up(partitions).await
    }
    async fn caught_up_by_partition(&self) -> Result<BTreeMap<i32, Option<Millis>>, StoreError> {
        self.pass()?.caught_up_by_partition().await
    }
    async fn is_empty(&self) -> Result<bool, StoreError> {
        let emptied = self.emptied.load(Ordering::SeqCst);
        Ok(self.pass()?.is_empty().await? || emptied)
    }
    async fn unfinished_by_tenant(&self) -> Result<Vec<(Tenant, u64)>, StoreError> {
        self.pass()?.unfinished_by_tenant().await
    }
    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.pass()?.rows_by_status().await
    }
    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError> {
        self.pass()?.purge(now, limit).await
    }
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl FollowUps for Gate {
    async fn take_follow_ups(&self, take: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        self.pass()?.take_follow_ups(take).await
    }
    async fn attempted(
        &self,
        taken: &FollowUp,
        attempt: &Attempt,
        then: &Then,
    ) -> Result<bool, StoreError> {
        self.pass()?.attempted(taken, attempt, then).await
    }
    async fn give_back(&self, taken: &FollowUp, then: &Then) -> Result<bool, StoreError> {
        self.pass()?.give_back(taken, then).await
    }
    async fn postpone(&self, endpoint: &str, until: Millis) -> Result<(), StoreError> {
        self.pass()?.postpone(endpoint, until).await
    }
    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        self.pass()?.follow_ups(job).await
    }
    async fn resend(
        &self,
        job: JobId,
        kind: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        self.pass()?.resend(job, kind, now).await
    }
    async fn recover(&self, which: &Recover, now: Millis, limit: u32) -> Result<u64, StoreError> {
        self.pass()?.recover(which, now, limit).await
    }
    async fn endpoints_of(&self, keys: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        self.pass()?.endpoints_of(keys).await
    }
    async fn endpoints(
        &self,
        tenant: &Tenant,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        self.pass()?.endpoints(tenant, after, limit).await
    }
    async fn keep_endpoint(&self, row: &EndpointRow) -> Result<(), StoreError> {
        self.pass()?.keep_endpoint(row).await
    }
    async fn forget_endpoint(&self, tenant: &Tenant, key: &str) -> Result<bool, StoreError> {
        self.pass()?.forget_endpoint(tenant, key).await
    }
    async fn waiting(&self, kind: FollowUpKind) -> Result<Waiting, StoreError> {
        self.pass()?.waiting(kind).await
    }
}

/// One embedded broker, one registry, one store.
pub struct Bench {
    pub broker: EmbeddedBroker,
    _registry: EmbeddedRegistry,
    pub codec: Codec,
    pub producer: Producer,
    pub store: Arc<Gate>,
    pub partitions: i32,
}

/// The replies of one gateway on a [`Bench`].
pub struct Gateway {
    pub replies: Replies,
    pub waits: Waits,
    pub readiness: Readiness,
}

impl Bench {
    pub async fn new(partitions: i32) -> Self {
        let settings = KafkaSettings {
            partitions: PartitionCounts {
                jobs: 1,
                replies: partitions,
                dead_letters: 1,
                delay: 1,
            },
            ..KafkaSettings::default()
        };
        let plan = topic_plan(&settings, &[Pool::default()], Duration::from_secs(60));
        let broker = EmbeddedBroker::start_with(settings, &plan).unwrap();
        let registry = EmbeddedRegistry::start().unwrap();
        let codec = Codec::new(&RegistrySettings {
            url: registry.url().to_owned(),
            register: true,
            ..RegistrySettings::default()
        });
        codec.warm_up().await.unwrap();
        let inner = open(&StoreSettings {
            url: Secret::new("sqlite::memory:"),
            ..StoreSettings::default()
        })
        .unwrap();
        inner.prepare().await.unwrap();
        let store = Arc::new(Gate {
            inner,
            away: AtomicBool::new(false),
            emptied: AtomicBool::new(false),
        });
        let producer = broker.cluster().producer("bench").unwrap();
        Self {
            broker,
            _registry: registry,
            codec,
            producer,
            store,
            partitions,
        }
    }

    /// Joins a gateway; `queue_bytes` bounds what waits for the store, a partition.
    pub async fn gateway(&self, name: &str, queue_bytes: usize) -> Gateway {
        let readiness = Readiness::new();
        readiness.condition("broker").ok();
        let health = StoreHealth::new(readiness.condition("store"));
        health.succeeded();
        let cluster = self.broker.cluster();
        let info = cluster.probe(Duration::from_secs(10)).await.unwrap();
        let waits = Waits::new(10_000);
        let replies = Replies::spawn(RepliesConfig {
            cluster,
            cluster_id: info.cluster_id,
            partitions: self.partitions,
            codec: self.codec.clone(),
            producer: self.producer.clone(),
            store: self.store.clone(),
            health,
            waits: waits.clone(),
            projected: Arc::new(|_| {}),
            queue_bytes,
            instance: name.to_owned(),
            metrics: Metrics::new(["echo"]),
            readiness: readiness.clone(),
            on_follow_ups: None,
        })
        .unwrap();
        Gateway {
            replies,
            waits,
            readiness,
        }
    }

    /// Produces an event of a job, as a worker does.
    pub async fn reply(&self, partition: i32, event: &JobEvent) {
        let payload = self.codec.encode_event(event).unwrap();
        self.write(partition, event, payload).await;
    }

    /// The same with a value of our choice.
    pub async fn write(&self, partition: i32, event: &JobEvent, payload: Bytes) {
        let out = Outgoing {
            topic: self.broker.cluster().topics().replies(),
            partition: Some(partition),
            key: event.job_id.to_string(),
            headers: RecordHeaders::of_event(event, partition),
            payload,
        };
        self.producer.send(out).await.unwrap();
    }

    /// The row of a job, once it has ended.
    pub async fn ended(&self, id: JobId) -> JobRow {
        until("the job has ended", || async {
            let row = self.store.inner.job(id).await.unwrap().row()?;
            row.status.is_terminal().then_some(row)
        })
        .await
    }
}

impl Gateway {
    pub async fn home(&self) -> i32 {
        until("a home", || async { self.replies.home() }).await
    }

    pub fn not_ready_because(&self) -> Option<String> {
        let report = self.readiness.report();
        let replies = report
            .conditions
            .into_iter()
            .find(|c| c.name == "replies")?;
        replies.reason
    }
}

/// Asks until there is an answer, for at most 45 s: the embedded broker takes its time over a rebalance.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(45), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An event of a job of type `echo`.
pub fn event(id: JobId, kind: EventKind, body: &str) -> JobEvent {
    JobEvent {
        job_id: id,
        kind,
        at: now_millis(),
        attempt: 1,
        job: JobSummary {
            job_type: "echo".parse().unwrap(),
            pool: Pool::default(),
            tier: Tier::Normal,
            tenant: Tenant::default(),
            created_at: id.created_at(),
            deadline: id.created_at() + 60_000,
            trace_id: None,
            retry_of: None,
            follow_ups: Vec::new(),
        },
        source: "worker".into(),
        outcome: (kind == EventKind::Completed).then(|| Outcome {
            status: 200,
            content_type: Some("text/plain".into()),
            headers: vec![],
            body: Bytes::copy_from_slice(body.as_bytes()),
        }),
        error: None,
        progress: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
    }
}
