//! The HTTP requests of this gateway that wait for an outcome.
//!
//! A wait is opened before its job is produced, so that no outcome can be missed, and names the *home* partition
//! that the outcome will come to. The reader of the replies asks here which partitions still have waits
//! ([`Waits::homes`]) and completes them ([`Waits::complete`]). Dropping a [`Wait`] frees everything it held, at
//! once: that is all a closed client connection does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_contract::{JobEvent, JobId};
use tokio::sync::{Notify, oneshot};

/// The terminal event of a job, as it came in.
#[derive(Clone, Debug)]
pub struct Ended {
    pub event: Arc<JobEvent>,
    /// When this gateway read it.
    pub received: Instant,
}

/// As many requests wait already as the configuration allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{limit} requests wait already, which is the limit of this gateway")]
pub struct TooManyWaits {
    pub limit: usize,
}

/// All open waits of one gateway. Clones share them.
#[derive(Clone)]
pub struct Waits {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told whenever a partition gains its first wait or loses its last.
    homes_changed: Notify,
    limit: usize,
}

#[derive(Default)]
struct State {
    open: HashMap<JobId, Entry>,
    homes: BTreeMap<i32, usize>,
}

struct Entry {
    home: i32,
    sender: oneshot::Sender<Ended>,
}

impl Waits {
    /// No waits, and room for `limit`.
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            state: Mutex::default(),
            homes_changed: Notify::new(),
            limit,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Opens the wait for a job whose outcome comes to the partition `home`.
    pub fn open(&self, id: JobId, home: i32) -> Result<Wait, TooManyWaits> {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut state = self.shared.lock();
            if state.open.len() >= self.shared.limit {
                return Err(TooManyWaits {
                    limit: self.shared.limit,
                });
            }
            if let Some(replaced) = state.open.insert(id, Entry { home, sender }) {
                state.leave(replaced.home);
            }
            let count = state.homes.entry(home).or_default();
            *count += 1;
            *count == 1
        };
        if first {
            self.shared.homes_changed.notify_one();
        }
        Ok(Wait {
            id,
            shared: self.shared.clone(),
            receiver,
        })
    }

    /// Whether somebody waits for this job.
    pub fn is_open(&self, id: JobId) -> bool {
        self.shared.lock().open.contains_key(&id)
    }

    /// Hands the end of a job to its wait. `false` if nobody waits.
    pub fn complete(&self, event: Arc<JobEvent>, received: Instant) -> bool {
        let entry = self.shared.remove(event.job_id);
        match entry {
            Some(entry) => entry.sender.send(Ended { event, received }).is_ok(),
            None => false,
        }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partitions that open waits expect their outcomes on.
    pub fn homes(&self) -> BTreeSet<i32> {
        self.shared.lock().homes.keys().copied().collect()
    }

    /// Returns once [`Waits::homes`] may have changed since the last call.
    pub async fn homes_changed(&self) {
        self.shared.homes_changed.notified().await;
    }
}

impl Shared {
    /// The lock; nothing panics while it is held, so a poisoned one is as good as new.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, id: JobId) -> Option<Entry> {
        let (entry, last) = {
            let mut state = self.lock();
            let entry = state.open.remove(&id)?;
            let last = state.leave(entry.home);
            (entry, last)
        };
        if last {
            self.homes_changed.notify_one();
        }
        Some(entry)
    }
}

impl State {
    /// One wait less on a partition; `true` if it was the last.
    fn leave(&mut self, home: i32) -> bool {
        match self.homes.get_mut(&home) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => {
                self.homes.remove(&home);
                true
            }
            None => false,
        }
    }
}

/// One open wait.
pub struct Wait {
    id: JobId,
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<Ended>,
}

impl Wait {
    /// The end of the job. Cancel safe; after it has returned once it never returns again.
    pub async fn outcome(&mut self) -> Ended {
        match (&mut self.receiver).await {
            Ok(ended) => ended,
            // Closed without an outcome: the wait was replaced by one for the same id, or is asked again.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // A wait that was replaced has a closed receiver and must leave its successor alone.
        self.receiver.close();
        let ours = {
            let state = self.shared.lock();
            state
                .open
                .get(&self.id)
                .is_some_and(|entry| entry.sender.is_closed())
        };
        if ours {
            self.shared.remove(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_contract::{EventKind, JobSummary, Tier};

    fn ended(id: JobId) -> Arc<JobEvent> {
        Arc::new(JobEvent {
            job_id: id,
            kind: EventKind::Completed,
            at: 0,
            attempt: 1,
            job: JobSummary {
                job_type: "echo".parse().unwrap(),
                pool: Default::default(),
                tier: Tier::Normal,
                tenant: Default::default(),
                created_at: 0,
                deadline: 0,
                trace_id: None,
                retry_of: None,
                follow_ups: Vec::new(),
            },
            source: "test".into(),
            outcome: None,
            error: None,
            progress: None,
            timings: None,
            next_attempt_at: None,
            dead_letter: None,
        })
    }

    #[tokio::test]
    async fn an_outcome_reaches_its_wait_and_no_other() {
        let waits = Waits::new(10);
        let (a, b) = (JobId::generate(), JobId::generate());
        let mut wait_a = waits.open(a, 3).unwrap();
        let wait_b = waits.open(b, 4).unwrap();
        assert_eq!(waits.homes(), BTreeSet::from([3, 4]));
        assert!(waits.complete(ended(a), Instant::now()));
        assert_eq!(wait_a.outcome().await.event.job_id, a);
        assert!(
            !waits.complete(ended(a), Instant::now()),
            "only the first end counts"
        );
        assert_eq!(waits.homes(), BTreeSet::from([4]));
        drop(wait_b);
        assert!(waits.is_empty() && waits.homes().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_nothing_behind() {
        let waits = Waits::new(2);
        let ids = [JobId::generate(), JobId::generate(), JobId::generate()];
        let first = waits.open(ids[0], 0).unwrap();
        let _second = waits.open(ids[1], 0).unwrap();
        assert_eq!(waits.open(ids[2], 0).err(), Some(TooManyWaits { limit: 2 }));
        drop(first);
        assert_eq!((waits.len(), waits.is_open(ids[0])), (1, false));
        assert!(waits.open(ids[2], 0).is_ok());
        assert_eq!(
            waits.homes(),
            BTreeSet::from([0]),
            "one wait is still open there"
        );
    }

    #[tokio::test]
    async fn the_reader_is_told_of_first_and_last_waits() {
        let waits = Waits::new(10);
        let wait = waits.open(JobId::generate(), 7).unwrap();
        waits.homes_changed().await;
        drop(wait);
        waits.homes_changed().await;
        assert!(waits.homes().is_empty());
    }
}
