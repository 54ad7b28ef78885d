//! The shared backend: PostgreSQL, for any number of processes.
//!
//! Locks are taken in one order everywhere, the position first and then rows by rising id, so that batches of
//! inserts and of events cannot wait for each other in a circle. What the server gives up nevertheless
//! (deadlock, serialisation) is tried once more.

mod follow_ups;
mod keys;
mod lease;
mod list;
mod purging;
mod rows;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use tidegate_contract::{JobId, Millis, Status, Tenant};

use self::lease::{Lease, on_a_lease};
use crate::error::{Fault, StoreError};
use crate::inspect::Inspection;
use crate::keys::{Glimpse, NewKey, Reserved};
use crate::listing::{Listed, Listing};
use crate::project::{Writing, project};
use crate::purge::{Cutoffs, Tally};
use crate::settings::{Retention, StoreSettings};
use crate::store::Store;
use crate::types::{Batch, JobRow, Lookup, NewJob, NewRetry, Position, Projected, Purged, Retry};

/// A connection that lay idle for longer is asked for a sign of life before it is used.
const FRESH: Duration = Duration::from_secs(1);

pub(crate) struct Postgres {
    pool: PgPool,
    /// Without the limits that calls have.
    migrating: PgConnectOptions,
    timeout: Duration,
    keep: Retention,
}

impl Postgres {
    /// Connects to nothing yet.
    pub(crate) fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        // The reason could repeat the URL, and with it the password.
        let options = PgConnectOptions::from_str(settings.url.expose())
            .map_err(|_| {
                let expected = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
                StoreError::Settings(format!("store.url is not of the form {expected}"))
            })?
            .application_name("tidegate")
            .disable_statement_logging();
        // The server gives up when we do. The second ends a transaction whose process was paused, so that
        // it does not hold the position against whoever took over.
        let limit = settings.timeout.as_millis().to_string();
        let limited = options.clone().options([
            ("statement_timeout", limit.as_str()),
            ("idle_in_transaction_session_timeout", limit.as_str()),
            // A plan that was made while the tables were small reads them whole for ever after.
            ("plan_cache_mode", "force_custom_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta: PoolConnectionMetadata| {
                Box::pin(async move {
                    if meta.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(limited);
        Ok(Self {
            pool,
            migrating: options,
            timeout: settings.timeout,
            keep: settings.keep.clone(),
        })
    }

    async fn lease(&self) -> Result<Lease, Fault> {
        Lease::take(&self.pool, self.timeout).await
    }

    /// Runs a call within the time limit, and once more after a conflict.
    async fn call<T, F, W>(&self, work: F) -> Result<T, StoreError>
    where
        F: Fn() -> W + Send,
        W: Future<Output = Result<T, Fault>> + Send,
    {
        let twice = async {
            match work().await {
                Err(fault) if fault.conflict => work().await,
                other => other,
            }
        };
        match tokio::time::timeout(self.timeout, twice).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fault)) => Err(fault.error),
            Err(_) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> StoreError {
        StoreError::Unavailable(format!("postgres gave no answer within {:?}", self.timeout))
    }

    async fn try_project(&self, batch: &Batch, writing: Writing) -> Result<Projected, StoreError> {
        on_a_lease!(self, |connection| async {
            let mut tx = connection.begin().await?;
            let projected = project(&mut *tx, batch, writing).await?;
            match &projected {
                Projected::Applied(_) => tx.commit().await?,
                Projected::Stale { .. } => tx.rollback().await?,
            }
            Ok(projected)
        })
        .await
    }
}

#[async_trait]
impl Store for Postgres {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.make_tables().await
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        match tokio::time::timeout(self.timeout, self.look()).await {
            Ok(found) => found.map_err(|fault| fault.error),
            Err(_) => Err(self.too_slow()),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| async {
            sqlx::query("SELECT 1").execute(connection).await?;
            Ok(())
        })
        .await
    }

    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| rows::insert(connection, jobs)).await
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        on_a_lease!(self, |connection| rows::job(connection, id)).await
    }

    async fn list(&self, listing: &Listing) -> Result<Listed, StoreError> {
        on_a_lease!(self, |connection| list::list(connection, listing)).await
    }

    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError> {
        on_a_lease!(self, |connection| list::erase(connection, id, now)).await
    }

    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        on_a_lease!(self, |connection| rows::claim_retry(connection, retry)).await
    }

    async fn reserve(
        &self,
        key: &NewKey,
        now: Millis,
        taken_after: Millis,
    ) -> Result<Reserved, StoreError> {
        on_a_lease!(self, |connection| keys::reserve(
            connection,
            key,
            now,
            taken_after
        ))
        .await
    }

    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| rows::retry_produced(connection, of, job)).await
    }

    async fn produced(&self, job: &NewJob) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| async {
            let mut tx = connection.begin().await?;
            keys::produced(&mut tx, job).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn retry(&self, of: JobId) -> Result<Option<Retry>, StoreError> {
        on_a_lease!(self, |connection| rows::retry(connection, of)).await
    }

    async fn release(
        &self,
        id: JobId,
        reserved_at: Millis,
        forget: bool,
    ) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| keys::release(
            connection,
            id,
            reserved_at,
            forget
        ))
        .await
    }

    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        let found = on_a_lease!(self, |connection| keys::glance(connection, ids));
        Ok(found.await?.into_iter().collect())
    }

    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        on_a_lease!(self, |connection| rows::overdue(
            connection, deadline, after, limit
        ))
        .await
    }

    async fn position(&self, partition: i32) -> Result<Option<Position>, StoreError> {
        on_a_lease!(self, |connection| rows::position(connection, partition)).await
    }

    async fn project(&self, batch: Batch) -> Result<Projected, StoreError> {
        match self.try_project(&batch, Writing::Together).await {
            Err(StoreError::Refused(_)) => self.try_project(&batch, Writing::Isolating).await,
            other => other,
        }
    }

    async fn mark_caught_up(&self, partitions: &[(i32, Millis)]) -> Result<(), StoreError> {
        on_a_lease!(self, |connection| rows::mark_caught_up(
            connection, partitions
        ))
        .await
    }

    async fn caught_up_by_partition(&self) -> Result<BTreeMap<i32, Option<Millis>>, StoreError> {
        on_a_lease!(self, |connection| rows::caught_up(connection)).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        let holds = on_a_lease!(self, |connection| rows::holds_something(connection));
        Ok(!holds.await?)
    }

    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        on_a_lease!(self, |connection| rows::by_status(connection)).await
    }

    async fn unfinished_by_tenant(&self) -> Result<Vec<(Tenant, u64)>, StoreError> {
        on_a_lease!(self, |connection| rows::unfinished(connection)).await
    }

    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError> {
        let cutoffs = Cutoffs::new(&self.keep, now);
        let mut tally = Tally::new(limit);
        // Each statement is a transaction of its own, and each has the time of a call.
        for (status, before) in cutoffs.ended {
            let left = tally.rows_left();
            let ended = on_a_lease!(self, |connection| purging::ended(
                connection, status, before, now, left
            ));
            tally.ended(ended.await?);
        }
        let (before, left) = (cutoffs.unfinished, tally.rows_left());
        let unfinished = on_a_lease!(self, |connection| purging::unfinished(
            connection, before, now, left
        ));
        tally.unfinished(unfinished.await?);
        for (kind, before) in cutoffs.aged {
            let aged = on_a_lease!(self, |connection| purging::aged(
                connection, kind, before, limit
            ));
            tally.aged(kind, aged.await?);
        }
        let keys = on_a_lease!(self, |connection| keys::purge(connection, before, limit));
        tally.keys(keys.await?);
        Ok(tally.purged())
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn close(&self) {
        // Connections in use are waited for, and one of them may hang.
        let _ = tokio::time::timeout(self.timeout, self.pool.close()).await;
    }
}
