//! Which reply partitions there are: a reply to one that is not there would be tried for ever.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use tidegate_kafka::{Cluster, KafkaError};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::outbox::Stopped;

/// A record that names a partition beyond what is known makes us ask again, but no oftener than this.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The number of partitions of the replies topic. It only ever grows.
pub(crate) struct Replies {
    cluster: Cluster,
    topic: String,
    partitions: AtomicI32,
    asked: Mutex<Option<Instant>>,
}

impl Replies {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            topic: cluster.topics().replies(),
            cluster,
            partitions: AtomicI32::new(0),
            asked: Mutex::new(None),
        }
    }

    /// How many there are, as far as is known.
    pub(crate) fn partitions(&self) -> i32 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Notes what somebody else found out.
    pub(crate) fn learn(&self, partitions: i32) {
        self.partitions.fetch_max(partitions, Ordering::Relaxed);
    }

    /// Whether the partition exists. Waits while the broker cannot be asked.
    pub(crate) async fn exists(
        &self,
        partition: i32,
        stop: &CancellationToken,
    ) -> Result<bool, Stopped> {
        loop {
            if partition < self.partitions() {
                return Ok(partition >= 0);
            }
            match self.ask().await {
                Ok(()) => return Ok((0..self.partitions()).contains(&partition)),
                Err(error) => tracing::warn!(%error, "the replies topic cannot be described"),
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn ask(&self) -> Result<(), KafkaError> {
        // One asks, the others wait for its answer.
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return Ok(());
        }
        let found = self
            .cluster
            .describe(std::slice::from_ref(&self.topic))
            .await?;
        for topic in found.iter().filter(|topic| topic.name == self.topic) {
            self.learn(topic.partitions);
        }
        *asked = Some(Instant::now());
        Ok(())
    }
}
