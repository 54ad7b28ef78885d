//! Job types that may change while a process runs.
//!
//! [`Follower`] reads the file of job types again and again, [`watch`] judges from what was read when it is to be
//! tried and when an error is to be told, and roles that [take types](TakesTypes) swap to new ones all at once: what
//! is under way keeps the types that it began with, because it holds on to the [`Arc`] that it took from [`LiveTypes`].
//! [`digest()`] makes a short name of what is in force, so that roles can be compared. See
//! docs/decisions/0010-job-types-are-polled.md.

mod digest;
mod file;
mod follow;
mod watch;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_contract::{JobTypes, now_millis, time::rfc3339};

pub use digest::digest;
pub use file::{PART, TypesFile};
pub use follow::Follower;

use crate::metrics::Metrics;
use crate::readiness::{Readiness, TypesReport};

/// The job types in force. Clones share.
#[derive(Clone, Debug)]
pub struct LiveTypes {
    types: Arc<ArcSwap<JobTypes>>,
}

impl LiveTypes {
    /// To begin with.
    pub fn new(types: JobTypes) -> Self {
        Self {
            types: Arc::new(ArcSwap::from_pointee(types)),
        }
    }

    /// Those of this moment. Take them once for each piece of work, so that it sees one version.
    pub fn now(&self) -> Arc<JobTypes> {
        self.types.load_full()
    }

    /// Puts others in force.
    pub fn replace(&self, types: JobTypes) {
        self.types.store(Arc::new(types));
    }
}

/// Puts what a role has prepared in force; cannot fail.
pub type Swap = Box<dyn FnOnce() + Send>;

/// A role whose job types can be replaced while it runs.
#[async_trait::async_trait]
pub trait TakesTypes: Send + Sync {
    /// Makes everything ready for `types` and changes nothing yet, so that all roles of a process change or none.
    ///
    /// # Errors
    /// One sentence that says why they cannot be taken now, and the mend.
    async fn prepare(&self, types: &JobTypes) -> Result<Swap, String>;
}

/// Says in readiness and metrics which types are in force, from this moment on.
pub fn announce(types: &JobTypes, file: Option<&str>, readiness: &[Readiness], metrics: &Metrics) {
    let report = TypesReport {
        digest: digest(types),
        count: types.len(),
        file: file.map(str::to_owned),
        loaded_at: rfc3339(now_millis()),
        error: None,
    };
    metrics.job_types(types.keys().map(|name| name.as_str()), &report.digest);
    for role in readiness {
        role.types(report.clone());
    }
}

/// What is different, for the log: names that came, went, or stayed with other settings.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Changes {
    fn between(old: &JobTypes, new: &JobTypes) -> Self {
        let mut changes = Self::default();
        for (name, spec) in new {
            match old.get(name) {
                None => changes.added.push(name.to_string()),
                Some(known) if known != spec => changes.changed.push(name.to_string()),
                Some(_) => {}
            }
        }
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        changes.removed = gone.map(|name| name.to_string()).collect();
        changes
    }
}
