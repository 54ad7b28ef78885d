//! What a worker waits for before it begins, looks at while it runs, and does at its end.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_kafka::{TopicsError, topic_plan};
use tidegate_runtime::{Shutdown, retry_forever};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::worker::{Running, Worker};

/// What is kept of the grace time for delivering outcomes and leaving the groups, at most.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Worker {
    /// Waits for broker, topics and registry. The partitions of every topic; `None` if told to stop before.
    pub(crate) async fn bring_up(&self, stop: &CancellationToken) -> Option<HashMap<String, i32>> {
        let registry = retry_forever(&self.conditions.registry, stop, || {
            self.engine.outbox.codec.warm_up()
        });
        let broker = async {
            self.watch.reach(stop).await?;
            let found = self.watch.find(stop, || self.look_at_topics()).await?;
            let topic = self.cluster.topics().control();
            let partitions = found.get(&topic).copied().unwrap_or_default();
            // A job that was called off before this worker came is not to be begun.
            let read = || self.orders.catch_up(partitions);
            retry_forever(&self.conditions.control, stop, read).await?;
            Some(found)
        };
        let (registry, found) = tokio::join!(registry, broker);
        registry.and(found)
    }

    /// The partitions of the topics that the worker needs, or the first thing that is wrong with them.
    pub(crate) async fn look_at_topics(&self) -> Result<HashMap<String, i32>, TopicsError> {
        let types = self.types.now();
        let deadlines = types.values().map(|spec| spec.deadline);
        let longest = deadlines.max().unwrap_or_default();
        let settings = self.cluster.settings();
        let plan = topic_plan(settings, &self.engine.settings.pools, longest);
        let found = self.watch.look(&plan).await?;
        let found: HashMap<_, _> = found
            .into_iter()
            .map(|topic| (topic.name, topic.partitions))
            .collect();
        let replies = found.get(&self.engine.outbox.topic).copied();
        self.engine.replies.learn(replies.unwrap_or_default());
        Ok(found)
    }

    /// The stop, within the grace time: what takes too long is cut off, stays uncommitted, and runs again elsewhere.
    pub(crate) async fn wind_down(&self, running: Running, shutdown: &Shutdown) {
        let grace = self.engine.settings.grace.min(shutdown.remaining());
        let last_words = LAST_WORDS.min(grace / 3);
        let until = Instant::now() + grace;
        tracing::info!(grace_ms = grace.as_millis(), "worker stops");
        for condition in [
            &self.conditions.broker,
            &self.conditions.topics,
            &self.conditions.registry,
            &self.conditions.control,
        ] {
            condition.fail("stopping");
        }
        running.stops.intake.cancel();
        self.engine.stopping.cancel();
        running.tasks.close();
        running.intakes.close();
        let drained = timeout_at(until - last_words, running.tasks.wait()).await;
        if drained.is_err() {
            tracing::warn!(
                tasks = running.tasks.len(),
                "grace time is up: what still runs is cut off and runs again elsewhere"
            );
            self.engine.abort.cancel();
            let delivered = timeout(last_words / 2, running.tasks.wait()).await;
            self.engine.outbox.stop.cancel();
            if delivered.is_err() {
                tracing::warn!(
                    "some outcomes were not acknowledged: their jobs run again elsewhere"
                );
                let _ = timeout(Duration::from_millis(200), running.tasks.wait()).await;
            }
        }
        // Whoever waits for what was cut off need not wait any longer.
        self.teller.say().await;
        let limit = until.saturating_duration_since(Instant::now());
        let producer = &self.engine.outbox.producer;
        if let Err(error) = producer.flush(limit.min(last_words)).await {
            tracing::warn!(%error, "the producer could not be flushed");
        }
        let _ = running.stops.leave_by.set(until);
        running.stops.leave.cancel();
        let limit = (until + Duration::from_secs(1)).saturating_duration_since(Instant::now());
        if timeout(limit, running.intakes.wait()).await.is_err() {
            tracing::warn!("a group was not left in time");
        }
        tracing::info!("worker has stopped");
    }
}
