//! The one stack of a process: broker, registry, worker, and the desk where jobs wait for their end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_contract::{
    JobEvent, JobId, JobMessage, JobTypes, Outcome, Pool, Progress, RecordHeaders,
};
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_kafka::{
    Cluster, Codec, ConsumerEvent, GroupConsumer, GroupOptions, KafkaSettings, Outgoing, Producer,
    RegistrySettings, topic_plan,
};
use tidegate_runtime::{Metrics, Shutdown};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, mpsc};

use super::{KitError, Ran};
use crate::context::{Heard, JobContext};
use crate::handler::{Handler, Handlers, JobFailure};
use crate::handlers::Runnable;
use crate::settings::WorkerSettings;
use crate::worker::{Worker, WorkerConfig};

/// Made by the first test of the process, and kept until its end: tests come and go with runtimes of their own.
static STACK: OnceCell<Stack> = OnceCell::const_new();

/// How long registry and worker have to be ready.
const READY: Duration = Duration::from_secs(30);

pub(super) struct Stack {
    runtime: Runtime,
    cluster: Cluster,
    codec: Codec,
    producer: Producer,
    desk: Arc<Desk>,
    _broker: EmbeddedBroker,
    _registry: EmbeddedRegistry,
}

/// The jobs that are under way.
#[derive(Default)]
struct Desk(Mutex<HashMap<JobId, Entry>>);

struct Entry {
    runnable: Runnable,
    events: mpsc::UnboundedSender<JobEvent>,
}

/// Takes a job from the desk, also when a test gives up.
struct Seat<'a> {
    desk: &'a Desk,
    id: JobId,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.desk.lock().remove(&self.id);
    }
}

/// The handler under test; what it says of its progress is written down.
struct Overheard {
    handler: Arc<dyn Handler>,
    heard: Heard,
}

#[async_trait::async_trait]
impl Handler for Overheard {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        self.handler.run(cx.heard_by(self.heard.clone())).await
    }
}

fn broken(error: impl std::fmt::Display) -> KitError {
    KitError::Stack(error.to_string())
}

impl Stack {
    /// The stack of this process.
    pub(super) async fn get() -> Result<&'static Self, KitError> {
        STACK.get_or_try_init(Self::start).await
    }

    async fn start() -> Result<Self, KitError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("testkit")
            .enable_all()
            .build()
            .map_err(broken)?;
        let mut settings = KafkaSettings::default();
        settings.partitions.jobs = 1;
        settings.partitions.replies = 1;
        settings.partitions.dead_letters = 1;
        settings.partitions.delay = 1;
        let plan = topic_plan(&settings, &[Pool::default()], Duration::from_secs(3600));
        let broker = EmbeddedBroker::start_with(settings, &plan).map_err(broken)?;
        let registry = EmbeddedRegistry::start().map_err(broken)?;
        let registry_settings = RegistrySettings {
            url: registry.url().to_owned(),
            register: true,
            ..RegistrySettings::default()
        };
        let cluster = broker.cluster();
        let codec = Codec::new(&registry_settings);
        let desk = Arc::<Desk>::default();
        // Clients and tasks belong to the runtime of the stack, not to that of the test that came first.
        let begun = runtime.spawn(begin(
            cluster.clone(),
            registry_settings,
            codec.clone(),
            Arc::clone(&desk),
        ));
        begun.await.map_err(broken)??;
        Ok(Self {
            producer: cluster.producer("testkit").map_err(broken)?,
            runtime,
            cluster,
            codec,
            desk,
            _broker: broker,
            _registry: registry,
        })
    }

    /// Submits a job and waits for its end.
    pub(super) async fn run(
        &self,
        job: JobMessage,
        runnable: Runnable,
        limit: Duration,
    ) -> Result<Ran, KitError> {
        let heard = Heard::default();
        let handler = Arc::new(Overheard {
            handler: runnable.handler,
            heard: heard.clone(),
        });
        let (events, said) = mpsc::unbounded_channel();
        let id = job.job_id;
        let entry = Entry {
            runnable: Runnable {
                handler,
                timeout: runnable.timeout,
                retry: runnable.retry,
                gate: None,
            },
            events,
        };
        self.desk.lock().insert(id, entry);
        let _seat = Seat {
            desk: &self.desk,
            id,
        };
        self.submit(&job).await?;
        let ended = tokio::time::timeout(limit, until_end(said)).await;
        let (end, before) = ended.map_err(|_| KitError::NoEnd(limit))??;
        let progress: Vec<Progress> = heard.take();
        Ok(Ran {
            end,
            events: before,
            progress,
        })
    }

    /// Writes the record that a gateway would write.
    async fn submit(&self, job: &JobMessage) -> Result<(), KitError> {
        let record = Outgoing {
            topic: self.cluster.topics().jobs(&job.pool, job.tier),
            partition: Some(0),
            key: job.job_id.to_string(),
            headers: RecordHeaders::of_job(job),
            payload: self.codec.encode_job(job).map_err(broken)?,
        };
        let producer = self.producer.clone();
        let sent = self
            .runtime
            .spawn(async move { producer.send(record).await });
        let sent = sent.await.map_err(broken)?;
        sent.map(|_| ())
            .map_err(|error| KitError::BadJob(error.to_string()))
    }
}

async fn until_end(
    mut said: mpsc::UnboundedReceiver<JobEvent>,
) -> Result<(JobEvent, Vec<JobEvent>), KitError> {
    let mut before = Vec::new();
    loop {
        match said.recv().await {
            Some(event) if event.kind.is_terminal() => return Ok((event, before)),
            Some(event) => before.push(event),
            None => return Err(broken("nobody reads the replies any more")),
        }
    }
}

/// Starts the worker and the reader of replies. Both run until the process ends.
async fn begin(
    cluster: Cluster,
    registry: RegistrySettings,
    codec: Codec,
    desk: Arc<Desk>,
) -> Result<(), KitError> {
    codec.warm_up().await.map_err(broken)?;
    let topics = cluster.topics();
    let replies = cluster
        .group_consumer(GroupOptions::new(topics.replies(), "testkit", "testkit"))
        .map_err(broken)?;
    tokio::spawn(read(replies, codec, Arc::clone(&desk)));
    let worker = Worker::build(WorkerConfig {
        cluster,
        registry,
        settings: WorkerSettings {
            listen: String::new(),
            ..WorkerSettings::default()
        },
        types: JobTypes::new(),
        handlers: Handlers::new(),
        metrics: Metrics::new(std::iter::empty::<String>()),
        instance: "testkit".to_owned(),
    });
    let mut worker = worker.await.map_err(broken)?;
    worker.serve_jobs(move |id| Some(desk.lock().get(&id)?.runnable.clone()));
    let readiness = worker.readiness();
    tokio::spawn(async move {
        let ended = worker.run(Shutdown::new(Duration::from_secs(1))).await;
        tracing::error!(?ended, "the worker of the test kit has ended");
    });
    let ready = readiness.until_ready(READY).await;
    ready
        .map(|_| ())
        .map_err(|report| broken(format!("{report:?}")))
}

/// Gives every event to the test that waits for it. Never ends.
async fn read(replies: GroupConsumer, codec: Codec, desk: Arc<Desk>) {
    loop {
        let ConsumerEvent::Record(record) = replies.next().await else {
            continue;
        };
        // What is committed makes room in the broker's memory.
        replies.commit(&[(record.partition, record.offset + 1)]);
        let value = record.payload.unwrap_or_default();
        match codec.decode_event(&value).await {
            Ok(event) => {
                if let Some(entry) = desk.lock().get(&event.job_id) {
                    let _ = entry.events.send(event);
                }
            }
            Err(error) => tracing::error!(%error, "an event of the test kit cannot be read"),
        }
    }
}
