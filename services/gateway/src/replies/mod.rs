//! Replies: how outcomes come back to this gateway.
//!
//! All gateways are one group on the replies topic; each reads the partitions it was given and names one of them,
//! its *home*, in the jobs it produces. The [`reader`] takes records from Kafka, completes [`crate::waits`] and
//! fills the [`queue`]; the [`projector`] takes each [`batch`] of it into the store with a compare-and-set on the position.
//! What is read by whom, when partitions move or the store is slow, is decided by the pure [`ledger`]; whether the store and
//! the log of a partition belong together, by [`opening`].

pub(crate) mod batch;
mod health;
mod intake;
pub(crate) mod judge;
mod ledger;
mod opening;
pub(crate) mod projector;
pub(crate) mod queue;
mod reader;
mod tasks;
mod trace;
mod unreadable;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::{JobEvent, Millis};
use tidegate_kafka::{Cluster, Codec, GroupConsumer, GroupOptions, KafkaError, Producer};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::readiness::{Condition, Readiness};
use tidegate_store::Store;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use health::StoreHealth;
use ledger::Ledger;
use projector::Projector;
use queue::Queues;
use reader::Reader;
use tasks::Tasks;
use unreadable::SetAside;

use crate::waits::Waits;

/// Transactions under way at once. One a partition, so more than a few only help with a distant store.
const PROJECTORS: usize = 4;

/// Bytes of replies that are fetched ahead. What lies in Kafka after the store was away is read no faster than it is
/// written, so more would only be held.
const AHEAD: usize = 4 << 20;

/// How long an answer of the store about the projection's lag is good for.
const HORIZON_AGE: Duration = Duration::from_millis(500);

/// Is called with events that the store has taken in, after that and before anything else.
pub type OnProjected = Arc<dyn Fn(&[JobEvent]) + Send + Sync>;

/// What the replies of a gateway need.
pub struct RepliesConfig {
    pub cluster: Cluster,
    /// Of the cluster, as it names itself: positions belong to it.
    pub cluster_id: String,
    /// Partitions of the replies topic.
    pub partitions: i32,
    pub codec: Codec,
    pub producer: Producer,
    pub store: Arc<dyn Store>,
    pub health: StoreHealth,
    pub waits: Waits,
    /// Told of the events that were just written to the store.
    pub projected: OnProjected,
    /// Bytes of replies that may wait for the store, a partition.
    pub queue_bytes: usize,
    pub instance: String,
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Told when the end of a job has made follow-ups.
    pub on_follow_ups: Option<Arc<Notify>>,
}

/// What the parts of the replies share.
pub(crate) struct Shared {
    pub waits: Waits,
    pub queues: Arc<Queues>,
    pub codec: Codec,
    pub metrics: Metrics,
    pub topic: String,
    pub partitions: i32,
    /// Readiness of the replies.
    pub condition: Condition,
    broker: Condition,
    /// -1 for none.
    home: AtomicI32,
    /// Why a partition that is ours may not be projected.
    refusal: std::sync::Mutex<Option<String>>,
    pub stop: CancellationToken,
}

impl Shared {
    fn set_home(&self, home: Option<i32>) {
        self.home.store(home.unwrap_or(-1), Ordering::Release);
    }

    fn set_refusal(&self, reason: Option<&str>) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if refusal.as_deref() != reason {
            *refusal = reason.map(str::to_owned);
        }
    }

    fn broker_ok(&self) -> bool {
        self.broker.is_ok()
    }
}

/// The replies of one gateway, running.
#[derive(Clone)]
pub struct Replies {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    health: StoreHealth,
    /// The last answer of the store about its lag, and when it came.
    horizon: Arc<Mutex<Option<Horizon>>>,
    running: Arc<Mutex<Running>>,
}

type Horizon = (Instant, Option<Millis>);

struct Running {
    tasks: JoinSet<()>,
    aside: TaskTracker,
    group: Option<Arc<GroupConsumer>>,
}

impl Replies {
    /// Joins the group of gateways and begins to read and project.
    pub fn spawn(config: RepliesConfig) -> Result<Self, KafkaError> {
        let RepliesConfig {
            cluster,
            codec,
            producer,
            store,
            health,
            metrics,
            ..
        } = config;
        let topics = cluster.topics().clone();
        let group = Arc::new(cluster.group_consumer(GroupOptions {
            partition_eof: true,
            queued_bytes: AHEAD,
            ..GroupOptions::new(
                topics.replies(),
                topics.gateway_group(),
                config.instance.clone(),
            )
        })?);
        let side = Arc::new(cluster.assigned_consumer(&config.instance)?);
        let shared = Arc::new(Shared {
            waits: config.waits,
            queues: Arc::new(Queues::new(config.queue_bytes)),
            codec: codec.clone(),
            metrics: metrics.clone(),
            topic: topics.replies(),
            partitions: config.partitions,
            condition: config.readiness.condition("replies"),
            broker: config.readiness.condition("broker"),
            home: AtomicI32::new(-1),
            refusal: std::sync::Mutex::default(),
            stop: CancellationToken::new(),
        });
        let (sender, notices) = mpsc::unbounded_channel();
        let set_aside = SetAside {
            producer,
            codec,
            dead_letters: topics.dead_letters(),
            instance: config.instance.clone(),
            metrics: metrics.clone(),
        };
        let aside = TaskTracker::new();
        let tasks = Tasks {
            shared: shared.clone(),
            group: group.clone(),
            side: side.clone(),
            store: store.clone(),
            health: health.clone(),
            cluster_id: config.cluster_id.clone(),
            set_aside,
            notices: sender.clone(),
            undecided: Default::default(),
            marking: Arc::default(),
            running: aside.clone(),
        };
        let projector = Projector {
            queues: shared.queues.clone(),
            store: store.clone(),
            cluster_id: config.cluster_id,
            health: health.clone(),
            metrics,
            on_follow_ups: config.on_follow_ups,
            notices: sender,
            projected: config.projected,
        };
        let mut hasher = DefaultHasher::new();
        config.instance.hash(&mut hasher);
        let reader = Reader {
            shared: shared.clone(),
            group: group.clone(),
            side,
            tasks,
            notices,
            ledger: Ledger::default(),
            assignments: BTreeMap::new(),
            asked: Default::default(),
            held: BTreeMap::new(),
            commits: BTreeMap::new(),
            marks: BTreeMap::new(),
            applied_to: BTreeMap::new(),
            begun: Instant::now(),
            salt: hasher.finish(),
            ticks: 0,
        };
        let mut running = JoinSet::new();
        running.spawn(reader.run(shared.stop.clone()));
        for _ in 0..PROJECTORS {
            running.spawn(projector.clone().run(shared.stop.clone()));
        }
        Ok(Self {
            shared,
            store,
            health,
            horizon: Arc::default(),
            running: Arc::new(Mutex::new(Running {
                tasks: running,
                aside,
                group: Some(group),
            })),
        })
    }

    /// The partition that new jobs name; `None` while there is none that this gateway reads.
    pub fn home(&self) -> Option<i32> {
        let home = self.shared.home.load(Ordering::Acquire);
        (home >= 0).then_some(home)
    }

    /// Why no job may be taken: the store and the log of a partition that is ours do not belong together.
    pub fn refusal(&self) -> Option<String> {
        let refusal = self.shared.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the store answers.
    pub fn store_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Jobs made at or before this time have a row if they exist at all; `None` if nothing is known of that.
    pub async fn lag_horizon(&self) -> Option<Millis> {
        let mut cached = self.horizon.lock().await;
        if let Some((at, horizon)) = *cached
            && at.elapsed() < HORIZON_AGE
        {
            return horizon;
        }
        let horizon = self.store.caught_up().await.ok().flatten();
        *cached = Some((Instant::now(), horizon));
        horizon
    }

    /// Writes what was read, commits, leaves the group. Waits are served until this is called.
    pub async fn stop(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.shared.queues.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.shared.stop.cancel();
        let mut running = self.running.lock().await;
        while running.tasks.join_next().await.is_some() {}
        running.aside.close();
        running.aside.wait().await;
        // Everybody who shared the consumer has ended, so this is the last hold on it.
        if let Some(group) = running.group.take().and_then(Arc::into_inner) {
            let left = deadline.saturating_duration_since(Instant::now());
            group.close(left.max(Duration::from_secs(1))).await;
        }
    }
}
