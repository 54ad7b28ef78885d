//! A whole gateway on the embedded broker, with a worker of a few lines.

#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "each test program uses some of it")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_callbacks::CallbackSettings;
use tidegate_contract::*;
use tidegate_gateway::{
    AuthSettings, Gateway, GatewayConfig, GatewayError, GatewaySettings, RouteKind, RouteSettings,
};
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_kafka::{
    Cluster, Codec, ConsumerEvent, GroupOptions, KafkaSettings, Outgoing, PartitionCounts,
    RegistrySettings, topic_plan,
};
use tidegate_runtime::{Metrics, Readiness, Shutdown};
use tidegate_store::{Store, StoreSettings};
use tokio::task::JoinHandle;

/// Joining a group on the embedded broker takes some seconds, more on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(40);

pub struct Kit {
    pub broker: EmbeddedBroker,
    registry: EmbeddedRegistry,
    pub store: Arc<dyn Store>,
    pub client: reqwest::Client,
}

/// A gateway that runs.
pub struct Running {
    pub url: String,
    pub readiness: Readiness,
    pub shutdown: Shutdown,
    pub task: JoinHandle<Result<(), GatewayError>>,
}

impl Kit {
    /// `topics`: whether they are there. Jobs topics have one partition.
    pub fn new(topics: bool) -> Self {
        Self::with_partitions(topics, 1)
    }

    /// The same with so many partitions of each jobs topic.
    pub fn with_partitions(topics: bool, jobs: i32) -> Self {
        let settings = KafkaSettings {
            partitions: PartitionCounts {
                jobs,
                replies: 4,
                dead_letters: 1,
                delay: 1,
            },
            produce_timeout: Duration::from_secs(2),
            ..KafkaSettings::default()
        };
        let week = Duration::from_secs(7 * 24 * 3600);
        let plan = match topics {
            true => topic_plan(&settings, &[Pool::default()], week),
            false => Vec::new(),
        };
        let url = Secret::new("sqlite::memory:");
        let store = StoreSettings {
            url,
            ..StoreSettings::default()
        };
        Self {
            broker: EmbeddedBroker::start_with(settings, &plan).unwrap(),
            registry: EmbeddedRegistry::start().unwrap(),
            store: tidegate_store::open(&store).unwrap(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            url: self.registry.url().to_owned(),
            register: true,
            ..RegistrySettings::default()
        }
    }

    /// Starts a gateway with the types `echo` (waits) and `later` (does not).
    pub async fn gateway(&self, registry: RegistrySettings, grace: Duration) -> Running {
        self.gateway_with(registry, grace, |_| {}).await
    }

    /// The same with what `tune` changes.
    pub async fn gateway_with(
        &self,
        registry: RegistrySettings,
        grace: Duration,
        tune: impl FnOnce(&mut GatewayConfig),
    ) -> Running {
        let echo = JobTypeSpec::new(HandlerSpec::Echo);
        let later = JobTypeSpec {
            mode: Mode::Async,
            ..echo.clone()
        };
        let types = JobTypes::from([
            ("echo".parse().unwrap(), echo),
            ("later".parse().unwrap(), later),
        ]);
        let mut config = GatewayConfig {
            cluster: self.broker.cluster(),
            registry,
            store: self.store.clone(),
            settings: GatewaySettings {
                listen: "127.0.0.1:0".into(),
                max_wait: Duration::from_secs(20),
                ..GatewaySettings::default()
            },
            auth: AuthSettings::default(),
            routes: vec![RouteSettings {
                method: None,
                path: "/shout/{who}".into(),
                kind: RouteKind::Submit,
                job_type: "echo".parse().ok(),
            }],
            metrics: Metrics::new(types.keys().map(JobType::as_str)),
            types,
            instance: "gateway-under-test".into(),
            recent_spans: None,
            callbacks: CallbackSettings::default(),
            on_follow_ups: None,
        };
        tune(&mut config);
        let gateway = Gateway::build(config).await.unwrap();
        let shutdown = Shutdown::new(grace);
        Running {
            url: gateway.url(),
            readiness: gateway.readiness(),
            task: tokio::spawn(gateway.run(shutdown.clone())),
            shutdown,
        }
    }

    /// A worker that answers every job of the normal tier with its body, until it is aborted.
    pub async fn worker(&self) -> JoinHandle<()> {
        let cluster: Cluster = self.broker.cluster();
        let codec = Codec::new(&self.registry());
        codec.warm_up().await.unwrap();
        let producer = cluster.producer("worker").unwrap();
        let pool = Pool::default();
        let jobs = cluster.topics().jobs(&pool, Tier::Normal);
        let group = cluster.topics().worker_group(&pool, Tier::Normal);
        let consumer = cluster
            .group_consumer(GroupOptions::new(jobs, group, "worker"))
            .unwrap();
        tokio::spawn(async move {
            loop {
                let ConsumerEvent::Record(record) = consumer.next().await else {
                    continue;
                };
                let job = codec.decode_job(&record.payload.unwrap()).await.unwrap();
                let event = completed(&job);
                let out = Outgoing {
                    topic: cluster.topics().replies(),
                    partition: Some(job.reply_partition),
                    key: job.job_id.to_string(),
                    headers: RecordHeaders::of_event(&event, job.reply_partition),
                    payload: codec.encode_event(&event).unwrap(),
                };
                producer.send(out).await.unwrap();
            }
        })
    }
}

fn completed(job: &JobMessage) -> JobEvent {
    JobEvent {
        job_id: job.job_id,
        kind: EventKind::Completed,
        at: now_millis(),
        attempt: 1,
        job: JobSummary::of(job, None),
        source: "worker".into(),
        outcome: Some(Outcome {
            status: 200,
            content_type: job.content_type.clone(),
            headers: vec![],
            body: job.body.clone(),
        }),
        error: None,
        progress: None,
        timings: Some(Timings::default()),
        next_attempt_at: None,
        dead_letter: None,
    }
}

impl Running {
    pub async fn ready(&self) {
        self.readiness.until_ready(LIMIT).await.unwrap();
    }

    /// Asks until the answer is as wished, which it then gives.
    pub async fn until(
        &self,
        client: &reqwest::Client,
        path: &str,
        wish: impl Fn(u16, &Value) -> bool,
    ) -> Value {
        let limit = tokio::time::Instant::now() + LIMIT;
        loop {
            let answer = client
                .get(format!("{}{path}", self.url))
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            let doc: Value = answer.json().await.unwrap();
            if wish(status, &doc) {
                return doc;
            }
            assert!(
                tokio::time::Instant::now() < limit,
                "{path}: {status} {doc}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it, and fails if that takes longer than its grace.
    pub async fn stop(self) {
        self.shutdown.trigger();
        let limit = self.shutdown.grace() + Duration::from_secs(1);
        tokio::time::timeout(limit, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}
