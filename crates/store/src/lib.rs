//! The status store: what people look up about their jobs, and how far the replies topic has been read for it.
//!
//! Facts come in two ways. A gateway that has accepted a job inserts its row ([`Inserter`] joins such rows into
//! batches), and whoever reads a partition of the replies topic projects its events in batches
//! ([`Store::project`]). Either may come first: both are conditional upserts that merge, so the row is the same in
//! the end. What events make of a row is the pure fold of the log by `Status::on`; a backend only carries it
//! out, together with the compare-and-set of the partition's position, in one transaction.
//!
//! Two backends, SQLite for one process and PostgreSQL for many, pass the same conformance suite.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod follow_up_record;
mod follow_ups;
pub mod history;
mod inserter;
mod inspect;
mod keys;
mod listing;
pub mod merge;
mod plan;
mod postgres;
mod project;
mod purge;
mod record;
mod settings;
mod sqlite;
mod store;
mod types;

use std::sync::Arc;

pub use error::StoreError;
pub use follow_ups::{
    Attempt, EndpointRow, FollowUp, FollowUpState, FollowUps, Recover, Take, Then, Waiting,
    endpoint_key,
};
pub use history::{HistoryEntry, Version};
pub use inserter::Inserter;
pub use inspect::{Inspection, Tables};
pub use keys::{Glimpse, KeyState, KeyedJob, NewKey, Reserved};
pub use listing::{Listed, Listing, WINDOW};
pub use settings::{Retention, StoreSettings};
pub use store::Store;
pub use types::{
    Applied, Batch, JobRow, Lookup, Making, NewJob, NewRetry, Position, Projected, Purged, Retry,
    Tombstone,
};

/// The store that the settings name. Nothing is connected before [`Store::prepare`].
pub fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    if settings.timeout.is_zero() {
        return Err(settings_error("store.timeout must be longer than zero"));
    }
    if settings.max_connections == 0 {
        return Err(settings_error("store.max_connections must be at least 1"));
    }
    match settings.url.expose().split_once(':') {
        Some(("sqlite", _)) => Ok(Arc::new(sqlite::Sqlite::open(settings)?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::Postgres::open(settings)?)),
        _ => Err(settings_error(
            "store.url must begin with sqlite: or postgres://",
        )),
    }
}

fn settings_error(reason: &str) -> StoreError {
    StoreError::Settings(reason.to_owned())
}
