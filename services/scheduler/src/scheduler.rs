//! A scheduler from its settings to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use tidegate_kafka::{
    Cluster, ClusterWatch, Codec, ControlReader, GroupOptions, KafkaError, Producer,
    RegistrySettings, TopicPlan, WatchPace,
};
use tidegate_runtime::ops::{self, OpsServer};
use tidegate_runtime::{Condition, Metrics, OpsState, Readiness, Shutdown};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::Mover;
use crate::lines::Lines;
use crate::orders::Orders;
use crate::rung::{Rung, Stops};
use crate::settings::{BadSetting, SchedulerSettings};

/// How long the broker may hold back an answer: a record that was just written is not due for as long as its rung.
const FETCH_WAIT: Duration = Duration::from_millis(100);
/// Bytes that a rung fetches ahead; what is fetched of a partition is dropped when it pauses.
const AHEAD: usize = 1 << 20;

/// What a scheduler is made from.
pub struct SchedulerConfig {
    /// Where the ladder is.
    pub cluster: Cluster,
    /// Where the schemas are: needed only for what cannot be moved.
    pub registry: RegistrySettings,
    /// How it moves records; checked by [`Scheduler::build`].
    pub settings: SchedulerSettings,
    /// The topics that must be there.
    pub plan: Vec<TopicPlan>,
    /// What it counts; the operations endpoint serves it.
    pub metrics: Metrics,
    /// The name of this process in events, logs and Kafka.
    pub instance: String,
}

/// Why a scheduler cannot be made. Nothing of this is about a server being away.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// A setting under `[scheduler]`.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// A setting that librdkafka refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The operations endpoint cannot listen there.
    #[error("scheduler.listen `{listen}`: {problem}")]
    Listen {
        /// The address as configured.
        listen: String,
        /// What the system says.
        problem: String,
    },
}

/// A scheduler that has not begun yet.
pub struct Scheduler {
    pub(crate) mover: Arc<Mover>,
    pub(crate) watch: ClusterWatch,
    pub(crate) producer: Producer,
    pub(crate) cluster: Cluster,
    pub(crate) settings: SchedulerSettings,
    pub(crate) plan: Vec<TopicPlan>,
    pub(crate) orders: ControlReader,
    readiness: Readiness,
    pub(crate) conditions: Conditions,
    ops: Option<OpsServer>,
    stop_ops: CancellationToken,
}

pub(crate) struct Conditions {
    pub broker: Condition,
    pub topics: Condition,
    pub registry: Condition,
    pub control: Condition,
}

/// What a running scheduler is stopped by.
pub(crate) struct Running {
    pub stops: Stops,
    /// Records on their way.
    pub tasks: TaskTracker,
    pub rungs: TaskTracker,
}

impl Scheduler {
    /// Makes a scheduler and binds its operations endpoint; connects to nothing yet.
    ///
    /// # Errors
    /// When it cannot be made from these settings; see [`SchedulerError`].
    pub async fn build(config: SchedulerConfig) -> Result<Self, SchedulerError> {
        let SchedulerConfig {
            cluster,
            registry,
            settings,
            plan,
            metrics,
            instance,
        } = config;
        settings.check()?;
        let readiness = Readiness::new();
        let conditions = Conditions {
            broker: readiness.condition("broker"),
            topics: readiness.condition("topics"),
            registry: readiness.condition("registry"),
            control: readiness.condition("control"),
        };
        let stop_ops = CancellationToken::new();
        let ops = match settings.listen.as_str() {
            "" => None,
            listen => {
                let state = OpsState {
                    readiness: readiness.clone(),
                    metrics: metrics.clone(),
                    recent_spans: None,
                };
                let server = ops::serve(listen, state, stop_ops.clone()).await;
                Some(server.map_err(|error| SchedulerError::Listen {
                    listen: listen.to_owned(),
                    problem: error.to_string(),
                })?)
            }
        };
        let producer = cluster.producer(&instance)?;
        let orders = Arc::new(Orders::new(metrics.clone()));
        let reader = ControlReader::new(&cluster, &instance, Arc::clone(&orders) as Arc<_>)?;
        let mover = Mover {
            producer: producer.clone(),
            codec: Codec::new(&registry),
            ladder: cluster.settings().delay_rungs.clone(),
            topics: cluster.topics().clone(),
            metrics,
            instance,
            orders,
            replies: AtomicI32::new(0),
            stop: CancellationToken::new(),
        };
        let watch = ClusterWatch::new(
            cluster.clone(),
            producer.clone(),
            mover.metrics.clone(),
            (conditions.broker.clone(), conditions.topics.clone()),
            WatchPace::of(settings.probe_every),
        );
        Ok(Self {
            mover: Arc::new(mover),
            watch,
            producer,
            cluster,
            settings,
            plan,
            orders: reader,
            readiness,
            conditions,
            ops,
            stop_ops,
        })
    }

    /// Where the operations endpoint listens; `None` without one.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(OpsServer::addr)
    }

    /// Whether it can work, and if not, why.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Works until told to stop, and then ends within the grace time: intake, records on their way, commits, groups, in
    /// that order.
    ///
    /// # Errors
    /// When a consumer cannot be made from the settings. What goes wrong later is tried again, and told in readiness.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), SchedulerError> {
        let stop = shutdown.token();
        tracing::info!(instance = self.mover.instance, "scheduler starts");
        if self.bring_up(&stop).await.is_some() {
            let running = self.start()?;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.watch.follow(|| self.look_at_topics()) => {}
                () = self.orders.follow() => {}
            }
            self.wind_down(running, &shutdown).await;
        }
        self.stop_ops.cancel();
        if let Some(ops) = self.ops {
            ops.stopped().await;
        }
        Ok(())
    }

    fn start(&self) -> Result<Running, SchedulerError> {
        let running = Running {
            stops: Stops {
                intake: CancellationToken::new(),
                leave: CancellationToken::new(),
            },
            tasks: TaskTracker::new(),
            rungs: TaskTracker::new(),
        };
        let mut rungs = Vec::new();
        for delay in self.mover.ladder.rungs() {
            let topics = self.cluster.topics();
            let (topic, group) = (topics.delay(*delay), topics.scheduler_group(*delay));
            let lines = Arc::new(Lines::default());
            let consumer = self.cluster.group_consumer(GroupOptions {
                on_revoke: Some(Arc::clone(&lines) as Arc<_>),
                queued_bytes: AHEAD,
                fetch_wait: Some(FETCH_WAIT),
                ..GroupOptions::new(topic.clone(), group, self.mover.instance.clone())
            })?;
            rungs.push(Rung {
                delay: *delay,
                topic,
                consumer,
                lines,
                mover: Arc::clone(&self.mover),
                settings: self.settings.clone(),
                tasks: running.tasks.clone(),
                stops: running.stops.clone(),
            });
        }
        for rung in rungs {
            running.rungs.spawn(rung.run());
        }
        Ok(running)
    }
}
