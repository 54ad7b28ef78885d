//! The least that any gateway on this Kafka must take: a record to one topic, read and answered by a record to
//! another, read again. The same client settings, no Avro, no HTTP, no store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_contract::RecordHeaders;
use tidegate_kafka::{
    AssignedConsumer, Cluster, ConsumerEvent, KafkaError, Outgoing, Producer, TopicPlan, topic_plan,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::load::Target;

/// Longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// A reader that has not seen its first record within this time never will.
const BEGIN: Duration = Duration::from_secs(20);

/// Two topics of its own, and whoever answers between them.
pub struct Floor {
    cluster: Cluster,
    topics: [String; 2],
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    producer: Producer,
    requests: String,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There and back.
    async fn round_trip(&self, body: bytes::Bytes) -> Result<(), String> {
        let key = Uuid::now_v7().to_string();
        let (done, answer) = oneshot::channel();
        self.waiting().insert(key.clone(), done);
        let ack = self
            .producer
            .enqueue(record(&self.requests, None, &key, body));
        let outcome = match ack {
            Ok(_) => match tokio::time::timeout(LIMIT, answer).await {
                Ok(Ok(())) => return Ok(()),
                _ => "no answer in time".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        self.waiting().remove(&key);
        Err(outcome)
    }
}

fn record(topic: &str, partition: Option<i32>, key: &str, payload: bytes::Bytes) -> Outgoing {
    Outgoing {
        topic: topic.to_owned(),
        partition,
        key: key.to_owned(),
        headers: RecordHeaders::new(),
        payload,
    }
}

impl Floor {
    /// Makes the topics, with as many partitions as the jobs topics have, and waits for the first answer.
    pub async fn start(cluster: Cluster) -> Result<Self, KafkaError> {
        let partitions = cluster.settings().partitions.jobs;
        let name = |part: &str| {
            format!(
                "{}bench.{}.{part}",
                cluster.topics().prefix(),
                Uuid::now_v7()
            )
        };
        let topics = [name("requests"), name("replies")];
        // As durable as the topics of jobs.
        let plan = topic_plan(cluster.settings(), &[], Duration::from_secs(3600));
        let plans: Vec<_> = plan
            .into_iter()
            .zip([(&topics[0], partitions), (&topics[1], 1)])
            .map(|(like, (name, partitions))| TopicPlan {
                name: name.clone(),
                partitions,
                ..like
            })
            .collect();
        cluster.create_topics(&plans).await?;
        let [requests, replies] = &topics;
        let shared = Arc::new(Shared {
            producer: cluster.producer("bench")?,
            requests: requests.clone(),
            waiting: Mutex::default(),
        });
        let worker = cluster.assigned_consumer_of(requests, "bench-worker")?;
        for partition in 0..partitions {
            worker.assign(partition, 0)?;
        }
        let reader = cluster.assigned_consumer_of(replies, "bench-reader")?;
        reader.assign(0, 0)?;
        let answering = answer(worker, cluster.producer("bench-worker")?, replies.clone());
        let tasks = vec![
            tokio::spawn(answering),
            tokio::spawn(complete(reader, Arc::clone(&shared))),
        ];
        let floor = Self {
            cluster,
            topics,
            shared,
            tasks,
        };
        let first = floor.shared.round_trip(bytes::Bytes::new());
        match tokio::time::timeout(BEGIN, first).await {
            Ok(Ok(())) => Ok(floor),
            Ok(Err(error)) => Err(KafkaError::Unavailable(error)),
            Err(_) => Err(KafkaError::Unavailable("no round trip in time".to_owned())),
        }
    }

    /// One that asks, for each taker.
    pub fn target(&self, body: Vec<u8>) -> impl Fn() -> RoundTrip {
        let shared = Arc::clone(&self.shared);
        let body = bytes::Bytes::from(body);
        move || RoundTrip {
            shared: Arc::clone(&shared),
            body: body.clone(),
        }
    }

    /// Takes the topics away again.
    pub async fn end(self) -> Result<(), KafkaError> {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.cluster.delete_topics(&self.topics).await
    }
}

/// Asks over Kafka alone.
pub struct RoundTrip {
    shared: Arc<Shared>,
    body: bytes::Bytes,
}

impl Target for RoundTrip {
    async fn ask(&mut self) -> Result<(), String> {
        self.shared.round_trip(self.body.clone()).await
    }
}

/// The worker's part: every record comes back as it is.
async fn answer(consumer: AssignedConsumer, producer: Producer, replies: String) {
    loop {
        if let ConsumerEvent::Record(read) = consumer.next().await {
            let key = read.key.as_deref().map(String::from_utf8_lossy);
            let key = key.unwrap_or_default();
            let payload = read.payload.unwrap_or_default();
            // Its own queue is as long as the other's; what does not fit is missed by the one that waits.
            let _ = producer.enqueue(record(&replies, Some(0), &key, payload));
        }
    }
}

/// The gateway's part.
async fn complete(consumer: AssignedConsumer, shared: Arc<Shared>) {
    loop {
        if let ConsumerEvent::Record(read) = consumer.next().await
            && let Some(key) = read.key.as_deref()
            && let Ok(key) = std::str::from_utf8(key)
            && let Some(done) = shared.waiting().remove(key)
        {
            let _ = done.send(());
        }
    }
}
