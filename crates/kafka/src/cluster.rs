//! One Kafka cluster as the settings name it: where clients come from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tidegate_contract::{JobTypes, Topics};

use crate::admin;
use crate::consumer::{AssignedConsumer, GroupConsumer, GroupOptions};
use crate::contact::Contact;
use crate::embedded::Mock;
use crate::embedded::memory::MemoryGuard;
use crate::error::{KafkaError, TopicsError};
use crate::producer::{Limits, Producer};
use crate::settings::KafkaSettings;
use crate::topics::{CreateOutcome, TopicInfo, TopicPlan, check_topics, more_topics};
use crate::trouble::Trouble;

/// Bytes that a consumer which is assigned by hand fetches ahead; one answer of a broker may hold as much again.
const AHEAD: usize = 4 << 20;

/// Events of the client that asks, served before a question: more than can come in between.
const EVENTS: usize = 32;

/// How the ids of embedded clusters begin, whichever process they are in.
pub(crate) const EMBEDDED_ID: &str = "mockCluster";

/// What a cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: String,
    pub brokers: usize,
}

/// Settings and names, from which clients are made. Cheap to clone; making one connects to nothing.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    settings: KafkaSettings,
    topics: Topics,
    embedded: Option<Embedded>,
    /// The client of `probe` and `describe`: made at the first call and kept.
    asking: Mutex<Option<Arc<Asking>>>,
}

/// What a cluster knows of the broker in this process.
#[derive(Clone)]
pub(crate) struct Embedded {
    pub(crate) guard: Arc<MemoryGuard>,
    pub(crate) mock: Mock,
}

/// The client that asks: read by nobody but the calls themselves.
type Asking = BaseConsumer<Questions>;

pub(crate) struct Questions {
    contact: Contact,
    trouble: Trouble,
}

impl ClientContext for Questions {
    fn stats_raw(&self, statistics: &[u8]) {
        self.contact.observe(statistics);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        // Whoever asks is told.
        tracing::debug!(%error, reason, "kafka client");
        self.trouble.note(&error, reason);
    }
}

impl ConsumerContext for Questions {}

impl Cluster {
    /// A cluster with these settings.
    pub fn new(settings: KafkaSettings) -> Self {
        Self::build(settings, None)
    }

    pub(crate) fn build(settings: KafkaSettings, embedded: Option<Embedded>) -> Self {
        let topics = Topics::new(settings.prefix.clone());
        Self {
            inner: Arc::new(Inner {
                settings,
                topics,
                embedded,
                asking: Mutex::new(None),
            }),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &KafkaSettings {
        &self.inner.settings
    }

    /// The names.
    pub fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    /// A new producer. Fails on settings that librdkafka refuses, never on an absent broker.
    pub fn producer(&self, client_id: &str) -> Result<Producer, KafkaError> {
        let settings = self.settings();
        let mut config = self.base(client_id);
        config.set("compression.type", "lz4");
        if self.inner.embedded.is_some() {
            // Its memory is counted in bytes as they are stored.
            config.set("compression.type", "none");
        }
        self.pass_through(&mut config);
        let timeout = settings.produce_timeout.max(Duration::from_millis(100));
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", millis(timeout))
            .set("request.timeout.ms", millis(timeout))
            // How long a topic that the broker does not know (yet) is waited for.
            .set(
                "topic.metadata.propagation.max.ms",
                millis(timeout.min(Duration::from_secs(2))),
            )
            // Records are gathered before they come here. With one request at a time librdkafka would look at the queues of
            // all partitions again and again, without a pause, for as long as one is under way and others wait.
            .set("linger.ms", "0")
            .set(
                "queue.buffering.max.messages",
                settings.queue_messages.max(1).to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                (settings.queue_bytes >> 10).max(1).to_string(),
            )
            .set("message.max.bytes", self.max_request().to_string());
        let limits = Limits {
            record: settings.max_record_bytes,
            dead_letters: self.topics().dead_letters(),
            dead_letter: self.max_dead_letter(),
        };
        Producer::new(
            config,
            limits,
            settings.linger,
            settings.queue_messages.max(1),
            self.guard(),
        )
    }

    /// A new member of a group. Must be called on a tokio runtime.
    pub fn group_consumer(&self, options: GroupOptions) -> Result<GroupConsumer, KafkaError> {
        let mut config = self.consumer(&options.client_id, options.queued_bytes);
        config
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", options.partition_eof.to_string());
        if let Some(wait) = options.fetch_wait {
            config.set("fetch.wait.max.ms", millis(wait));
        }
        GroupConsumer::new(&config, options, self.guard())
    }

    /// A new consumer of the replies topic that reads nothing yet. Must be called on a tokio runtime.
    pub fn assigned_consumer(&self, client_id: &str) -> Result<AssignedConsumer, KafkaError> {
        self.assigned_consumer_of(&self.topics().replies(), client_id)
    }

    /// The same for any topic.
    pub fn assigned_consumer_of(
        &self,
        topic: &str,
        client_id: &str,
    ) -> Result<AssignedConsumer, KafkaError> {
        AssignedConsumer::new(&self.hand_assigned(client_id), topic.to_owned())
    }

    /// The same for any topic, telling of the ends of partitions.
    pub fn assigned_consumer_with_ends(
        &self,
        topic: &str,
        client_id: &str,
    ) -> Result<AssignedConsumer, KafkaError> {
        let mut config = self.hand_assigned(client_id);
        config.set("enable.partition.eof", "true");
        AssignedConsumer::new(&config, topic.to_owned())
    }

    pub(crate) fn hand_assigned(&self, client_id: &str) -> ClientConfig {
        let mut config = self.consumer(client_id, AHEAD);
        // Needed to be a consumer at all; nobody joins it and nothing is committed to it.
        config
            .set(
                "group.id",
                format!("{}hand-assigned", self.topics().prefix()),
            )
            .set("auto.offset.reset", "earliest");
        config
    }

    /// Asks whether the cluster can be reached, and for its id. Ends within about `limit`, and never holds up the
    /// runtime.
    pub async fn probe(&self, limit: Duration) -> Result<ClusterInfo, KafkaError> {
        let topic = self.topics().replies();
        self.ask(limit, move |client| {
            let metadata = client
                .fetch_metadata(Some(&topic), limit)
                .map_err(KafkaError::call)?;
            let cluster_id = client
                .client()
                .fetch_cluster_id(limit)
                .ok_or_else(|| KafkaError::Unavailable("no cluster id yet".to_owned()))?;
            Ok(ClusterInfo {
                cluster_id,
                brokers: metadata.brokers().len(),
            })
        })
        .await
    }

    /// How many partitions a topic has; `None` if there is no such topic. Asks for nothing else, so that the embedded
    /// broker of another process answers too.
    pub async fn partitions(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let (limit, names) = (admin::LIMIT, [topic.to_owned()]);
        let infos = self
            .ask(limit, move |client| {
                admin::partitions(client, &names, limit)
            })
            .await?;
        Ok(infos.first().map(|info| info.partitions))
    }

    /// The topics of that list that are there.
    pub async fn describe(&self, topics: &[String]) -> Result<Vec<TopicInfo>, KafkaError> {
        let limit = admin::LIMIT;
        let names = topics.to_vec();
        let (infos, embedded) = self
            .ask(limit, move |client| {
                let infos = admin::partitions(client, &names, limit)?;
                let id = client.client().fetch_cluster_id(limit);
                Ok((infos, id.is_some_and(|id| id.starts_with(EMBEDDED_ID))))
            })
            .await?;
        // It does not answer such questions, also not to other processes.
        if embedded || self.is_embedded() {
            return Ok(infos);
        }
        admin::settings(&self.admin_config(), infos).await
    }

    /// The topics of a plan as they are, if they are good enough for the durability that is asked for.
    ///
    /// # Errors
    /// `Wrong` names the first problem and its mend; `Unknown` says nothing about the topics.
    pub async fn check_topics(&self, plan: &[TopicPlan]) -> Result<Vec<TopicInfo>, TopicsError> {
        let names: Vec<_> = plan.iter().map(|topic| topic.name.clone()).collect();
        let found = self.describe(&names).await?;
        check_topics(plan, &found, self.settings().durability)?;
        Ok(found)
    }

    /// Takes topics away, with all that is in them. Not on the embedded broker.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<(), KafkaError> {
        admin::delete(&self.admin_config(), topics).await
    }

    /// Whether the topics serve job types that take the place of others: those of new pools must be there, and
    /// longer deadlines be kept. Asks nobody if the new types need no more than the old.
    pub async fn check_new_types(&self, old: &JobTypes, new: &JobTypes) -> Result<(), TopicsError> {
        match more_topics(self.settings(), old, new) {
            Some(plan) => self.check_topics(&plan).await.map(drop),
            None => Ok(()),
        }
    }

    /// Makes the topics that are missing. What is there stays as it is.
    pub async fn create_topics(
        &self,
        plan: &[TopicPlan],
    ) -> Result<Vec<(String, CreateOutcome)>, KafkaError> {
        if let Some(embedded) = &self.inner.embedded {
            return embedded.mock.create_topics(plan).await;
        }
        let names: Vec<_> = plan.iter().map(|topic| topic.name.clone()).collect();
        let limit = admin::LIMIT;
        let there = self
            .ask(limit, move |client| {
                admin::partitions(client, &names, limit)
            })
            .await?;
        admin::create(&self.admin_config(), plan, &there).await
    }

    /// Whether the broker is the one in this process.
    pub(crate) fn is_embedded(&self) -> bool {
        self.inner.embedded.is_some()
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&Asking) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = self.asking()?;
        let asked = tokio::task::spawn_blocking(move || {
            // Served here because nobody polls this client: errors and logs would pile up.
            let serve = || {
                for _ in 0..EVENTS {
                    let _ = client.poll(Duration::ZERO);
                }
            };
            serve();
            let trouble = &client.context().trouble;
            trouble.forget();
            call(&client).map_err(|error| {
                serve();
                trouble.explain(error)
            })
        });
        match tokio::time::timeout(limit * 2 + Duration::from_millis(200), asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(KafkaError::Unavailable(error.to_string())),
            Err(_) => Err(KafkaError::Unavailable("no answer in time".to_owned())),
        }
    }

    fn asking(&self) -> Result<Arc<Asking>, KafkaError> {
        let mut kept = self
            .inner
            .asking
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(client) = &*kept
            && !client.context().contact.is_lost()
        {
            return Ok(client.clone());
        }
        let mut config = self.admin_config();
        let contact = Contact::of(&mut config);
        let client: Asking = config
            .create_with_context(Questions {
                contact,
                trouble: Trouble::default(),
            })
            .map_err(|error| KafkaError::Settings(error.to_string()))?;
        let client = Arc::new(client);
        if let Some(lost) = kept.replace(client.clone()) {
            tracing::warn!("a kafka client had lost its brokers for good and was made anew");
            // It may take long to end.
            let ended = std::thread::Builder::new().spawn(move || drop(lost));
            drop(ended);
        }
        Ok(client)
    }

    fn guard(&self) -> Option<Arc<MemoryGuard>> {
        self.inner
            .embedded
            .as_ref()
            .map(|embedded| embedded.guard.clone())
    }

    /// Dead letters carry a record whole: up to twice the limit of the others.
    fn max_dead_letter(&self) -> usize {
        self.settings().max_record_bytes.saturating_mul(2)
    }

    fn max_request(&self) -> usize {
        (self.max_dead_letter() + (64 << 10)).clamp(1_000, 1_000_000_000)
    }

    fn base(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("client.id", client_id)
            .set("bootstrap.servers", &self.settings().brokers)
            .set("log.connection.close", "false")
            .set("allow.auto.create.topics", "false")
            // A broker that comes back is found within a second or two.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("metadata.max.age.ms", "30000");
        config
    }

    fn pass_through(&self, config: &mut ClientConfig) {
        for (key, value) in &self.settings().librdkafka {
            config.set(key, value.expose());
        }
    }

    pub(crate) fn admin_config(&self) -> ClientConfig {
        let mut config = self.base("tidegate-admin");
        self.pass_through(&mut config);
        config
    }

    /// For asking what a group has committed, without being a member of it.
    pub(crate) fn reading_as(&self, group: &str) -> ClientConfig {
        let mut config = self.admin_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false");
        config
    }

    fn consumer(&self, client_id: &str, queued_bytes: usize) -> ClientConfig {
        let session = self
            .settings()
            .session_timeout
            .max(Duration::from_millis(100));
        let embedded = self.inner.embedded.is_some();
        let mut config = self.base(client_id);
        config
            // The mock answers a fetch only when this has run out.
            .set("fetch.wait.max.ms", if embedded { "3" } else { "100" })
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "100")
            .set("queued.min.messages", "10000")
            .set(
                "queued.max.messages.kbytes",
                (queued_bytes >> 10).max(1).to_string(),
            )
            // Of one partition, as compressed as it lies there: what it expands to is held, whatever the other limits say.
            // A larger record comes all the same, alone.
            .set("fetch.message.max.bytes", (256 << 10).to_string())
            // One answer of a broker, over all partitions: else 50 MB come at once after an outage.
            .set(
                "fetch.max.bytes",
                queued_bytes.clamp(4 << 20, 64 << 20).to_string(),
            );
        self.pass_through(&mut config);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("session.timeout.ms", millis(session))
            .set("heartbeat.interval.ms", millis(session / 4));
        config
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
