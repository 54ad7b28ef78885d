//! Whether a process can do its work now, and if not, why.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidegate_contract::{now_millis, time::rfc3339};
use tokio::sync::watch;

/// The conditions of one process; ready means that every one is ok. Clones share.
#[derive(Clone, Debug)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    entries: Mutex<Vec<ConditionReport>>,
    types: Mutex<Option<TypesReport>>,
    /// Follows `ready`, for those who wait.
    ready: watch::Sender<bool>,
}

/// One thing that a process needs, such as `broker`. Clones share; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Condition {
    name: Arc<str>,
    shared: Arc<Shared>,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every condition is ok.
    pub ready: bool,
    /// In the order in which they were made.
    pub conditions: Vec<ConditionReport>,
    /// What is ok but worth saying, such as a durability below the usual.
    pub notes: Vec<String>,
    /// The job types in force, once they were announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<TypesReport>,
}

/// Which job types a process works by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypesReport {
    /// The same in every process with the same types.
    pub digest: String,
    pub count: usize,
    /// The file that some or all of them come from, and that is followed.
    pub file: Option<String>,
    /// RFC 3339.
    pub loaded_at: String,
    /// Why what is in the file now is not in force.
    pub error: Option<String>,
}

/// One condition in a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct ConditionReport {
    pub name: String,
    pub ok: bool,
    /// Why not; a condition nobody has judged yet says `starting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip)]
    note: Option<String>,
    /// Since when it has been ok, or not ok, without a break: RFC 3339.
    pub since: String,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// No conditions: ready. Make the conditions before anybody asks.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                entries: Mutex::new(Vec::new()),
                types: Mutex::new(None),
                ready: watch::Sender::new(true),
            }),
        }
    }

    /// The condition of this name; made, not ok, if there is none yet.
    pub fn condition(&self, name: &str) -> Condition {
        let mut entries = self.shared.lock();
        if !entries.iter().any(|entry| entry.name == name) {
            entries.push(ConditionReport {
                name: name.to_owned(),
                ok: false,
                reason: Some("starting".to_owned()),
                note: None,
                since: rfc3339(now_millis()),
            });
        }
        self.shared.publish(&entries);
        Condition {
            name: name.into(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Whether every condition is ok.
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Everything, for `/readyz`.
    pub fn report(&self) -> Report {
        let conditions = self.shared.lock().clone();
        let types = self.shared.types().clone();
        let error = types.as_ref().and_then(|types| {
            let (error, loaded) = (types.error.as_ref()?, &types.loaded_at);
            Some(format!("the job types of {loaded} stay in force: {error}"))
        });
        Report {
            ready: conditions.iter().all(|entry| entry.ok),
            notes: conditions
                .iter()
                .filter_map(|entry| entry.note.clone())
                .chain(error)
                .collect(),
            conditions,
            types,
        }
    }

    /// These job types are in force now.
    pub fn types(&self, report: TypesReport) {
        *self.shared.types() = Some(report);
    }

    /// Why the types in the file are not those in force, or that nothing is wrong with it any more. It is a note:
    /// a process goes on with the types that it has.
    pub fn types_error(&self, problem: Option<&str>) {
        if let Some(types) = self.shared.types().as_mut() {
            types.error = problem.map(str::to_owned);
        }
    }

    /// Waits until everything is ok, at most for `limit`.
    ///
    /// # Errors
    /// The report at the end of the limit, which names what is missing.
    pub async fn until_ready(&self, limit: Duration) -> Result<(), Report> {
        let mut ready = self.shared.ready.subscribe();
        match tokio::time::timeout(limit, ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.report()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<ConditionReport>> {
        // Entries are plain values that are always whole, so a panic elsewhere has not spoilt them.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn types(&self) -> MutexGuard<'_, Option<TypesReport>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, entries: &[ConditionReport]) {
        let ready = entries.iter().all(|entry| entry.ok);
        self.ready
            .send_if_modified(|old| std::mem::replace(old, ready) != ready);
    }
}

impl Condition {
    /// The name as it stands in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is met.
    pub fn ok(&self) {
        self.set(true, None, None);
    }

    /// It is met, and the report carries a note on it.
    pub fn ok_with(&self, note: impl Into<String>) {
        self.set(true, None, Some(note.into()));
    }

    /// It is not met. The reason names the thing and the mend.
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(false, Some(reason.into()), None);
    }

    /// Whether it is met now.
    pub fn is_ok(&self) -> bool {
        self.shared
            .lock()
            .iter()
            .any(|entry| *entry.name == *self.name && entry.ok)
    }

    fn set(&self, ok: bool, reason: Option<String>, note: Option<String>) {
        let mut entries = self.shared.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| *entry.name == *self.name) {
            if entry.ok != ok {
                entry.since = rfc3339(now_millis());
            }
            entry.ok = ok;
            entry.reason = reason;
            entry.note = note;
        }
        self.shared.publish(&entries);
    }
}
