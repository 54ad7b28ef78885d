//! An empty status store, filled from what lies in Kafka.
//!
//! The replies topic is projected as a gateway does it: the same judgement of records, the same batches, the same
//! compare-and-set ([`events`]). A job that has not said anything yet has no event, so before that every record on the
//! jobs topics makes a row ([`jobs`]), as its submit has done. Nothing is joined and nothing committed in Kafka; the
//! positions that the store has at the end are where gateways go on.

mod events;
mod jobs;

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::{JobId, Pool, Status, now_millis};
use tidegate_kafka::{Cluster, Codec, DecodeError, KafkaError, Place, Scan};
use tidegate_store::{Store, StoreError};

use events::Events;

/// The name in the broker's logs.
const CLIENT: &str = "tidegate-rebuild";
/// How long the store or the registry may be away before the rebuild is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before they are asked again.
const RETRY: Duration = Duration::from_millis(300);
/// What one call of the purge removes at most.
const PURGE: u32 = 1000;

/// What a rebuild works with.
pub struct Rebuild {
    pub cluster: Cluster,
    pub codec: Codec,
    /// Opened and empty.
    pub store: Arc<dyn Store>,
    /// Whose jobs topics are read.
    pub pools: Vec<Pool>,
}

/// Why a store was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(
        "the store is not empty: give a database of its own in store.url, or empty this one with its gateways stopped"
    )]
    NotEmpty,
    #[error("there is no topic {0}: check kafka.brokers and kafka.prefix")]
    NoTopic(String),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}; begin again with an empty database once it answers")]
    Registry(DecodeError),
}

/// A partition whose rest is left to the gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub partition: i32,
    /// The first offset that was not projected.
    pub from: i64,
    pub why: String,
}

/// What was read and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Records on the jobs topics.
    pub job_records: u64,
    /// Job records that make no row by themselves: unreadable, older than what the replies topic still tells, or with
    /// a reply partition that there is not.
    pub jobs_passed_over: u64,
    /// Records on the replies topic.
    pub reply_records: u64,
    /// Events that went into rows.
    pub applied: u64,
    /// Events after the end of their job.
    pub late: u64,
    /// Events of kinds that this version does not know.
    pub unknown: u64,
    /// Replies that cannot be read; gateways have set them aside.
    pub unreadable: u64,
    /// Jobs that the database refused, and why.
    pub refused: Vec<(JobId, String)>,
    /// Rows that were older than they are kept, and became tombstones.
    pub purged: u64,
    /// Partitions that are not projected to their end.
    pub left: Vec<Left>,
    /// Rows by status; `None` if they could not be counted in time.
    pub rows: Option<Vec<(Status, u64)>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub topic: Part,
    pub records: u64,
    /// At most: there may be gaps.
    pub of: u64,
}

/// What is read just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Jobs,
    Replies,
}

impl Rebuild {
    /// Fills the store; `progress` is called every few thousand records.
    ///
    /// # Errors
    /// A store that holds something, topics that are not there, servers that stay away. What was written by then stays.
    pub async fn run(self, mut progress: impl FnMut(Progress)) -> Result<Figures, RebuildError> {
        self.store.prepare().await?;
        if !self.store.is_empty().await? {
            return Err(RebuildError::NotEmpty);
        }
        let mut figures = Figures::default();
        // Whatever was produced before now lies before the ends that are looked up next.
        let begun = now_millis();
        let cluster_id = self.cluster.probe(PATIENCE).await?.cluster_id;
        let topic = self.cluster.topics().replies();
        let scan = Scan::of(&self.cluster, &topic, Place::Earliest, CLIENT).await?;
        let scan = scan.ok_or_else(|| RebuildError::NoTopic(topic.clone()))?;
        let told_since = self.told_since(&topic, scan.stretches(), begun).await?;
        self.jobs(&told_since, &mut figures, &mut progress).await?;
        let events = Events::new(&self, cluster_id, scan).await?;
        let whole = events.project(&mut figures, &mut progress).await?;
        let marks: Vec<_> = whole
            .into_iter()
            .map(|partition| (partition, begun))
            .collect();
        patiently(|| self.store.mark_caught_up(&marks)).await?;
        loop {
            let purged = patiently(|| self.store.purge(now_millis(), PURGE)).await?;
            figures.purged += purged.rows + purged.unfinished;
            if !purged.more {
                break;
            }
        }
        // The one call that reads everything: on a large table it may take longer than a call may.
        figures.rows = self.store.rows_by_status().await.ok();
        Ok(figures)
    }
}

/// Repeats a call of the store for as long as it is worth it.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let begun = tokio::time::Instant::now();
    loop {
        match call().await {
            Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => {
                tracing::warn!(%error, "trying again");
                tokio::time::sleep(RETRY).await;
            }
            other => return other,
        }
    }
}
