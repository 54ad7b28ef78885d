//! Keeps a role's conditions `broker` and `topics` true to its cluster, from its start to its end.

use std::fmt::Display;
use std::time::Duration;

use tidegate_runtime::{Condition, Metrics, retry_forever};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, ClusterInfo};
use crate::error::TopicsError;
use crate::producer::Producer;
use crate::settings::Durability;
use crate::topics::{TopicInfo, TopicPlan};

/// What `readyz` repeats about the weaker durability.
const SINGLE_BROKER: &str =
    "kafka.durability is single-broker: what the disk of one broker loses is lost";

/// How often is looked, and when the broker counts as away.
#[derive(Clone, Copy, Debug)]
pub struct WatchPace {
    /// Between two signs of life that the broker is asked for.
    pub probe_every: Duration,
    /// What it has for one.
    pub probe_limit: Duration,
    /// So many that fail in a row make it away.
    pub failures: u32,
    /// Between two looks at topics that are good.
    pub look_every: Duration,
    /// Between two looks at topics that are not.
    pub look_again: Duration,
}

impl WatchPace {
    /// For a role that can wait: one failure is enough, and what is good is looked at with every fifteenth probe.
    pub fn of(probe_every: Duration) -> Self {
        Self {
            probe_every,
            probe_limit: Duration::from_secs(3),
            failures: 1,
            look_every: probe_every * 15,
            look_again: probe_every,
        }
    }
}

/// What a role's readiness knows of its cluster.
pub struct ClusterWatch {
    cluster: Cluster,
    producer: Producer,
    metrics: Metrics,
    broker: Condition,
    topics: Condition,
    pace: WatchPace,
    /// Told when the broker is back.
    back: Notify,
}

impl ClusterWatch {
    /// Asks nobody yet.
    pub fn new(
        cluster: Cluster,
        producer: Producer,
        metrics: Metrics,
        (broker, topics): (Condition, Condition),
        pace: WatchPace,
    ) -> Self {
        Self {
            cluster,
            producer,
            metrics,
            broker,
            topics,
            pace,
            back: Notify::new(),
        }
    }

    /// Waits until the broker answers. `None` if told to stop before.
    pub async fn reach(&self, stop: &CancellationToken) -> Option<ClusterInfo> {
        let probe = || self.cluster.probe(self.pace.probe_limit);
        retry_forever(&self.broker, stop, probe).await
    }

    /// Waits until the topics are good: what `look` has found then. `None` if told to stop before.
    pub async fn find<T, E, F, Fut>(&self, stop: &CancellationToken, look: F) -> Option<T>
    where
        E: Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let found = retry_forever(&self.topics, stop, look).await?;
        self.topics_are_good();
        Some(found)
    }

    /// The topics of a plan as they are, if they are good enough; how long they keep records is told on the way.
    ///
    /// # Errors
    /// As [`Cluster::check_topics`].
    pub async fn look(&self, plan: &[TopicPlan]) -> Result<Vec<TopicInfo>, TopicsError> {
        let found = self.cluster.check_topics(plan).await?;
        for topic in &found {
            if let Some(retention) = topic.retention() {
                self.metrics.topic_retention(&topic.name, retention);
            }
        }
        Ok(found)
    }

    /// Watches both, until dropped. Everything else goes on by itself when the broker comes back.
    pub async fn follow<T, F, Fut>(&self, look: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, TopicsError>>,
    {
        tokio::join!(self.follow_broker(), self.follow_topics(look));
    }

    /// Asks the broker for signs of life, until dropped.
    pub async fn follow_broker(&self) {
        let mut failures = 0u32;
        loop {
            let queued = usize::try_from(self.producer.in_flight()).unwrap_or(0);
            self.metrics.producer_queue(queued);
            match self.cluster.probe(self.pace.probe_limit).await {
                Ok(_) => {
                    self.broker.ok();
                    if failures >= self.pace.failures {
                        tracing::info!("the broker answers again");
                        self.back.notify_one();
                    }
                    failures = 0;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == self.pace.failures {
                        tracing::warn!(%error, "the broker is away");
                    }
                    if failures >= self.pace.failures || !self.broker.is_ok() {
                        self.broker.fail(error.to_string());
                    }
                }
            }
            tokio::time::sleep(self.pace.probe_every).await;
        }
    }

    /// Looks at the topics now and then, and when the broker is back, until dropped.
    pub async fn follow_topics<T, F, Fut>(&self, mut look: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, TopicsError>>,
    {
        let mut good = true;
        loop {
            let pause = match good {
                true => self.pace.look_every,
                false => self.pace.look_again,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.back.notified() => {}
            }
            // That says enough.
            if !self.broker.is_ok() {
                continue;
            }
            good = self.judge(look().await);
        }
    }

    /// Whether the topics are good. Nothing changes when they cannot be looked at: the broker has a condition of its own.
    fn judge<T>(&self, looked: Result<T, TopicsError>) -> bool {
        match looked {
            Ok(_) => {
                self.topics_are_good();
                return true;
            }
            Err(TopicsError::Unknown(error)) => {
                tracing::debug!(%error, "the topics could not be looked at");
            }
            Err(TopicsError::Wrong(problem)) => {
                if self.topics.is_ok() {
                    tracing::warn!(%problem, "the topics are not as they should be");
                }
                self.topics.fail(problem.to_string());
            }
        }
        false
    }

    fn topics_are_good(&self) {
        match self.cluster.settings().durability {
            Durability::SingleBroker => self.topics.ok_with(SINGLE_BROKER),
            Durability::Replicated => self.topics.ok(),
        }
    }
}
