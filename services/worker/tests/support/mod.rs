//! A broker, a registry and workers in this process; an end-to-end test of a worker is a few lines on top.
#![allow(dead_code)]

pub mod proxy;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidegate_contract::headers::TRACEPARENT;
use tidegate_contract::{
    DeadLetter, EventKind, HandlerSpec, JobEvent, JobId, JobMessage, JobTypeSpec, JobTypes, Ladder,
    OffsetTracker, Outcome, Pool, RecordHeaders, RequestInfo, RetryPolicy, Tenant, Tier,
    now_millis,
};
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_kafka::{
    Codec, ConsumerEvent, Delivered, KafkaSettings, Outgoing, Producer, Record, RegistrySettings,
    topic_plan,
};
use tidegate_runtime::{Metrics, Readiness, Shutdown};
use tidegate_worker::{
    Handler, Handlers, JobContext, JobFailure, Worker, WorkerConfig, WorkerSettings, outcome,
};

/// Longest wait for something that must happen. The mock broker takes 15 s for a second member of a group.
pub const LIMIT: Duration = Duration::from_secs(40);
/// The delays of the ladder.
pub const RUNGS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Everything but workers.
pub struct Rig {
    pub broker: EmbeddedBroker,
    pub registry: EmbeddedRegistry,
    pub registry_settings: RegistrySettings,
    pub codec: Codec,
    pub producer: Producer,
    seen: Arc<Mutex<Vec<Seen>>>,
    letters: Arc<Mutex<Vec<DeadLetter>>>,
}

/// An event as it lies on the replies topic.
#[derive(Clone, Debug)]
pub struct Seen {
    pub partition: i32,
    pub headers: RecordHeaders,
    pub event: JobEvent,
    pub at: Instant,
}

/// A worker that runs.
pub struct Running {
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    pub metrics: Metrics,
    pub task: tokio::task::JoinHandle<()>,
}

/// Settings of all who are to find the topics of a rig.
pub fn kafka() -> KafkaSettings {
    let mut settings = KafkaSettings::default();
    settings.partitions.jobs = 2;
    settings.partitions.replies = 4;
    settings.partitions.dead_letters = 1;
    settings.partitions.delay = 1;
    settings.delay_rungs = Ladder::new(&RUNGS).unwrap();
    settings.max_record_bytes = 64 << 10;
    settings
}

impl Rig {
    /// Jobs topics with 2 partitions, replies with 4, dead letters with 1.
    pub async fn start() -> Self {
        Self::start_behind(|url| async { url }).await
    }

    /// The same with the registry's URL replaced for everybody.
    pub async fn start_behind<F: Future<Output = String>>(
        replace: impl FnOnce(String) -> F,
    ) -> Self {
        let settings = kafka();
        let plan = topic_plan(&settings, &[Pool::default()], Duration::from_secs(60));
        let broker = EmbeddedBroker::start_with(settings, &plan).unwrap();
        let registry = EmbeddedRegistry::start().unwrap();
        let registry_settings = RegistrySettings {
            url: replace(registry.url().to_owned()).await,
            register: true,
            timeout: Duration::from_millis(500),
            ..RegistrySettings::default()
        };
        let codec = Codec::new(&registry_settings);
        codec.warm_up().await.unwrap();
        let rig = Self {
            producer: broker.cluster().producer("test").unwrap(),
            broker,
            registry,
            registry_settings,
            codec,
            seen: Arc::default(),
            letters: Arc::default(),
        };
        rig.listen();
        rig
    }

    /// Collects what workers say.
    fn listen(&self) {
        let cluster = self.broker.cluster();
        let replies = cluster.assigned_consumer("test-replies").unwrap();
        for partition in 0..4 {
            replies.assign(partition, 0).unwrap();
        }
        let (codec, seen) = (self.codec.clone(), Arc::clone(&self.seen));
        tokio::spawn(async move {
            loop {
                if let ConsumerEvent::Record(record) = replies.next().await {
                    let event = codec.decode_event(&record.payload.unwrap()).await.unwrap();
                    seen.lock().unwrap().push(Seen {
                        partition: record.partition,
                        headers: record.headers,
                        event,
                        at: Instant::now(),
                    });
                }
            }
        });
        let topic = cluster.topics().dead_letters();
        let dead = cluster.assigned_consumer_of(&topic, "test-dead").unwrap();
        dead.assign(0, 0).unwrap();
        let (codec, letters) = (self.codec.clone(), Arc::clone(&self.letters));
        tokio::spawn(async move {
            loop {
                if let ConsumerEvent::Record(record) = dead.next().await {
                    let value = record.payload.unwrap();
                    let letter = codec.decode_dead_letter(&value).await.unwrap();
                    letters.lock().unwrap().push(letter);
                }
            }
        });
    }

    /// A worker with these types and the handlers of [`handlers`].
    pub async fn worker(&self, types: JobTypes, settings: WorkerSettings) -> Running {
        self.worker_with(types, handlers(), settings).await
    }

    pub async fn worker_with(
        &self,
        types: JobTypes,
        handlers: Handlers,
        settings: WorkerSettings,
    ) -> Running {
        let metrics = Metrics::new(types.keys().map(|name| name.as_str()));
        let worker = Worker::build(WorkerConfig {
            cluster: self.broker.cluster(),
            registry: self.registry_settings.clone(),
            settings,
            types,
            handlers,
            metrics: metrics.clone(),
            instance: format!("worker-{}", JobId::generate()),
        });
        let worker = worker.await.unwrap();
        let readiness = worker.readiness();
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { worker.run(stop).await.unwrap() });
        Running {
            shutdown,
            readiness,
            metrics,
            task,
        }
    }

    /// A job of that type, for reply partition 3.
    pub fn job(&self, job_type: &str, body: &str) -> JobMessage {
        let now = now_millis();
        JobMessage {
            job_id: JobId::generate(),
            job_type: job_type.parse().unwrap(),
            pool: Pool::default(),
            tier: Tier::Normal,
            tenant: Tenant::default(),
            attempt: 1,
            created_at: now,
            deadline: now + 60_000,
            reply_partition: 3,
            request: RequestInfo::default(),
            content_type: Some("text/plain".to_owned()),
            body: Bytes::from(body.to_owned()),
            serial_key: None,
            not_before: None,
            retry_of: None,
            redrives: 0,
            follow_ups: Vec::new(),
        }
    }

    /// The record of a job, as a gateway would write it.
    pub fn record(&self, job: &JobMessage) -> Outgoing {
        let mut headers = RecordHeaders::of_job(job);
        headers.set(TRACEPARENT, format!("00-{TRACE}-b7ad6b7169203331-01"));
        Outgoing {
            topic: self.broker.cluster().topics().jobs(&job.pool, job.tier),
            partition: Some(0),
            key: job.job_id.to_string(),
            headers,
            payload: self.codec.encode_job(job).unwrap(),
        }
    }

    pub async fn send(&self, record: Outgoing) -> Delivered {
        self.producer.send(record).await.unwrap()
    }

    pub async fn submit(&self, job: &JobMessage) -> JobId {
        self.send(self.record(job)).await;
        job.job_id
    }

    /// What has been said of a job so far.
    pub fn said(&self, id: JobId) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.event.job_id == id)
            .cloned()
            .collect()
    }

    /// Waits for the end of a job: everything said of it, the end last.
    pub async fn ended(&self, id: JobId) -> Vec<Seen> {
        until(&format!("job {id} ends"), || {
            let said = self.said(id);
            let ended = said.iter().any(|seen| seen.event.kind.is_terminal());
            ended.then_some(said)
        })
        .await
    }

    /// Waits for the end of a job that failed: its error's code.
    pub async fn failed(&self, id: JobId) -> (String, JobEvent) {
        let last = self.ended(id).await.pop().unwrap().event;
        assert_eq!(last.kind, EventKind::Failed, "{last:?}");
        (last.error.clone().unwrap().code, last)
    }

    /// Waits for a dead letter that matches.
    pub async fn letter(&self, matches: impl Fn(&DeadLetter) -> bool) -> DeadLetter {
        until("a dead letter", || {
            let letters = self.letters.lock().unwrap();
            letters.iter().find(|letter| matches(letter)).cloned()
        })
        .await
    }

    pub fn letters(&self) -> usize {
        self.letters.lock().unwrap().len()
    }

    /// What the workers' group of the normal tier has committed of a partition. Asks without joining the group.
    pub async fn committed(&self, partition: i32) -> Option<i64> {
        Some(self.committed_whole(partition).await?.0)
    }

    /// How many records above the committed offset are known to be done.
    pub async fn done_above(&self, partition: i32) -> u64 {
        let Some((offset, metadata)) = self.committed_whole(partition).await else {
            return 0;
        };
        let restored = OffsetTracker::new().restore(offset, &metadata, None);
        restored.unwrap().done
    }

    /// Commits in the name of the group, as a program of others would that is no member of it.
    pub async fn commit_as_another(&self, partition: i32, offset: i64, metadata: &str) {
        let (asking, topic) = self.asking();
        let metadata = metadata.to_owned();
        let committed = tokio::task::spawn_blocking(move || {
            let mut list = TopicPartitionList::new();
            let mut element = list.add_partition(&topic, partition);
            element.set_offset(Offset::Offset(offset)).unwrap();
            element.set_metadata(&metadata);
            asking.commit(&list, CommitMode::Sync)
        });
        committed.await.unwrap().unwrap();
    }

    async fn committed_whole(&self, partition: i32) -> Option<(i64, String)> {
        let (asking, topic) = self.asking();
        let asked = tokio::task::spawn_blocking(move || {
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            let found = asking.committed_offsets(list, Duration::from_secs(10));
            let found = found.unwrap();
            let element = &found.elements()[0];
            (element.offset(), element.metadata().to_owned())
        });
        match asked.await.unwrap() {
            (Offset::Offset(offset), metadata) => Some((offset, metadata)),
            _ => None,
        }
    }

    /// A client with the name of the workers' group of the normal tier that is no member, and their topic.
    fn asking(&self) -> (BaseConsumer, String) {
        let cluster = self.broker.cluster();
        let (pool, tier) = (Pool::default(), Tier::Normal);
        let topic = cluster.topics().jobs(&pool, tier);
        let group = cluster.topics().worker_group(&pool, tier);
        let asking: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.bootstrap())
            .set("group.id", group)
            .create()
            .unwrap();
        (asking, topic)
    }

    /// Everything on a partition of the normal tier from its beginning to now.
    pub async fn jobs_of(&self, partition: i32) -> Vec<Record> {
        let topics = self.broker.cluster().topics().clone();
        let topic = topics.jobs(&Pool::default(), Tier::Normal);
        self.records_of(topic, partition).await
    }

    /// Everything on a rung of the ladder.
    pub async fn delayed(&self, rung: Duration) -> Vec<Record> {
        let topic = self.broker.cluster().topics().delay(rung);
        self.records_of(topic, 0).await
    }

    async fn records_of(&self, topic: String, partition: i32) -> Vec<Record> {
        let cluster = self.broker.cluster();
        let reader = cluster.assigned_consumer_of(&topic, "test-jobs").unwrap();
        reader.assign(partition, 0).unwrap();
        let (_, end) = reader.watermarks(partition).await.unwrap();
        let mut records = Vec::new();
        while (records.len() as i64) < end {
            if let ConsumerEvent::Record(record) = reader.next().await {
                records.push(record);
            }
        }
        records
    }
}

impl Running {
    pub async fn ready(&self) {
        if let Err(report) = self.readiness.until_ready(LIMIT).await {
            panic!("not ready: {report:?}");
        }
    }

    pub async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(LIMIT, self.task)
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits until the metrics have this line.
    pub async fn counted(&self, line: &str) {
        until(line, || self.metrics.encode().contains(line).then_some(())).await;
    }
}

/// Waits until there is something.
pub async fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(thing) = there() {
            return thing;
        }
        assert!(Instant::now() < until, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn settings() -> WorkerSettings {
    WorkerSettings {
        listen: String::new(),
        concurrency: 8,
        park_after: Duration::from_millis(200),
        grace: Duration::from_secs(5),
        probe_every: Duration::from_millis(200),
        ..WorkerSettings::default()
    }
}

pub fn custom(name: &str) -> HandlerSpec {
    HandlerSpec::Custom {
        name: name.to_owned(),
    }
}

pub fn types<'a>(specs: impl IntoIterator<Item = (&'a str, HandlerSpec)>) -> JobTypes {
    specs
        .into_iter()
        .map(|(name, handler)| {
            // How a failure ends a job is what most tests ask; retries have tests of their own.
            let spec = JobTypeSpec {
                retry: RetryPolicy::never(),
                ..JobTypeSpec::new(handler)
            };
            (name.parse().unwrap(), spec)
        })
        .collect()
}

/// `echo`, and `script` for everything that goes wrong.
pub fn usual_types() -> JobTypes {
    types([("echo", HandlerSpec::Echo), ("script", custom("script"))])
}

pub fn handlers() -> Handlers {
    Handlers::new().custom("script", Script)
}

/// Does what the body says.
pub struct Script;

#[async_trait::async_trait]
impl Handler for Script {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let body = std::str::from_utf8(cx.body())?;
        let (what, number) = body.split_once(' ').unwrap_or((body, "0"));
        let number: u64 = number.parse()?;
        match what {
            "panic" => panic!("as told"),
            "fail" => Err(std::io::Error::other("as told"))?,
            "refuse" => return Err(JobFailure::refused(409, "taken", "taken")),
            "sleep" => tokio::time::sleep(Duration::from_millis(number)).await,
            "big" => return Ok(outcome(200, "a/b", vec![b'x'; number as usize])),
            "progress" => {
                for percent in 0..=100 {
                    cx.progress(f64::from(percent), Some("going on"), None);
                    tokio::time::sleep(Duration::from_millis(number)).await;
                }
            }
            _ => {}
        }
        Ok(outcome(200, "text/plain", cx.is_repeat().to_string()))
    }
}
