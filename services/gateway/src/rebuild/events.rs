//! The replies topic from its beginning to its end, projected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidegate_contract::{JobEvent, now_millis};
use tidegate_kafka::{Codec, DecodeError, Record, Scan};
use tidegate_store::{Applied, Batch, Position, Projected, Store, StoreError};

use super::{Figures, Left, PATIENCE, Part, Progress, RETRY, Rebuild, RebuildError, patiently};
use crate::replies::batch::{Entry, Taken, first_batch};
use crate::replies::judge::{Problem, judge};
use crate::replies::projector::{BATCH, BATCH_BYTES};
use crate::replies::queue::{Epoch, Queues};

/// What is read before it is written: enough for full batches of many partitions, and no more bytes than a gateway
/// queues for one partition, so that a batch is written within the time of one call.
const FILL_RECORDS: usize = 16_384;
const FILL_BYTES: usize = 8 << 20;
/// Transactions at once, one a partition.
const WRITERS: usize = 4;

pub(super) struct Events {
    scan: Scan,
    codec: Codec,
    store: Arc<dyn Store>,
    cluster_id: String,
    queues: Queues,
    epochs: BTreeMap<i32, Epoch>,
    /// How far gateways have come: what they could not read before that, they have set aside.
    judged: BTreeMap<i32, i64>,
    left: Vec<Left>,
}

impl Events {
    pub async fn new(
        rebuild: &Rebuild,
        cluster_id: String,
        scan: Scan,
    ) -> Result<Self, RebuildError> {
        let (topics, count) = (rebuild.cluster.topics(), scan.stretches().len());
        let (group, topic) = (topics.gateway_group(), topics.replies());
        let partitions = i32::try_from(count).unwrap_or(i32::MAX);
        let judged = rebuild
            .cluster
            .committed(&group, &topic, partitions, PATIENCE);
        Ok(Self {
            judged: judged.await?,
            scan,
            codec: rebuild.codec.clone(),
            store: rebuild.store.clone(),
            cluster_id,
            queues: Queues::new(usize::MAX),
            epochs: BTreeMap::new(),
            left: Vec::new(),
        })
    }

    /// Projects everything, and gives the partitions that were projected to their end.
    pub async fn project(
        mut self,
        figures: &mut Figures,
        progress: &mut impl FnMut(Progress),
    ) -> Result<BTreeSet<i32>, RebuildError> {
        self.open().await?;
        let of = self.scan.records().unsigned_abs();
        while self.fill(figures).await? {
            self.drain(figures).await?;
            let records = figures.reply_records;
            progress(Progress {
                topic: Part::Replies,
                records,
                of,
            });
        }
        self.drain(figures).await?;
        let left: BTreeSet<_> = self.left.iter().map(|left| left.partition).collect();
        figures.left = self.left;
        let all = self.scan.stretches().keys().copied();
        Ok(all.filter(|partition| !left.contains(partition)).collect())
    }

    /// Makes the position of every partition, where the log begins.
    async fn open(&mut self) -> Result<(), RebuildError> {
        for (partition, stretch) in self.scan.stretches().clone() {
            let batch = first_batch(partition, &self.cluster_id, stretch.low);
            match write(&*self.store, batch).await? {
                Projected::Applied(_) => {
                    let epoch = self.queues.open(partition, stretch.low);
                    self.epochs.insert(partition, epoch);
                }
                Projected::Stale { .. } => self.taken_over(partition, stretch.low),
            }
        }
        Ok(())
    }

    /// Reads until there is enough to write; `false` if there is nothing more to read.
    async fn fill(&mut self, figures: &mut Figures) -> Result<bool, RebuildError> {
        let mut records = 0;
        while records < FILL_RECORDS && self.queues.bytes() < FILL_BYTES {
            let Some(record) = self.scan.next().await? else {
                return Ok(false);
            };
            let partition = record.partition;
            let Some(epoch) = self.epochs.get(&partition).copied() else {
                continue; // Left: this record was on its way already.
            };
            let event = match self.judge(&record).await? {
                Ok(event) => Some(event),
                Err(problem)
                    if record.offset < self.judged.get(&partition).copied().unwrap_or(0) =>
                {
                    tracing::debug!(partition, offset = record.offset, why = %problem.why, "passed over");
                    figures.unreadable += 1;
                    None
                }
                Err(problem) => {
                    let why = format!("no gateway has set its record aside yet ({})", problem.why);
                    self.leave(partition, record.offset, why);
                    continue;
                }
            };
            figures.reply_records += 1;
            records += 1;
            self.queues
                .push(partition, epoch, Entry::new(&record, event));
        }
        Ok(true)
    }

    /// The gateways' own judgement, for as long as the registry may take.
    async fn judge(&self, record: &Record) -> Result<Result<JobEvent, Problem>, RebuildError> {
        let begun = tokio::time::Instant::now();
        loop {
            let decoded = match &record.payload {
                Some(payload) => self.codec.decode_event(payload).await,
                None => Err(DecodeError::Malformed("it has no value".to_owned())),
            };
            match decoded {
                Err(error @ DecodeError::RegistryUnavailable(_)) => {
                    if begun.elapsed() >= PATIENCE {
                        return Err(RebuildError::Registry(error));
                    }
                    tokio::time::sleep(RETRY).await;
                }
                decoded => return Ok(judge(record, decoded)),
            }
        }
    }

    /// Writes all that was read.
    async fn drain(&mut self, figures: &mut Figures) -> Result<(), RebuildError> {
        let mut writing = FuturesUnordered::new();
        loop {
            while writing.len() < WRITERS
                && let Some(mut taken) = self.queues.take(BATCH, BATCH_BYTES)
            {
                // Whoever asked for it was told of these ends when they came.
                let batch = Batch {
                    follow_ups: None,
                    ..taken.batch(&self.cluster_id, now_millis())
                };
                let (store, events) = (self.store.clone(), batch.events.len() as u64);
                writing.push(async move { (write(&*store, batch).await, taken, events) });
            }
            let Some((written, taken, events)) = writing.next().await else {
                return Ok(());
            };
            match written? {
                Projected::Applied(applied) => {
                    self.queues.applied(&taken);
                    count(figures, events, applied);
                }
                Projected::Stale { .. } => self.stale(&taken),
            }
        }
    }

    fn stale(&mut self, taken: &Taken) {
        self.queues.close(taken.partition);
        self.taken_over(taken.partition, taken.expected);
    }

    fn taken_over(&mut self, partition: i32, from: i64) {
        // One sentence a partition: what was read of it before it was left may still come to be written.
        if !self.left.iter().any(|left| left.partition == partition) {
            self.leave(
                partition,
                from,
                "a gateway projects it into this store".to_owned(),
            );
        }
    }

    fn leave(&mut self, partition: i32, from: i64, why: String) {
        self.scan.leave(partition);
        self.epochs.remove(&partition);
        self.left.push(Left {
            partition,
            from,
            why,
        });
    }
}

/// Writes a batch. A call that was made although it seemed to fail finds its own position when it is repeated.
async fn write(store: &dyn Store, batch: Batch) -> Result<Projected, StoreError> {
    let mut tries = 0;
    let written = patiently(|| {
        tries += 1;
        store.project(batch.clone())
    });
    match written.await? {
        Projected::Stale { stored: Some(at) } if tries > 1 && is_behind(&at, &batch) => {
            Ok(Projected::Applied(Applied::default()))
        }
        written => Ok(written),
    }
}

fn is_behind(at: &Position, batch: &Batch) -> bool {
    at.next_offset == batch.next
        && at.last_key == batch.last_key
        && at.cluster_id == batch.cluster_id
}

fn count(figures: &mut Figures, events: u64, applied: Applied) {
    let dropped = applied.late + applied.buried + applied.skipped;
    figures.applied += events.saturating_sub(dropped);
    figures.late += applied.late + applied.buried;
    figures.unknown += applied.skipped;
    figures.refused.extend(applied.refused);
}
