//! What a scheduler waits for before it begins, looks at while it runs, and does at its end.

use std::sync::atomic::Ordering;

use tidegate_kafka::TopicsError;
use tidegate_runtime::{Shutdown, Stage, retry_forever};
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Running, Scheduler};

impl Scheduler {
    /// Waits for broker, topics and orders; the registry, which only the dead letters need, comes up by itself. `None` if told to
    /// stop before.
    pub(crate) async fn bring_up(&self, stop: &CancellationToken) -> Option<()> {
        let (codec, registry) = (self.mover.codec.clone(), self.conditions.registry.clone());
        let until = stop.clone();
        tokio::spawn(async move { retry_forever(&registry, &until, || codec.warm_up()).await });
        self.watch.reach(stop).await?;
        let partitions = self.watch.find(stop, || self.look_at_topics()).await?;
        // A job that was called off before this scheduler came is not to be moved on.
        let read = || self.orders.catch_up(partitions);
        retry_forever(&self.conditions.control, stop, read).await
    }

    /// The partitions of the control topic, or the first thing that is wrong with the topics.
    pub(crate) async fn look_at_topics(&self) -> Result<i32, TopicsError> {
        let topics = self.cluster.topics();
        let (replies, control) = (topics.replies(), topics.control());
        let mut partitions = 0;
        for topic in self.watch.look(&self.plan).await? {
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
