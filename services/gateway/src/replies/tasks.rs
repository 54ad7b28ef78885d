//! What the reader has done aside because it takes time: asking the store and the broker, waiting for the
//! registry, setting records aside. Each task ends with its assignment and reports by a [`Notice`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tidegate_contract::{JobEvent, JobId, Millis};
use tidegate_kafka::{AssignedConsumer, DecodeError, GroupConsumer, Record};
use tidegate_store::{Projected, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::batch::first_batch;
use super::health::StoreHealth;
use super::judge::{Problem, judge};
use super::opening::{self, LogRange, Opening};
use super::queue::Epoch;
use super::reader::{Notice, Settled};
use super::unreadable::SetAside;

/// The pause before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// The answer to [`Tasks::open`].
#[derive(Debug)]
pub(crate) struct Opened {
    /// The assignment that asked; an answer to an earlier one is cancelled.
    pub assignment: CancellationToken,
    pub opening: Opening,
    /// One past the last record of the partition when it was opened.
    pub high: i64,
}

/// Records of jobs that are waited for and whose schema must be asked for, with those that came after: the first end of
/// a job counts, so none of its records may overtake another.
pub(crate) type Undecided = Arc<Mutex<HashMap<JobId, VecDeque<(Record, Instant)>>>>;

#[derive(Clone)]
pub(crate) struct Tasks {
    pub shared: Arc<Shared>,
    pub group: Arc<GroupConsumer>,
    pub side: Arc<AssignedConsumer>,
    pub store: Arc<dyn Store>,
    pub health: StoreHealth,
    pub cluster_id: String,
    pub set_aside: SetAside,
    pub notices: mpsc::UnboundedSender<Notice>,
    pub undecided: Undecided,
    /// A mark is being written.
    pub marking: Arc<AtomicBool>,
    /// Everything that runs, so that a stop can wait for it.
    pub running: TaskTracker,
}

impl Tasks {
    /// Finds out where a partition stands in the store, and puts the group consumer there.
    pub fn open(&self, partition: i32, assignment: CancellationToken) {
        let tasks = self.clone();
        self.spawn(assignment.clone(), async move {
            loop {
                match tasks.try_open(partition).await {
                    Ok((opening, high)) => {
                        let opened = Opened {
                            assignment,
                            opening,
                            high,
                        };
                        tasks.tell(Notice::Opened { partition, opened });
                        return;
                    }
                    Err(reason) => {
                        tracing::warn!(partition, reason, "replies partition cannot be opened yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
    }

    async fn try_open(&self, partition: i32) -> Result<(Opening, i64), String> {
        let stored = self.store.position(partition).await.map_err(|error| {
            self.health.failed(&error);
            error.to_string()
        })?;
        let (low, high) = self
            .group
            .watermarks(partition)
            .await
            .map_err(|error| error.to_string())?;
        let opening = opening::judge(
            partition,
            stored.as_ref(),
            &self.cluster_id,
            LogRange { low, high },
        );
        let start = match &opening {
            Opening::Refuse(_) => return Ok((opening, high)),
            Opening::Fresh { from } => {
                self.found(partition, *from).await?;
                *from
            }
            Opening::Resume { from } => *from,
            Opening::Verify { offset, .. } => *offset,
        };
        self.group
            .seek(partition, start)
            .await
            .map_err(|error| error.to_string())?;
        Ok((opening, high))
    }

    /// Makes the position of a partition that has none.
    async fn found(&self, partition: i32, from: i64) -> Result<(), String> {
        let batch = first_batch(partition, &self.cluster_id, from);
        match self.store.project(batch).await {
            Ok(Projected::Applied(_)) => Ok(()),
            Ok(Projected::Stale { .. }) => Err("another gateway has just begun with it".to_owned()),
            Err(error) => {
                self.health.failed(&error);
                Err(error.to_string())
            }
        }
    }

    /// Decodes a record with the registry's help, or sets it aside if it cannot be read.
    pub fn settle(
        &self,
        record: Record,
        problem: Option<Problem>,
        epoch: Epoch,
        assignment: CancellationToken,
    ) {
        let tasks = self.clone();
        self.spawn(assignment.clone(), async move {
            let judged = match problem {
                Some(problem) => Err(problem),
                None => tasks.read(&record).await,
            };
            let event = match judged {
                Ok(event) => Some(event),
                Err(problem) => {
                    let kept = tasks.set_aside.record(&record, &problem, &assignment);
                    if kept.await.is_err() {
                        return;
                    }
                    None
                }
            };
            tasks.tell(Notice::Settled(Box::new(Settled {
                epoch,
                record,
                event,
            })));
        });
    }

    /// Decodes for as long as it takes the registry to come back, and judges.
    async fn read(&self, record: &Record) -> Result<JobEvent, Problem> {
        let payload = record.payload.as_deref().unwrap_or_default();
        loop {
            match self.shared.codec.decode_event(payload).await {
                Err(DecodeError::RegistryUnavailable(reason)) => {
                    tracing::warn!(
                        reason,
                        "a reply needs a schema that the registry cannot give now"
                    );
                    tokio::time::sleep(RETRY).await;
                }
                decoded => return judge(record, decoded),
            }
        }
    }

    /// Completes the wait for a record of that job which was not decoded on the way: at once if its schema is known.
    pub fn offer(&self, id: JobId, record: Record) {
        let received = Instant::now();
        {
            let mut undecided = self.undecided();
            if let Some(behind) = undecided.get_mut(&id) {
                behind.push_back((record, received));
                return;
            }
            let payload = record.payload.as_deref().unwrap_or_default();
            match self.shared.codec.decode_event(payload).now_or_never() {
                None | Some(Err(DecodeError::RegistryUnavailable(_))) => {
                    undecided.insert(id, VecDeque::new());
                }
                Some(decoded) => {
                    drop(undecided);
                    return self.complete(judge(&record, decoded), received);
                }
            }
        }
        let tasks = self.clone();
        self.spawn(self.shared.stop.child_token(), async move {
            let mut next = Some((record, received));
            while let Some((record, received)) = next {
                tasks.complete(tasks.read(&record).await, received);
                let mut undecided = tasks.undecided();
                next = undecided.get_mut(&id).and_then(VecDeque::pop_front);
                if next.is_none() {
                    undecided.remove(&id);
                }
            }
        });
    }

    fn undecided(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, VecDeque<(Record, Instant)>>> {
        self.undecided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self, judged: Result<JobEvent, Problem>, received: Instant) {
        if let Ok(event) = judged
            && event.kind.is_terminal()
        {
            self.shared.waits.complete(Arc::new(event), received);
        }
    }

    /// Asks for the end of a partition that the side reader is to follow.
    pub fn end_of(&self, partition: i32) {
        let tasks = self.clone();
        self.spawn(self.shared.stop.child_token(), async move {
            loop {
                match tasks.side.watermarks(partition).await {
                    Ok((_, offset)) => return tasks.tell(Notice::End { partition, offset }),
                    Err(error) => {
                        tracing::warn!(partition, %error, "end of replies partition is not known yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
    }

    /// Writes up to when partitions are applied; asks the store for a sign of life if there is nothing to write.
    pub fn mark(&self, marks: BTreeMap<i32, Millis>) {
        if self.marking.swap(true, Ordering::AcqRel) {
            return; // The store is slow: what is lost here comes again with the next tick.
        }
        let tasks = self.clone();
        self.spawn(self.shared.stop.child_token(), async move {
            let marks: Vec<_> = marks.into_iter().collect();
            let answer = match marks.is_empty() {
                true => tasks.store.ping().await,
                false => tasks.store.mark_caught_up(&marks).await,
            };
            match answer {
                Ok(()) => tasks.health.succeeded(),
                Err(error) => tasks.health.failed(&error),
            }
            tasks.marking.store(false, Ordering::Release);
        });
    }

    fn spawn(&self, until: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.running
            .spawn(async move { until.run_until_cancelled(work).await });
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens any more only when the gateway stops.
        let _ = self.notices.send(notice);
    }
}
