//! Watching jobs whose events may come to another gateway: by the store, with one question a tick for all of them.
//!
//! The first watch starts a task that asks, and it ends when nobody watches any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::JobId;
use tidegate_store::Glimpse;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::state::Tasks;
use crate::waits::TooManyWaits;

/// Between an answer of the store and the next question.
pub const TICK: Duration = Duration::from_millis(100);

/// All that is watched from one gateway. Clones share it.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<dyn Engine>,
    tasks: Tasks,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: HashMap<JobId, Entry>,
    /// Over all jobs.
    watches: usize,
    /// Somebody asks.
    asking: bool,
}

struct Entry {
    /// `None` until the store was asked.
    seen: watch::Sender<Option<Glimpse>>,
    watches: usize,
}

impl Watcher {
    /// Nobody watches yet, and `limit` may.
    pub fn new(engine: Arc<dyn Engine>, tasks: Tasks, limit: usize) -> Self {
        let shared = Shared {
            engine,
            tasks,
            limit,
            state: Mutex::default(),
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
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.watches >= shared.limit {
            let limit = shared.limit;
            return Err(TooManyWaits { limit });
        }
        state.watches += 1;
        let entry = state.jobs.entry(id).or_insert_with(|| Entry {
            seen: watch::Sender::new(None),
            watches: 0,
        });
        entry.watches += 1;
        let seen = entry.seen.subscribe();
        if !std::mem::replace(&mut state.asking, true) {
            shared.tasks.spawn(Arc::clone(shared).ask());
        }
        drop(state);
        Ok(Watch {
            id,
            seen,
            shared: Arc::clone(shared),
        })
    }

    /// How many watch.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shared.lock().watches
    }
}

impl Shared {
    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about all that is watched, tick by tick, until nothing is.
    async fn ask(self: Arc<Self>) {
        while let Some(ids) = self.watched() {
            let begun = Instant::now();
            match self.engine.glance(&ids).await {
                Ok(found) => self.tell(&ids, &found),
                // Who watches has a time limit of its own; the absence of the store is told elsewhere.
                Err(error) => tracing::debug!(%error, "watched jobs not seen"),
            }
            tracing::trace!(jobs = ids.len(), took = ?begun.elapsed(), "watched jobs");
            tokio::time::sleep(TICK).await;
        }
    }

    /// What is watched; `None`, and nobody asks any more, if that is nothing.
    fn watched(&self) -> Option<Vec<JobId>> {
        let mut state = self.lock();
        if state.jobs.is_empty() {
            state.asking = false;
            return None;
        }
        Some(state.jobs.keys().copied().collect())
    }

    fn tell(&self, ids: &[JobId], found: &HashMap<JobId, Glimpse>) {
        let state = self.lock();
        for id in ids {
            if let Some(entry) = state.jobs.get(id) {
                let now = Some(found.get(id).copied().unwrap_or_default());
                entry.seen.send_if_modified(|seen| {
                    let other = *seen != now;
                    *seen = now;
                    other
                });
            }
        }
    }
}

/// One look-out for one job.
pub struct Watch {
    id: JobId,
    seen: watch::Receiver<Option<Glimpse>>,
    shared: Arc<Shared>,
}

impl Watch {
    /// Returns once what was seen of the job is as wished. Cancel safe.
    pub async fn until(&mut self, wish: impl Fn(&Glimpse) -> bool) {
        let wished = self.seen.wait_for(|seen| seen.as_ref().is_some_and(&wish));
        if wished.await.is_err() {
            // The sender stays for as long as this watch does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.watches = state.watches.saturating_sub(1);
        if let Some(entry) = state.jobs.get_mut(&self.id) {
            entry.watches = entry.watches.saturating_sub(1);
            if entry.watches == 0 {
                state.jobs.remove(&self.id);
            }
        }
    }
}
