//! librdkafka's mock cluster, kept on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::sync::oneshot;

use super::memory::MemoryGuard;
use crate::cluster::{Cluster, Embedded};
use crate::error::{KafkaError, describe};
use crate::settings::{Durability, KafkaSettings};
use crate::topics::{CreateOutcome, TopicPlan};

/// A broker in this process. It holds 5 MiB a partition, forgets on exit, and lives as long as this or any
/// [`Cluster`] of it.
pub struct EmbeddedBroker {
    bootstrap: String,
    cluster: Cluster,
    mock: Mock,
}

impl EmbeddedBroker {
    /// Starts a broker with these topics, under default settings.
    pub fn start(plan: &[TopicPlan]) -> Result<Self, KafkaError> {
        Self::start_with(KafkaSettings::default(), plan)
    }

    /// The same with settings for the clients. `brokers` and `durability` become what they must be here.
    pub fn start_with(settings: KafkaSettings, plan: &[TopicPlan]) -> Result<Self, KafkaError> {
        let (mock, bootstrap) = Mock::start(plan.to_vec())?;
        let settings = KafkaSettings {
            brokers: bootstrap.clone(),
            durability: Durability::SingleBroker,
            ..settings
        };
        let embedded = Embedded {
            guard: Arc::new(MemoryGuard::default()),
            mock: mock.clone(),
        };
        Ok(Self {
            bootstrap,
            cluster: Cluster::build(settings, Some(embedded)),
            mock,
        })
    }

    /// `host:port` for other clients, such as `kcat`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The cluster. What is produced through it is counted: [`EmbeddedFull`](crate::ProduceError::EmbeddedFull)
    /// comes before this broker would have to drop unread records.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Makes the broker drop its connections and take none, or take them again: a broker that is away, for tests.
    pub async fn set_reachable(&self, reachable: bool) -> Result<(), KafkaError> {
        self.mock.set_reachable(reachable).await
    }
}

enum Command {
    Create(
        Vec<TopicPlan>,
        oneshot::Sender<Result<Vec<(String, CreateOutcome)>, KafkaError>>,
    ),
    Reachable(bool, oneshot::Sender<Result<(), KafkaError>>),
}

/// A handle to the thread of the mock cluster, which ends with the last handle.
#[derive(Clone)]
pub(crate) struct Mock {
    commands: Sender<Command>,
}

impl Mock {
    fn start(plan: Vec<TopicPlan>) -> Result<(Self, String), KafkaError> {
        let (commands, inbox) = channel();
        let (started, start) = channel();
        std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || {
                let mut mock = match Running::new() {
                    Ok(mock) => mock,
                    Err(error) => return drop(started.send(Err(error))),
                };
                if let Err(error) = mock.create(&plan) {
                    return drop(started.send(Err(error)));
                }
                let bootstrap = mock.cluster.bootstrap_servers();
                if started.send(Ok(bootstrap)).is_ok() {
                    mock.serve(&inbox);
                }
            })
            .map_err(|error| KafkaError::Settings(format!("embedded broker: {error}")))?;
        let bootstrap = start
            .recv()
            .map_err(|_| KafkaError::Settings("embedded broker did not start".to_owned()))??;
        Ok((Self { commands }, bootstrap))
    }

    pub(crate) async fn create_topics(
        &self,
        plan: &[TopicPlan],
    ) -> Result<Vec<(String, CreateOutcome)>, KafkaError> {
        let plan = plan.to_vec();
        self.call(|reply| Command::Create(plan, reply)).await
    }

    async fn set_reachable(&self, reachable: bool) -> Result<(), KafkaError> {
        self.call(|reply| Command::Reachable(reachable, reply))
            .await
    }

    async fn call<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, KafkaError>>) -> Command,
    ) -> Result<T, KafkaError> {
        let gone = || KafkaError::Unavailable("the embedded broker has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Running {
    cluster: MockCluster<'static, DefaultProducerContext>,
    topics: HashMap<String, i32>,
}

impl Running {
    fn new() -> Result<Self, KafkaError> {
        let cluster =
            MockCluster::new(1).map_err(|error| KafkaError::Settings(describe(&error)))?;
        Ok(Self {
            cluster,
            topics: HashMap::new(),
        })
    }

    /// Until the last handle is gone.
    fn serve(mut self, inbox: &Receiver<Command>) {
        while let Ok(command) = inbox.recv() {
            match command {
                Command::Create(plan, reply) => drop(reply.send(self.create(&plan))),
                Command::Reachable(up, reply) => {
                    let result = if up {
                        self.cluster.broker_up(-1)
                    } else {
                        self.cluster.broker_down(-1)
                    };
                    let result = result.map_err(|error| KafkaError::Refused(describe(&error)));
                    drop(reply.send(result));
                }
            }
        }
    }

    fn create(&mut self, plan: &[TopicPlan]) -> Result<Vec<(String, CreateOutcome)>, KafkaError> {
        let mut outcomes = Vec::with_capacity(plan.len());
        for planned in plan {
            let outcome = match self.topics.get(&planned.name) {
                Some(found) if *found < planned.partitions => CreateOutcome::TooFewPartitions {
                    found: *found,
                    planned: planned.partitions,
                },
                Some(_) => CreateOutcome::Exists,
                None => {
                    self.cluster
                        .create_topic(&planned.name, planned.partitions, 1)
                        .map_err(|error| {
                            KafkaError::Refused(format!(
                                "topic {}: {}",
                                planned.name,
                                describe(&error)
                            ))
                        })?;
                    self.topics.insert(planned.name.clone(), planned.partitions);
                    CreateOutcome::Created
                }
            };
            outcomes.push((planned.name.clone(), outcome));
        }
        Ok(outcomes)
    }
}
