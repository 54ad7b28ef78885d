//! A worker from its settings to its end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tidegate_contract::{JobId, JobTypes};
use tidegate_kafka::{
    Cluster, ClusterWatch, Codec, ControlReader, GroupConsumer, GroupOptions, KafkaError,
    RegistrySettings, WatchPace,
};
use tidegate_runtime::ops::{self, OpsServer};
use tidegate_runtime::{Condition, LiveTypes, Metrics, OpsState, Readiness, Shutdown, TakesTypes};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::Control;
use crate::desk::{self, Desk};
use crate::dispatch::Dispatcher;
use crate::execute::Engine;
use crate::guard::Guard;
use crate::handler::Handlers;
use crate::handlers::{BadHandler, Repertoire, Runnable};
use crate::handover::MISSED;
use crate::handover::heard::Heard;
use crate::handover::tell::Teller;
use crate::held::Held;
use crate::intake::{Intake, Stops};
use crate::lane::{Lane, Room};
use crate::orders::Orders;
use crate::outbox::{Budget, Outbox};
use crate::replies::Replies;
use crate::settings::{BadSetting, WorkerSettings};
use crate::types::WorkerTypes;

/// What a worker is made from.
pub struct WorkerConfig {
    /// Where the jobs are.
    pub cluster: Cluster,
    /// Where their schemas are.
    pub registry: RegistrySettings,
    /// How it takes and runs jobs; checked by [`Worker::build`].
    pub settings: WorkerSettings,
    /// The job types that gateways and workers share.
    pub types: JobTypes,
    /// The handlers of custom types.
    pub handlers: Handlers,
    /// What it counts; the operations endpoint serves it.
    pub metrics: Metrics,
    /// The name of this process in events, logs and Kafka.
    pub instance: String,
}

/// Why a worker cannot be made. Nothing of this is about a server being away.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting under `[worker]`.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The handler of a job type.
    #[error(transparent)]
    Handler(#[from] BadHandler),
    /// A setting that librdkafka refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The operations endpoint cannot listen there.
    #[error("worker.listen `{listen}`: {problem}")]
    Listen {
        /// The address as configured.
        listen: String,
        /// What the system says.
        problem: String,
    },
}

/// A worker that has not begun yet. [`App`](crate::App) makes and runs one as a program; by hand, inside another one:
///
/// ```no_run
/// use std::time::Duration;
/// use tidegate_kafka::{Cluster, KafkaSettings, RegistrySettings};
/// use tidegate_runtime::{Metrics, Shutdown};
/// use tidegate_worker::{Handlers, Worker, WorkerConfig, WorkerError, WorkerSettings};
///
/// # async fn all() -> Result<(), WorkerError> {
/// let worker = Worker::build(WorkerConfig {
///     cluster: Cluster::new(KafkaSettings::default()),
///     registry: RegistrySettings::default(),
///     settings: WorkerSettings::default(),
///     types: Default::default(),
///     handlers: Handlers::new(),
///     metrics: Metrics::new(["sum"]),
///     instance: "worker-1".to_owned(),
/// });
/// let shutdown = Shutdown::new(Duration::from_secs(30));
/// worker.await?.run(shutdown).await
/// # }
/// ```
pub struct Worker {
    pub(crate) engine: Arc<Engine>,
    pub(crate) watch: ClusterWatch,
    pub(crate) cluster: Cluster,
    pub(crate) types: LiveTypes,
    pub(crate) orders: ControlReader,
    pub(crate) teller: Arc<Teller>,
    handlers: Handlers,
    instance: String,
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

/// What a running worker is stopped by.
pub(crate) struct Running {
    pub stops: Stops,
    /// Executions and hand-overs.
    pub tasks: TaskTracker,
    /// Intakes and the dispatcher.
    pub intakes: TaskTracker,
}

impl Worker {
    /// Makes a worker and binds its operations endpoint; connects to nothing yet.
    ///
    /// # Errors
    /// When it cannot be made from these settings; see [`WorkerError`]. A server that is away is no error.
    pub async fn build(config: WorkerConfig) -> Result<Self, WorkerError> {
        let WorkerConfig {
            cluster,
            registry,
            settings,
            types,
            handlers,
            metrics,
            instance,
        } = config;
        settings.check()?;
        let repertoire = Repertoire::build(&types, &settings.pools, &handlers, None)?;
        metrics.http_targets(repertoire.targets());
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
                Some(server.map_err(|error| WorkerError::Listen {
                    listen: listen.to_owned(),
                    problem: error.to_string(),
                })?)
            }
        };
        let outbox = Outbox {
            producer: cluster.producer(&instance)?,
            codec: Codec::new(&registry),
            topic: cluster.topics().replies(),
            source: instance.clone(),
            max_record_bytes: cluster.settings().max_record_bytes,
            budget: Budget::new(settings.outcome_bytes),
            metrics: metrics.clone(),
            stop: CancellationToken::new(),
        };
        let desk = Arc::new(Desk::new(&settings, &types));
        let control = Arc::<Control>::default();
        let heard = Arc::new(Heard::new(settings.beat_every * MISSED));
        let teller = Arc::new(Teller {
            owner: rand::random(),
            topic: cluster.topics().control(),
            every: settings.beat_every,
            given: Arc::default(),
            heard: Arc::clone(&heard),
            producer: outbox.producer.clone(),
        });
        let orders = Orders {
            control: Arc::clone(&control),
            heard: Arc::clone(&heard),
            metrics: metrics.clone(),
        };
        let orders = ControlReader::new(&cluster, &instance, Arc::new(orders))?;
        let engine = Arc::new(Engine {
            settings,
            repertoire: ArcSwap::from_pointee(repertoire),
            by_job: None,
            desk,
            guard: Guard::new(cluster.settings().session_timeout / 3),
            outbox,
            replies: Replies::new(cluster.clone()),
            control,
            heard,
            topics: cluster.topics().clone(),
            ladder: cluster.settings().delay_rungs.clone(),
            metrics,
            partitions: OnceLock::new(),
            stopping: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let watch = ClusterWatch::new(
            cluster.clone(),
            engine.outbox.producer.clone(),
            engine.metrics.clone(),
            (conditions.broker.clone(), conditions.topics.clone()),
            WatchPace::of(engine.settings.probe_every),
        );
        Ok(Self {
            engine,
            watch,
            cluster,
            types: LiveTypes::new(types),
            orders,
            teller,
            handlers,
            instance,
            readiness,
            conditions,
            ops,
            stop_ops,
        })
    }

    /// Runs single jobs instead of types. To be called first, while nobody else has the engine.
    pub(crate) fn serve_jobs(
        &mut self,
        by_job: impl Fn(JobId) -> Option<Runnable> + Send + Sync + 'static,
    ) {
        if let Some(engine) = Arc::get_mut(&mut self.engine) {
            engine.by_job = Some(Box::new(by_job));
        }
    }

    /// Where the operations endpoint listens; `None` without one.
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(OpsServer::addr)
    }

    /// Whether it can work, and if not, why.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// What gives this worker other job types while it runs. A job that runs is finished as it was begun; one that
    /// waits for its turn is run as the types are then, or parked.
    pub fn types(&self) -> Arc<dyn TakesTypes> {
        Arc::new(WorkerTypes {
            engine: Arc::clone(&self.engine),
            cluster: self.cluster.clone(),
            types: self.types.clone(),
            handlers: self.handlers.clone(),
        })
    }

    /// Works until told to stop, and then ends within the grace time: intake, running attempts, outcomes, commits,
    /// groups, in that order.
    ///
    /// # Errors
    /// When a consumer cannot be made from the settings. What goes wrong later is tried again, and told in readiness.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let stop = shutdown.token();
        self.introduce();
        if let Some(partitions) = self.bring_up(&stop).await {
            let running = self.start(partitions)?;
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

    fn introduce(&self) {
        let repertoire = self.engine.repertoire.load();
        let types: Vec<_> = repertoire.types().map(|t| t.as_str()).collect();
        tracing::info!(
            instance = self.instance,
            types = types.join(" "),
            "worker starts"
        );
        repertoire.complain();
    }

    fn start(&self, partitions: HashMap<String, i32>) -> Result<Running, WorkerError> {
        let running = Running {
            stops: Stops {
                intake: CancellationToken::new(),
                leave: CancellationToken::new(),
                leave_by: Arc::default(),
            },
            tasks: TaskTracker::new(),
            intakes: TaskTracker::new(),
        };
        let held = Held::new(self.conditions.registry.clone());
        let _ = self.engine.partitions.set(partitions);
        let mut lanes = Vec::new();
        for (lane, consumer) in self.lanes()? {
            let intake = Intake {
                lane: Arc::clone(&lane),
                engine: Arc::clone(&self.engine),
                consumer: Arc::new(consumer),
                tasks: running.tasks.clone(),
                held: held.clone(),
                stops: running.stops.clone(),
            };
            running.intakes.spawn(intake.run());
            lanes.push(lane);
        }
        let (teller, leave) = (Arc::clone(&self.teller), running.stops.leave.clone());
        running
            .intakes
            .spawn(async move { teller.run(&leave).await });
        let dispatcher = Dispatcher {
            engine: Arc::clone(&self.engine),
            lanes,
            tasks: running.tasks.clone(),
            stop: running.stops.intake.clone(),
        };
        running.intakes.spawn(dispatcher.run());
        Ok(running)
    }

    fn lanes(&self) -> Result<Vec<(Arc<Lane>, GroupConsumer)>, KafkaError> {
        let settings = &self.engine.settings;
        let topics = self.cluster.topics();
        let room = Room {
            records: settings.look_ahead_records(),
            bytes: settings.look_ahead_bytes,
        };
        let mut lanes = Vec::new();
        for (pool, tier) in desk::lanes(settings) {
            let (topic, group) = (topics.jobs(&pool, tier), topics.worker_group(&pool, tier));
            let process = (self.teller.owner, Arc::clone(&self.teller.given));
            let lane = Lane::new(pool, tier, topic.clone(), group.clone(), process, room);
            let lane = Arc::new(lane);
            let consumer = self.cluster.group_consumer(GroupOptions {
                on_revoke: Some(Arc::clone(&lane) as Arc<_>),
                queued_bytes: room.bytes,
                ..GroupOptions::new(topic, group, self.instance.clone())
            })?;
            lanes.push((lane, consumer));
        }
        Ok(lanes)
    }
}
