//! What a cluster itself is asked: whether it is there, which topics it has, and that there be others.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tidegate_contract::JobTypes;

use super::Cluster;
use crate::admin;
use crate::contact::Contact;
use crate::error::{KafkaError, TopicsError};
use crate::topics::{CreateOutcome, TopicInfo, TopicPlan, check_topics, more_topics};
use crate::trouble::Trouble;

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

/// The client that asks: read by nobody but the calls themselves.
pub(super) type Asking = BaseConsumer<Questions>;

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
}
