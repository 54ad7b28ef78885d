//! What the configuration says about the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::{Secret, Status};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the store is and how long it keeps things.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// `sqlite:PATH`, `sqlite::memory:` (gone with the process) or `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: Secret,
    /// Connections that this process opens at most; SQLite writes through one of them.
    pub max_connections: u32,
    /// After this long a call is given up with [`crate::StoreError::Unavailable`].
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long rows are kept.
    pub keep: Retention,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            url: Secret::new("sqlite:tidegate.db"),
            max_connections: 10,
            timeout: Duration::from_secs(3),
            keep: Retention::default(),
        }
    }
}

/// Ages at which rows are purged.
///
/// A row that has ended is as old as its end. A row that never ended is as old as its *deadline*: by then nothing
/// can start the job any more, and its events are gone from Kafka a week later, so that after `unfinished` nothing
/// can end it either.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    #[serde(with = "humantime_serde")]
    pub completed: Duration,
    #[serde(with = "humantime_serde")]
    pub failed: Duration,
    #[serde(with = "humantime_serde")]
    pub dead_lettered: Duration,
    #[serde(with = "humantime_serde")]
    pub cancelled: Duration,
    #[serde(with = "humantime_serde")]
    pub expired: Duration,
    /// After the deadline, for rows without an end.
    #[serde(with = "humantime_serde")]
    pub unfinished: Duration,
    /// After the purge of the row. Longer than any record of the job can stay in Kafka, or a late event would
    /// bring the row back.
    #[serde(with = "humantime_serde")]
    pub tombstones: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            completed: 7 * DAY,
            failed: 30 * DAY,
            dead_lettered: 30 * DAY,
            cancelled: 30 * DAY,
            expired: 30 * DAY,
            unfinished: 14 * DAY,
            tombstones: 30 * DAY,
        }
    }
}

impl Retention {
    /// How long after its end a row of that status is kept; `None` for a status that is no end.
    pub fn after_end(&self, status: Status) -> Option<Duration> {
        match status {
            Status::Completed => Some(self.completed),
            Status::Failed => Some(self.failed),
            Status::DeadLettered => Some(self.dead_lettered),
            Status::Cancelled => Some(self.cancelled),
            Status::Expired => Some(self.expired),
            Status::Pending
            | Status::Scheduled
            | Status::Processing
            | Status::Retrying
            | Status::AwaitingCompletion => None,
        }
    }
}
