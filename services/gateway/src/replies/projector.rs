//! Writes what the reader has queued into the store, batch by batch.
//!
//! A batch is retried until the store has answered, or until its partition is no longer ours. The answer goes
//! back to the reader as a [`Notice`]: it commits Kafka's offset as a hint for lag tools, or finds the right
//! position again when somebody else was faster.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_contract::now_millis;
use tidegate_runtime::metrics::Metrics;
use tidegate_store::{Projected, Store};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::OnProjected;
use super::batch::Taken;
use super::health::StoreHealth;
use super::queue::{Epoch, Queues};
use super::reader::Notice;

/// Records a transaction: enough to make its cost small a record, few enough to end within a second.
pub(crate) const BATCH: usize = 512;

/// Bytes of records a transaction. Each connection of the store keeps buffers for the largest that it has sent.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// From the begin of one transaction of a partition to that of the next, unless a whole batch is there before. A
/// transaction takes a few switches of threads and a write of the log, however little is in it; a status is not read
/// sooner than people or the ticks of watchers look.
const REST: Duration = Duration::from_millis(10);

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
    /// Told when there are follow-ups.
    pub on_follow_ups: Option<Arc<Notify>>,
    pub notices: mpsc::UnboundedSender<Notice>,
    pub projected: OnProjected,
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

impl Projector {
    /// Takes and writes batches until stopped. Several may run at once: a partition is only ever in one hand.
    pub async fn run(self, stop: CancellationToken) {
        let mut resting = VecDeque::<(Instant, i32, Epoch)>::new();
        loop {
            let now = Instant::now();
            while let Some((_, partition, epoch)) =
                resting.pop_front_if(|(until, ..)| *until <= now)
            {
                self.queues.rested(partition, epoch);
            }
            match self.queues.take(BATCH, BATCH_BYTES) {
                Some(taken) => {
                    let rest = (now + REST, taken.partition, taken.epoch);
                    tokio::select! {
                        () = self.write(taken) => resting.push_back(rest),
                        // Cut off in mid-transaction, a batch is rolled back; its offsets are read again later.
                        () = stop.cancelled() => return,
                    }
                }
                None => {
                    let until = resting.front().map(|(until, ..)| *until);
                    tokio::select! {
                        () = self.queues.filled() => {}
                        () = reached(until) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Writes one batch, for as long as its partition is ours.
    async fn write(&self, mut taken: Taken) {
        let batch = taken.batch(&self.cluster_id, now_millis());
        while self.queues.is_current(taken.partition, taken.epoch) {
            let begun = Instant::now();
            match self.store.project(batch.clone()).await {
                Ok(Projected::Applied(applied)) => {
                    self.health.succeeded();
                    (self.projected)(&batch.events);
                    let late = (applied.late + applied.buried) as usize;
                    self.metrics
                        .projected("applied", batch.events.len(), late, begun.elapsed());
                    for (job, reason) in &applied.refused {
                        tracing::error!(job_id = %job, reason, "the store refused the events of a job for good");
                    }
                    if applied.follow_ups > 0
                        && let Some(notify) = &self.on_follow_ups
                    {
                        notify.notify_one();
                    }
                    self.queues.applied(&taken);
                    #[cfg(feature = "sabotage")]
                    self.write_late(&taken, &batch);
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

    /// Writes a batch once more when its partition has another owner, as a process would that stood still in the middle of
    /// writing it: a moment that is too rare to wait for.
    #[cfg(feature = "sabotage")]
    fn write_late(&self, taken: &Taken, batch: &tidegate_store::Batch) {
        if !tidegate_contract::sabotage::is_on("skip-cas") || batch.next % 20 != 0 {
            return;
        }
        let (this, batch) = (self.clone(), batch.clone());
        let (partition, epoch) = (taken.partition, taken.epoch);
        tokio::spawn(async move {
            while this.queues.is_current(partition, epoch) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Until the other owner has written something.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let _ = this.store.project(batch).await;
        });
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more only when the gateway stops.
        let _ = self.notices.send(notice);
    }
}
