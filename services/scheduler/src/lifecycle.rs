//! What a scheduler waits for before it begins, watches while it runs, and does at its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_kafka::{Durability, TopicsError};
use tidegate_runtime::{Shutdown, Stage, retry_forever};
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Running, Scheduler};

/// How long the broker has for a sign of life.
const PROBE: Duration = Duration::from_secs(3);
/// How many probes pass between two looks at the topics.
const LOOK_AT_TOPICS: u32 = 15;

impl Scheduler {
    /// Waits for broker, topics and orders; the registry, which only the dead letters need, comes up by itself. `None` if told to
    /// stop before.
    pub(crate) async fn bring_up(&self, stop: &CancellationToken) -> Option<()> {
        let (codec, registry) = (self.mover.codec.clone(), self.conditions.registry.clone());
        let until = stop.clone();
        tokio::spawn(async move { retry_forever(&registry, &until, || codec.warm_up()).await });
        let broker = &self.conditions.broker;
        retry_forever(broker, stop, || self.cluster.probe(PROBE)).await?;
        let topics = &self.conditions.topics;
        let partitions = retry_forever(topics, stop, || self.look_at_topics()).await?;
        self.topics_are_good();
        // A job that was called off before this scheduler came is not to be moved on.
        let read = || self.orders.catch_up(partitions);
        retry_forever(&self.conditions.control, stop, read).await
    }

    /// The partitions of the control topic, or the first thing that is wrong with the topics.
    async fn look_at_topics(&self) -> Result<i32, TopicsError> {
        let topics = self.cluster.topics();
        let (replies, control) = (topics.replies(), topics.control());
        let mut partitions = 0;
        for topic in self.cluster.check_topics(&self.plan).await? {
            if let Some(retention) = topic.retention() {
                self.mover.metrics.topic_retention(&topic.name, retention);
            }
            if topic.name == replies {
                let known = &self.mover.replies;
                known.fetch_max(topic.partitions, Ordering::Relaxed);
            }
            if topic.name == control {
                partitions = topic.partitions;
            }
        }
        Ok(partitions)
    }

    fn topics_are_good(&self) {
        match self.cluster.settings().durability {
            Durability::SingleBroker => self
                .conditions
                .topics
                .ok_with("durability is single-broker: what the broker's disk loses is lost"),
            Durability::Replicated => self.conditions.topics.ok(),
        }
    }

    /// Keeps readiness true to the broker. Everything else goes on by itself when it comes back.
    pub(crate) async fn watch(&self, stop: &CancellationToken) {
        let mut probes = 0u32;
        loop {
            tokio::time::sleep(self.settings.probe_every).await;
            let queued = usize::try_from(self.producer.in_flight()).unwrap_or(0);
            self.mover.metrics.producer_queue(queued);
            if let Err(error) = self.cluster.probe(PROBE).await {
                self.conditions.broker.fail(error.to_string());
                tracing::warn!(%error, "the broker is away");
                let back =
                    retry_forever(&self.conditions.broker, stop, || self.cluster.probe(PROBE));
                if back.await.is_none() {
                    return;
                }
                probes = 0;
            }
            // What is not good is looked at with every probe, until it is mended.
            if !probes.is_multiple_of(LOOK_AT_TOPICS) || self.check_topics_again().await {
                probes = probes.wrapping_add(1);
            }
        }
    }

    /// Whether the topics are good. Nothing changes when they cannot be looked at: the broker has a condition of its
    /// own.
    async fn check_topics_again(&self) -> bool {
        match self.look_at_topics().await {
            Ok(_) => {
                self.topics_are_good();
                return true;
            }
            Err(TopicsError::Unknown(error)) => {
                tracing::debug!(%error, "the topics could not be looked at");
            }
            Err(TopicsError::Wrong(problem)) => {
                if self.conditions.topics.is_ok() {
                    tracing::warn!(%problem, "the topics are not as they should be");
                }
                self.conditions.topics.fail(problem.to_string());
            }
        }
        false
    }

    /// The stop, within the grace time: what has not arrived by then stays uncommitted, and is moved again by others.
    pub(crate) async fn wind_down(&self, running: Running, shutdown: &Shutdown) {
        tracing::info!("scheduler stops");
        for condition in [
            &self.conditions.broker,
            &self.conditions.topics,
            &self.conditions.registry,
            &self.conditions.control,
        ] {
            condition.fail("stopping");
        }
        running.stops.intake.cancel();
        running.tasks.close();
        running.rungs.close();
        let half = shutdown.remaining() / 2;
        let drained = tokio::time::timeout(half, running.tasks.wait());
        let drained = shutdown.stage(Stage::Drain, drained).await;
        if !matches!(drained, Some(Ok(()))) {
            tracing::warn!(
                records = running.tasks.len(),
                "some records did not arrive in time: they are moved again"
            );
            self.mover.stop.cancel();
        }
        let limit = shutdown.remaining() / 2;
        shutdown
            .stage(Stage::FlushProducer, async {
                if let Err(error) = self.producer.flush(limit).await {
                    tracing::warn!(%error, "the producer could not be flushed");
                }
            })
            .await;
        running.stops.leave.cancel();
        shutdown
            .stage(Stage::LeaveGroup, running.rungs.wait())
            .await;
        tracing::info!("scheduler has stopped");
    }
}
