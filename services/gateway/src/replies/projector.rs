//! Writes what the reader has queued into the store, batch by batch.
//!
//! A batch is retried until the store has answered, or until its partition is no longer ours. The answer goes
//! back to the reader as a [`Notice`]: it commits Kafka's offset as a hint for lag tools, or finds the right
//! position again when somebody else was faster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::metrics::Metrics;
use tidegate_store::{Projected, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::health::StoreHealth;
use super::queue::{Queues, Taken};
use super::reader::Notice;

/// Records a transaction: enough to make its cost small a record, few enough to end within a second.
pub(crate) const BATCH: usize = 512;

/// Bytes of records a transaction. Each connection of the store keeps buffers for the largest that it has sent.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// The pause before a refused or failed batch is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// All that a projector task works with.
#[derive(Clone)]
pub(crate) struct Projector {
    pub queues: Arc<Queues>,
    pub store: Arc<dyn Store>,
    pub cluster_id: String,
    pub health: StoreHealth,
    pub metrics: Metrics,
    pub notices: mpsc::UnboundedSender<Notice>,
}

impl Projector {
    /// Takes and writes batches until stopped. Several may run at once: a partition is only ever in one hand.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match self.queues.take(BATCH, BATCH_BYTES) {
                Some(taken) => tokio::select! {
                    () = self.write(taken) => {}
                    // Cut off in mid-transaction, a batch is rolled back; its offsets are read again later.
                    () = stop.cancelled() => return,
                },
                None => tokio::select! {
                    () = self.queues.filled() => {}
                    () = stop.cancelled() => return,
                },
            }
        }
    }

    /// Writes one batch, for as long as its partition is ours.
    async fn write(&self, mut taken: Taken) {
        let batch = taken.batch(&self.cluster_id);
        while self.queues.is_current(taken.partition, taken.epoch) {
            let begun = Instant::now();
            match self.store.project(batch.clone()).await {
                Ok(Projected::Applied(applied)) => {
                    self.health.succeeded();
                    let late = (applied.late + applied.buried) as usize;
                    self.metrics
                        .projected("applied", batch.events.len(), late, begun.elapsed());
                    for (job, reason) in &applied.refused {
                        tracing::error!(job_id = %job, reason, "the store refused the events of a job for good");
                    }
                    self.queues.applied(&taken);
                    self.tell(Notice::Applied {
                        partition: taken.partition,
                        epoch: taken.epoch,
                        next: batch.next,
                        up_to: taken.entries.iter().rev().find_map(|entry| entry.timestamp),
                    });
                    return;
                }
                Ok(Projected::Stale { stored }) => {
                    self.health.succeeded();
                    self.metrics.projected("stale", 0, 0, begun.elapsed());
                    tracing::info!(
                        partition = taken.partition,
                        expected = batch.expected,
                        stored = stored.map(|position| position.next_offset),
                        "replies batch was not applied: the stored position is another one"
                    );
                    self.tell(Notice::Stale {
                        partition: taken.partition,
                        epoch: taken.epoch,
                    });
                    return;
                }
                Err(error) => {
                    self.health.failed(&error);
                    self.metrics.projected("failed", 0, 0, begun.elapsed());
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more only when the gateway stops.
        let _ = self.notices.send(notice);
    }
}
