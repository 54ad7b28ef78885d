//! Kafka, store and workers in one struct, without any of them: what tests set and look at. What the gateway sees of it is
//! in `fake/engine.rs`.

mod engine;

use super::*;

pub const HOME: i32 = 7;

/// What the fake's workers do with a job.
type Work = Box<dyn Fn(&JobMessage) -> Option<JobEvent> + Send + Sync>;

/// Kafka, store and workers in one struct.
pub struct Fake {
    pub waits: Waits,
    pub obstacle: Mutex<Option<ApiError>>,
    pub no_home: AtomicBool,
    pub cold_codec: AtomicBool,
    /// What becomes of records on the jobs topics, in place of being written.
    pub refuse_at_once: Mutex<Option<ProduceError>>,
    pub refuse_later: Mutex<Option<ProduceError>>,
    pub refuse_events: AtomicBool,
    /// Whether ends on the replies topic show in the rows.
    pub projects: AtomicBool,
    pub store_away: AtomicBool,
    pub sent: Mutex<Vec<Outgoing>>,
    pub inserted: Mutex<Vec<NewJob>>,
    pub found: Mutex<HashMap<JobId, Lookup>>,
    /// Idempotency keys, by tenant and text.
    pub keys: Mutex<HashMap<(String, String), FakeKey>>,
    pub retries: Mutex<HashMap<JobId, Retry>>,
    pub follow_ups: Mutex<Vec<(FollowUp, Vec<Attempt>)>>,
    pub endpoints: Mutex<Vec<EndpointRow>>,
    /// What lists were asked for.
    pub listings: Mutex<Vec<Listing>>,
    /// Of one partition, in the order of their offsets.
    pub letters: Mutex<Vec<Found>>,
    pub horizon: Mutex<Option<Millis>>,
    pub workers: Mutex<Option<usize>>,
    pub pauses: Mutex<HashMap<String, Pause>>,
    /// By pool and tier; `None` of all others.
    pub backlogs: Mutex<HashMap<(Pool, Tier), u64>>,
    pub unfinished: Mutex<Option<u64>>,
    pub work: Mutex<Work>,
    /// How often rows were glanced at, and read.
    pub glances: AtomicUsize,
    pub reads: AtomicUsize,
}

/// A key in the fake's store.
#[derive(Clone)]
pub struct FakeKey {
    pub wanted: NewKey,
    pub state: KeyState,
    pub reserved_at: Millis,
}

/// How long the fake leaves a key to whoever has reserved it.
pub const LEASE: Duration = Duration::from_millis(300);

impl Fake {
    pub fn new(waits: Waits) -> Self {
        Self {
            waits,
            obstacle: Mutex::default(),
            no_home: AtomicBool::default(),
            cold_codec: AtomicBool::default(),
            refuse_at_once: Mutex::default(),
            refuse_later: Mutex::default(),
            refuse_events: AtomicBool::default(),
            projects: AtomicBool::default(),
            store_away: AtomicBool::default(),
            sent: Mutex::default(),
            inserted: Mutex::default(),
            found: Mutex::default(),
            keys: Mutex::default(),
            retries: Mutex::default(),
            follow_ups: Mutex::default(),
            endpoints: Mutex::default(),
            listings: Mutex::default(),
            letters: Mutex::default(),
            horizon: Mutex::new(Some(Millis::MAX)),
            workers: Mutex::default(),
            pauses: Mutex::default(),
            backlogs: Mutex::default(),
            unfinished: Mutex::default(),
            work: Mutex::new(Box::new(|job| Some(echo(job)))),
            glances: AtomicUsize::default(),
            reads: AtomicUsize::default(),
        }
    }

    /// From now on jobs are handled like this; `None`: nobody takes them.
    pub fn handle(&self, work: impl Fn(&JobMessage) -> Option<JobEvent> + Send + Sync + 'static) {
        *self.work.lock().unwrap() = Box::new(work);
    }

    /// What the store finds of a job.
    pub fn put(&self, found: Lookup, id: JobId) {
        self.found.lock().unwrap().insert(id, found);
    }

    /// The jobs that were sent.
    pub fn jobs(&self) -> Vec<JobMessage> {
        let sent = self.sent.lock().unwrap();
        let jobs = sent.iter().filter(|out| out.topic.contains("jobs."));
        jobs.map(|out| serde_json::from_slice(&out.payload).unwrap())
            .collect()
    }

    /// The first end of a job counts.
    fn project(&self, event: &JobEvent) {
        let mut found = self.found.lock().unwrap();
        let row = found.get(&event.job_id).cloned().and_then(Lookup::row);
        if let Some(mut row) = row
            && let tidegate_contract::Transition::To(status) = row.status.on(event.kind)
        {
            row.status = status;
            row.error = event.error.clone();
            row.ended_at = status.is_terminal().then_some(event.at);
            found.insert(row.id, Lookup::Row(Box::new(row)));
        }
    }

    fn away(&self) -> Result<(), StoreError> {
        match self.store_away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("away".into())),
            false => Ok(()),
        }
    }
}
