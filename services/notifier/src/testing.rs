//! What the tests of this crate share: a store in memory, and servers that behave as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_contract::{FollowUpKind, JobId, JobSummary, Millis, Status, Tenant, Tier};
use tidegate_store::{
    Attempt, EndpointRow, FollowUp, FollowUpState, FollowUps, JobRow, Lookup, Recover, StoreError,
    Take, Then, Waiting, endpoint_key,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::store::Jobs;

/// No test waits longer for anything: what hangs is a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The id of job number `n`.
pub fn job(n: u32) -> JobId {
    format!("018f3a6e-7c1b-7d4e-9a51-{n:012x}").parse().unwrap()
}

/// A callback of job `n` that is due.
pub fn follow_up(n: u32, target: &str) -> FollowUp {
    let tenant: Tenant = "acme".parse().unwrap();
    FollowUp {
        job: job(n),
        kind: FollowUpKind::Callback,
        endpoint: endpoint_key(&tenant, target),
        tenant,
        target: target.to_owned(),
        trace: None,
        created_at: 1_000,
        state: FollowUpState::Pending,
        due_at: i64::from(n),
        attempts: 0,
        number: 0,
        settled_at: None,
        reason: None,
    }
}

/// A job that has completed.
pub fn row(id: JobId) -> JobRow {
    JobRow {
        id,
        summary: JobSummary {
            job_type: "invoice".parse().unwrap(),
            pool: "default".parse().unwrap(),
            tier: Tier::Normal,
            tenant: "acme".parse().unwrap(),
            created_at: 1_000,
            deadline: 2_000,
            trace_id: None,
            follow_ups: Vec::new(),
            retry_of: None,
        },
        reply_partition: 0,
        status: Status::Completed,
        attempt: 1,
        updated_at: 1_500,
        started_at: None,
        ended_at: Some(1_500),
        progress: None,
        outcome: None,
        error: None,
        error_attempt: None,
        error_at: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
        retried_as: None,
        events: 0,
        history: Vec::new(),
    }
}

/// What is in a [`FakeStore`].
#[derive(Default)]
pub struct Rows {
    pub follow_ups: BTreeMap<JobId, (FollowUp, Vec<Attempt>)>,
    pub endpoints: BTreeMap<String, EndpointRow>,
    /// Jobs that are not kept any more.
    pub purged: Vec<JobId>,
    /// What may be taken although it is held.
    expired: BTreeSet<JobId>,
}

impl Rows {
    pub fn state(&self, n: u32) -> FollowUpState {
        self.follow_ups[&job(n)].0.state
    }

    pub fn attempts(&self, n: u32) -> &[Attempt] {
        &self.follow_ups[&job(n)].1
    }

    pub fn reason(&self, n: u32) -> &str {
        self.follow_ups[&job(n)].0.reason.as_deref().unwrap_or("")
    }

    fn held(&mut self, taken: &FollowUp) -> Option<&mut FollowUp> {
        let (row, _) = self.follow_ups.get_mut(&taken.job)?;
        let held = row.state == FollowUpState::Pending && row.due_at == taken.due_at;
        held.then_some(row)
    }
}

fn apply(row: &mut FollowUp, then: &Then) {
    match then {
        Then::At(at) => row.due_at = *at,
        Then::Delivered => row.state = FollowUpState::Delivered,
        Then::GivenUp(why) => {
            row.state = FollowUpState::Failed;
            row.reason = Some(why.clone());
        }
    }
}

/// Keeps to the agreement of [`FollowUps`], in memory; can be away, and can keep a writer waiting for ever.
#[derive(Default)]
pub struct FakeStore {
    rows: Mutex<Rows>,
    changed: Notify,
    pub away: AtomicBool,
    /// Nobody comes back from telling of an attempt.
    pub deaf: AtomicBool,
}

impl FakeStore {
    pub fn with(follow_ups: impl IntoIterator<Item = FollowUp>) -> Self {
        let store = Self::default();
        for follow_up in follow_ups {
            store.add(follow_up);
        }
        store
    }

    pub fn add(&self, follow_up: FollowUp) {
        self.change(|rows| {
            rows.follow_ups
                .insert(follow_up.job, (follow_up, Vec::new()))
        });
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> T {
        let changed = change(&mut self.rows.lock().unwrap());
        self.changed.notify_waiters();
        changed
    }

    /// Every lease has run out.
    pub fn leases_run_out(&self) {
        self.change(|rows| rows.expired = rows.follow_ups.keys().copied().collect());
    }

    /// Waits for a state of the rows.
    pub async fn until(&self, what: &str, condition: impl Fn(&Rows) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(&self.rows.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "never: {what}");
    }

    fn answer(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("it is away".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Jobs for FakeStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.answer()
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.answer()?;
        let purged = self.rows.lock().unwrap().purged.contains(&id);
        Ok(match purged {
            true => Lookup::Absent,
            false => Lookup::Row(Box::new(row(id))),
        })
    }
}

#[async_trait]
impl FollowUps for FakeStore {
    async fn take_follow_ups(&self, take: &Take<'_>) -> Result<Vec<FollowUp>, StoreError> {
        self.answer()?;
        Ok(self.change(|rows| {
            let pending = rows.follow_ups.values().map(|(row, _)| row);
            let mut due: Vec<_> = pending
                .filter(|row| row.state == FollowUpState::Pending)
                .filter(|row| row.due_at <= take.now || rows.expired.contains(&row.job))
                .filter(|row| !take.except.contains(&row.endpoint))
                .cloned()
                .collect();
            due.sort_by_key(|row| row.due_at);
            let mut of: BTreeMap<String, u32> = BTreeMap::new();
            due.retain(|row| {
                let taken = of.entry(row.endpoint.clone()).or_default();
                *taken += 1;
                *taken <= take.per_endpoint
            });
            due.truncate(take.limit as usize);
            for row in &mut due {
                rows.expired.remove(&row.job);
                row.due_at = take.lease;
                if let Some((kept, _)) = rows.follow_ups.get_mut(&row.job) {
                    kept.due_at = take.lease;
                }
            }
            due
        }))
    }

    async fn attempted(
        &self,
        taken: &FollowUp,
        attempt: &Attempt,
        then: &Then,
    ) -> Result<bool, StoreError> {
        self.answer()?;
        if self.deaf.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(self.change(|rows| {
            if let Some((_, attempts)) = rows.follow_ups.get_mut(&taken.job) {
                attempts.push(attempt.clone());
            }
            let Some(row) = rows.held(taken) else {
                return false;
            };
            row.attempts += 1;
            row.number = attempt.number;
            apply(row, then);
            true
        }))
    }

    async fn give_back(&self, taken: &FollowUp, then: &Then) -> Result<bool, StoreError> {
        self.answer()?;
        Ok(self.change(|rows| match rows.held(taken) {
            Some(row) => {
                apply(row, then);
                true
            }
            None => false,
        }))
    }

    /// Moves also what is held, as a store may do it.
    async fn postpone(&self, endpoint: &str, until: Millis) -> Result<(), StoreError> {
        self.answer()?;
        self.change(|rows| {
            for (row, _) in rows.follow_ups.values_mut() {
                if row.endpoint == endpoint && row.state == FollowUpState::Pending {
                    row.due_at = row.due_at.max(until);
                }
            }
        });
        Ok(())
    }

    async fn follow_ups(&self, job: JobId) -> Result<Vec<(FollowUp, Vec<Attempt>)>, StoreError> {
        let found = self.rows.lock().unwrap().follow_ups.get(&job).cloned();
        Ok(found.into_iter().collect())
    }

    async fn resend(
        &self,
        job: JobId,
        _: Option<FollowUpKind>,
        now: Millis,
    ) -> Result<Vec<FollowUpKind>, StoreError> {
        Ok(self.change(|rows| match rows.follow_ups.get_mut(&job) {
            Some((row, _)) => {
                row.state = FollowUpState::Pending;
                (row.due_at, row.attempts) = (now, 0);
                vec![row.kind]
            }
            None => Vec::new(),
        }))
    }

    async fn recover(&self, _: &Recover, _: Millis, _: u32) -> Result<u64, StoreError> {
        Err(StoreError::Refused("not of this test".to_owned()))
    }

    async fn endpoints_of(&self, keys: &[String]) -> Result<Vec<EndpointRow>, StoreError> {
        self.answer()?;
        let rows = self.rows.lock().unwrap();
        let found = keys.iter().filter_map(|key| rows.endpoints.get(key));
        Ok(found.cloned().collect())
    }

    async fn endpoints(
        &self,
        _: &Tenant,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<EndpointRow>, StoreError> {
        Err(StoreError::Refused("not of this test".to_owned()))
    }

    async fn keep_endpoint(&self, row: &EndpointRow) -> Result<(), StoreError> {
        self.answer()?;
        self.change(|rows| rows.endpoints.insert(row.key.clone(), row.clone()));
        Ok(())
    }

    async fn forget_endpoint(&self, _: &Tenant, key: &str) -> Result<bool, StoreError> {
        self.answer()?;
        Ok(self.change(|rows| rows.endpoints.remove(key).is_some()))
    }

    async fn waiting(&self, _: FollowUpKind) -> Result<Waiting, StoreError> {
        self.answer()?;
        let rows = self.rows.lock().unwrap();
        let pending = rows.follow_ups.values().map(|(row, _)| row);
        let pending = pending.filter(|row| row.state == FollowUpState::Pending);
        Ok(Waiting {
            pending: pending.clone().count() as u64,
            oldest_due: pending.map(|row| row.due_at).min(),
            held_until: None,
        })
    }
}
