//! Watching jobs whose events may come to another gateway: by the store, with one question a tick for all of them. What
//! this gateway has just projected itself is looked at at once.
//!
//! The first watch starts a task that asks, and it ends when nobody watches any more. Of a job that has changed the row is
//! read once, however many watch it.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tidegate_contract::JobId;
use tidegate_store::{Glimpse, JobRow, Lookup, StoreError, Version};
use tokio::sync::{Notify, watch};

pub use rows::slim;

use self::rows::Rows;
use crate::engine::Engine;
use crate::state::Tasks;
use crate::waits::TooManyWaits;

/// Between an answer of the store and the next question.
pub const TICK: Duration = Duration::from_millis(100);
/// Rows that are read at once.
const READS: usize = 8;

/// All that is watched from one gateway. Clones share it.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    tasks: Tasks,
    limit: usize,
    inline_limit: usize,
    state: Mutex<State>,
    /// Told when there is something in `State::changed`.
    nudged: Notify,
}

#[derive(Default)]
struct State {
    jobs: HashMap<JobId, Entry>,
    /// Over all jobs, of those that are limited.
    watches: usize,
    /// Somebody asks.
    asking: bool,
    /// To be looked at before the next tick.
    changed: HashSet<JobId>,
    rows: Rows,
}

struct Entry {
    seen: watch::Sender<Sight>,
    watches: usize,
    /// How many of them want rows.
    readers: usize,
}

/// What was seen of a job last.
#[derive(Clone, Default)]
struct Sight {
    /// `None` until the store was asked.
    glimpse: Option<Glimpse>,
    /// Its row, if that was read and is still held.
    row: Weak<JobRow>,
}

impl Watcher {
    /// Nobody watches yet, and `limit` may. Results over `inline_limit` bytes are not held.
    pub fn new(engine: Arc<dyn Engine>, tasks: Tasks, limit: usize, inline_limit: usize) -> Self {
        let shared = Shared {
            engine,
            tasks,
            limit,
            inline_limit,
            state: Mutex::default(),
            nudged: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Watches a job until the watch is dropped.
    ///
    /// # Errors
    /// As many watch already as may.
    pub fn watch(&self, id: JobId) -> Result<Watch, TooManyWaits> {
        let limit = self.shared.limit;
        if self.shared.lock().watches >= limit {
            return Err(TooManyWaits { limit });
        }
        Ok(self.begin(id, true, false))
    }

    /// The same for a request that is to see every change of the row.
    ///
    /// # Errors
    /// As many watch already as may.
    pub fn watch_row(&self, id: JobId) -> Result<Watch, TooManyWaits> {
        let limit = self.shared.limit;
        if self.shared.lock().watches >= limit {
            return Err(TooManyWaits { limit });
        }
        Ok(self.begin(id, true, true))
    }

    /// The same for a stream: those have a limit of their own.
    pub fn follow(&self, id: JobId) -> Watch {
        self.begin(id, false, true)
    }

    fn begin(&self, id: JobId, limited: bool, reads: bool) -> Watch {
        let shared = &self.shared;
        let mut state = shared.lock();
        state.watches += usize::from(limited);
        let entry = state.jobs.entry(id).or_insert_with(|| Entry {
            seen: watch::Sender::new(Sight::default()),
            watches: 0,
            readers: 0,
        });
        entry.watches += 1;
        entry.readers += usize::from(reads);
        let seen = entry.seen.subscribe();
        if !std::mem::replace(&mut state.asking, true) {
            shared.tasks.spawn(Arc::clone(shared).ask());
        }
        drop(state);
        Watch {
            id,
            limited,
            reads,
            seen,
            shared: Arc::clone(shared),
        }
    }

    /// Something has just been written about these jobs: those that are watched are looked at now.
    pub fn nudge(&self, ids: impl IntoIterator<Item = JobId>) {
        let mut state = self.shared.lock();
        if state.jobs.is_empty() {
            return;
        }
        let State { jobs, changed, .. } = &mut *state;
        let before = changed.len();
        changed.extend(ids.into_iter().filter(|id| jobs.contains_key(id)));
        let more = changed.len() > before;
        drop(state);
        if more {
            self.shared.nudged.notify_one();
        }
    }

    /// How many watch.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        let state = self.shared.lock();
        state.jobs.values().map(|entry| entry.watches).sum()
    }
}

impl Shared {
    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about all that is watched, tick by tick, until nothing is; in between about what was changed here.
    async fn ask(self: Arc<Self>) {
        while let Some(ids) = self.watched() {
            self.look(&ids).await;
            let tick = tokio::time::sleep(TICK);
            tokio::pin!(tick);
            loop {
                tokio::select! {
                    () = &mut tick => break,
                    () = self.nudged.notified() => {
                        let ids: Vec<_> = self.lock().changed.drain().collect();
                        self.look(&ids).await;
                    }
                }
            }
        }
    }

    /// What is watched; `None`, and nobody asks any more, if that is nothing.
    fn watched(&self) -> Option<Vec<JobId>> {
        let mut state = self.lock();
        state.changed.clear();
        if state.jobs.is_empty() {
            *state = State::default();
            return None;
        }
        state.rows.drop_old(Instant::now());
        Some(state.jobs.keys().copied().collect())
    }

    async fn look(&self, ids: &[JobId]) {
        let begun = Instant::now();
        match self.engine.glance(ids).await {
            Ok(found) => {
                let news = self.tell(ids, &found);
                let reads = news.into_iter().map(|id| self.read(id));
                let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
                while reads.next().await.is_some() {}
            }
            // Who watches has a time limit of its own; the absence of the store is told elsewhere.
            Err(error) => tracing::debug!(%error, "watched jobs not seen"),
        }
        tracing::trace!(jobs = ids.len(), took = ?begun.elapsed(), "watched jobs");
    }

    /// Tells what was seen, but for the jobs whose changed rows are to be read first: gives those.
    fn tell(&self, ids: &[JobId], found: &HashMap<JobId, Glimpse>) -> Vec<JobId> {
        let state = self.lock();
        let mut news = Vec::new();
        for id in ids {
            let Some(entry) = state.jobs.get(id) else {
                continue;
            };
            let now = found.get(id).copied().unwrap_or_default();
            let before = entry.seen.borrow().glimpse;
            if before == Some(now) {
                continue;
            }
            // Who has begun to watch has just read the row.
            let changed = before.is_some_and(|before| before.job != now.job);
            if changed && entry.readers > 0 && now.job.is_some() {
                news.push(*id);
            } else {
                entry.seen.send_replace(Sight {
                    glimpse: Some(now),
                    row: Weak::new(),
                });
            }
        }
        news
    }

    /// Reads the row of a job for all who watch it. A row that cannot be read is looked for again at the next tick.
    async fn read(&self, id: JobId) {
        let row = match self.engine.job(id).await {
            Ok(Lookup::Row(row)) => Arc::new(slim(*row, self.inline_limit)),
            Ok(Lookup::Tombstone(_) | Lookup::Absent) => return,
            Err(error) => {
                tracing::debug!(job_id = %id, %error, "watched row not read");
                return;
            }
        };
        let mut state = self.lock();
        state.rows.hold(Arc::clone(&row), Instant::now());
        if let Some(entry) = state.jobs.get(&id) {
            entry.seen.send_modify(|seen| {
                let key = seen.glimpse.and_then(|glimpse| glimpse.key);
                let job = Some(row.version());
                *seen = Sight {
                    glimpse: Some(Glimpse { job, key }),
                    row: Arc::downgrade(&row),
                };
            });
        }
    }
}

/// One look-out for one job.
pub struct Watch {
    id: JobId,
    limited: bool,
    reads: bool,
    seen: watch::Receiver<Sight>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Returns once what was seen of the job is as wished. Cancel safe.
    pub async fn until(&mut self, wish: impl Fn(&Glimpse) -> bool) {
        let wished = |seen: &Sight| seen.glimpse.as_ref().is_some_and(&wish);
        if self.seen.wait_for(wished).await.is_err() {
            // The sender stays for as long as this watch does.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until more is known of the job than that: its row, or `None` if there is none any more. Cancel safe.
    ///
    /// # Errors
    /// The row has changed and cannot be read now.
    pub async fn later_than(&mut self, known: Version) -> Result<Option<Arc<JobRow>>, StoreError> {
        loop {
            let later = |seen: &Glimpse| seen.job.is_none_or(|job| job.later_than(&known));
            self.until(later).await;
            let held = self.seen.borrow().row.upgrade();
            if held.is_some() {
                return Ok(held);
            }
            let Some(row) = self.shared.engine.job(self.id).await?.row() else {
                return Ok(None);
            };
            if row.version().later_than(&known) {
                return Ok(Some(Arc::new(slim(row, self.shared.inline_limit))));
            }
            // It was looked for just before it was made.
            if self.seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.watches = state.watches.saturating_sub(usize::from(self.limited));
        if let Some(entry) = state.jobs.get_mut(&self.id) {
            entry.watches = entry.watches.saturating_sub(1);
            entry.readers = entry.readers.saturating_sub(usize::from(self.reads));
            if entry.watches == 0 {
                state.jobs.remove(&self.id);
            }
        }
    }
}
