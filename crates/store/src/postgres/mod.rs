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

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use tidegate_contract::{JobId, Millis, Status, Tenant};

use self::lease::Lease;
use crate::error::{Fault, StoreError};
use crate::inspect::{Inspection, Made, Tables, tables};
use crate::keys::{Glimpse, NewKey, Reserved};
use crate::listing::{Listed, Listing};
use crate::project::{Writing, project};
use crate::purge::{Cutoffs, Tally};
use crate::settings::{Retention, StoreSettings};
use crate::store::Store;
use crate::types::{Batch, JobRow, Lookup, NewJob, NewRetry, Position, Projected, Purged, Retry};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Migrations may take longer than a call: they wait for each other and may have to rewrite a table.
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);

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
        self.call(|| async {
            let mut lease = self.lease().await?;
            let mut tx = lease.begin().await?;
            let projected = project(&mut *tx, batch, writing).await?;
            match &projected {
                Projected::Applied(_) => tx.commit().await?,
                Projected::Stale { .. } => tx.rollback().await?,
            }
            lease.give_back();
            Ok(projected)
        })
        .await
    }

    /// How far the tables are, without a lock.
    async fn tables(connection: &mut PgConnection) -> Result<Tables, Fault> {
        let sql = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        if !sqlx::query_scalar::<_, bool>(sql)
            .fetch_one(&mut *connection)
            .await?
        {
            return Ok(Tables::Missing);
        }
        let made = sqlx::query_as::<_, Made>(
            "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version",
        )
        .fetch_all(connection)
        .await?;
        Ok(tables(&made, &MIGRATIONS))
    }

    async fn look(&self) -> Result<Inspection, Fault> {
        let mut connection = self.migrating.connect().await?;
        let sql = "SELECT current_setting('server_version'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let (version, now) = sqlx::query_as::<_, (String, i64)>(sql)
            .fetch_one(&mut connection)
            .await?;
        let tables = Self::tables(&mut connection).await?;
        let clusters = match tables {
            Tables::Current(_) => rows::clusters(&mut connection).await?,
            _ => Vec::new(),
        };
        // Whether it ends politely changes nothing.
        let _ = connection.close().await;
        Ok(Inspection {
            version: format!("PostgreSQL {version}"),
            tables,
            now: Some(now),
            clusters,
        })
    }
}

#[async_trait]
impl Store for Postgres {
    async fn prepare(&self) -> Result<(), StoreError> {
        let ready = async {
            let mut connection = self.migrating.connect().await?;
            let prepared = matches!(Self::tables(&mut connection).await?, Tables::Current(_));
            Ok::<_, Fault>((connection, prepared))
        };
        let (mut connection, prepared) = match tokio::time::timeout(self.timeout, ready).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(fault)) => return Err(fault.error),
            Err(_) => return Err(self.too_slow()),
        };
        if !prepared {
            // Takes an advisory lock first: processes that start together wait for each other.
            let run = MIGRATIONS.run_direct(None, &mut connection, false);
            match tokio::time::timeout(MIGRATION_LIMIT, run).await {
                Ok(made) => made?,
                Err(_) => {
                    let reason = format!("the tables were not ready within {MIGRATION_LIMIT:?}");
                    return Err(StoreError::Unavailable(reason));
                }
            }
        }
        // The connection had its use; whether it ends politely changes nothing.
        let _ = tokio::time::timeout(self.timeout, connection.close()).await;
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        match tokio::time::timeout(self.timeout, self.look()).await {
            Ok(found) => found.map_err(|fault| fault.error),
            Err(_) => Err(self.too_slow()),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            sqlx::query("SELECT 1").execute(&mut *lease).await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            rows::insert(&mut lease, jobs).await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = rows::job(&mut lease, id).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn list(&self, listing: &Listing) -> Result<Listed, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let listed = list::list(&mut lease, listing).await?;
            lease.give_back();
            Ok(listed)
        })
        .await
    }

    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let erased = list::erase(&mut lease, id, now).await?;
            lease.give_back();
            Ok(erased)
        })
        .await
    }

    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let first = rows::claim_retry(&mut lease, retry).await?;
            lease.give_back();
            Ok(first)
        })
        .await
    }

    async fn reserve(
        &self,
        key: &NewKey,
        now: Millis,
        taken_after: Millis,
    ) -> Result<Reserved, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let reserved = keys::reserve(&mut lease, key, now, taken_after).await?;
            lease.give_back();
            Ok(reserved)
        })
        .await
    }

    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            rows::retry_produced(&mut lease, of, job).await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn produced(&self, job: &NewJob) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let mut tx = lease.begin().await?;
            keys::produced(&mut tx, job).await?;
            tx.commit().await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn retry(&self, of: JobId) -> Result<Option<Retry>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = rows::retry(&mut lease, of).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn release(
        &self,
        id: JobId,
        reserved_at: Millis,
        forget: bool,
    ) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            keys::release(&mut lease, id, reserved_at, forget).await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = keys::glance(&mut lease, ids).await?;
            lease.give_back();
            Ok(found.into_iter().collect())
        })
        .await
    }

    async fn overdue(
        &self,
        deadline: Millis,
        after: Option<(Millis, JobId)>,
        limit: u32,
    ) -> Result<Vec<JobRow>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = rows::overdue(&mut lease, deadline, after, limit).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn position(&self, partition: i32) -> Result<Option<Position>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let position = rows::position(&mut lease, partition).await?;
            lease.give_back();
            Ok(position)
        })
        .await
    }

    async fn project(&self, batch: Batch) -> Result<Projected, StoreError> {
        match self.try_project(&batch, Writing::Together).await {
            Err(StoreError::Refused(_)) => self.try_project(&batch, Writing::Isolating).await,
            other => other,
        }
    }

    async fn mark_caught_up(&self, partitions: &[(i32, Millis)]) -> Result<(), StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            rows::mark_caught_up(&mut lease, partitions).await?;
            lease.give_back();
            Ok(())
        })
        .await
    }

    async fn caught_up_by_partition(&self) -> Result<BTreeMap<i32, Option<Millis>>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let marks = rows::caught_up(&mut lease).await?;
            lease.give_back();
            Ok(marks)
        })
        .await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = !rows::holds_something(&mut lease).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = rows::by_status(&mut lease).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn unfinished_by_tenant(&self) -> Result<Vec<(Tenant, u64)>, StoreError> {
        self.call(|| async {
            let mut lease = self.lease().await?;
            let found = rows::unfinished(&mut lease).await?;
            lease.give_back();
            Ok(found)
        })
        .await
    }

    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError> {
        let cutoffs = Cutoffs::new(&self.keep, now);
        let mut tally = Tally::new(limit);
        // Each statement is a transaction of its own, and each has the time of a call.
        for (status, before) in cutoffs.ended {
            let left = tally.rows_left();
            let ended = || async {
                let mut lease = self.lease().await?;
                let count = purging::ended(&mut lease, status, before, now, left).await?;
                lease.give_back();
                Ok(count)
            };
            tally.ended(self.call(ended).await?);
        }
        let left = tally.rows_left();
        let unfinished = || async {
            let mut lease = self.lease().await?;
            let count = purging::unfinished(&mut lease, cutoffs.unfinished, now, left).await?;
            lease.give_back();
            Ok(count)
        };
        tally.unfinished(self.call(unfinished).await?);
        let tombstones = || async {
            let mut lease = self.lease().await?;
            let count = purging::tombstones(&mut lease, cutoffs.tombstones, limit).await?;
            lease.give_back();
            Ok(count)
        };
        tally.tombstones(self.call(tombstones).await?);
        let retries = || async {
            let mut lease = self.lease().await?;
            let count = purging::retries(&mut lease, cutoffs.retries, limit).await?;
            lease.give_back();
            Ok(count)
        };
        tally.retries(self.call(retries).await?);
        let endpoints = || async {
            let mut lease = self.lease().await?;
            let count = purging::endpoints(&mut lease, cutoffs.endpoints, limit).await?;
            lease.give_back();
            Ok(count)
        };
        tally.endpoints(self.call(endpoints).await?);
        let reserved = || async {
            let mut lease = self.lease().await?;
            let count = keys::purge(&mut lease, cutoffs.unfinished, limit).await?;
            lease.give_back();
            Ok(count)
        };
        tally.keys(self.call(reserved).await?);
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
