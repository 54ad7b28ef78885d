//! The embedded backend: SQLite, for one process.
//!
//! One connection writes, so that writers queue up here instead of meeting `SQLITE_BUSY`; a few others read.
//!
//! The database is in WAL mode with `synchronous = NORMAL`. A killed process loses nothing that was committed. A
//! machine that loses power may lose the last commits, but only from the end and whole, and with them goes the
//! position of the projection: what events said is read again from the replies topic. That is why no commit has to
//! wait for the disk.

mod file;
mod follow_ups;
mod keys;
mod list;
mod purging;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite as Backend, SqlitePool, SqliteTransaction};
use tidegate_contract::{JobId, Millis, Status, Tenant};

use self::file::{FileLock, Location};
use crate::error::{Fault, StoreError};
use crate::inspect::{Inspection, Made, Tables, tables};
use crate::keys::{Glimpse, NewKey, Reserved};
use crate::listing::{Listed, Listing};
use crate::project::{Writing, project};
use crate::purge::{Cutoffs, Tally};
use crate::settings::{Retention, StoreSettings};
use crate::store::Store;
use crate::types::{Batch, JobRow, Lookup, NewJob, NewRetry, Position, Projected, Purged, Retry};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

pub(crate) struct Sqlite {
    location: Location,
    writer: SqlitePool,
    reader: SqlitePool,
    /// Held from `prepare` to `close`.
    lock: Mutex<Option<FileLock>>,
    timeout: Duration,
    keep: Retention,
}

impl Sqlite {
    /// Touches no file yet.
    pub(crate) fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let location = Location::of(settings.url.expose())?;
        let pool = |most: u32| {
            PoolOptions::<Backend>::new()
                .max_connections(most)
                .acquire_timeout(settings.timeout)
                // A database in memory lives as long as its connection.
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let options = SqliteConnectOptions::new()
            .busy_timeout(settings.timeout)
            .disable_statement_logging();
        let (writer, reader) = match &location {
            Location::Memory => {
                let only = pool(1).connect_lazy_with(options.in_memory(true));
                (only.clone(), only)
            }
            Location::File(path) => {
                let options = options.filename(path);
                let writing = options
                    .clone()
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Normal);
                let readers = settings.max_connections.saturating_sub(1).max(1);
                (
                    pool(1).connect_lazy_with(writing),
                    pool(readers).connect_lazy_with(options.read_only(true)),
                )
            }
        };
        Ok(Self {
            location,
            writer,
            reader,
            lock: Mutex::new(None),
            timeout: settings.timeout,
            keep: settings.keep.clone(),
        })
    }

    fn take_lock(&self) -> Result<(), StoreError> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Location::File(path)) = (&*held, &self.location) {
            *held = Some(FileLock::take(path)?);
        }
        Ok(())
    }

    /// Runs a call within the time limit. A transaction that is dropped is rolled back before its connection is
    /// used again.
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(fault)) => Err(fault.error),
            Err(_) => Err(StoreError::Unavailable(format!(
                "sqlite gave no answer within {:?}",
                self.timeout
            ))),
        }
    }

    /// A transaction that may write from its first statement on.
    async fn begin(&self) -> Result<SqliteTransaction<'static>, Fault> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// On a connection of its own that cannot write. A gateway may be using the file.
    async fn look(&self) -> Result<Inspection, Fault> {
        let file = match &self.location {
            Location::File(path) if path.exists() => Some(path),
            _ => None,
        };
        let options = SqliteConnectOptions::new().busy_timeout(self.timeout);
        let options = match file {
            Some(path) => options.filename(path).read_only(true),
            None => options.in_memory(true),
        };
        let mut connection = options.disable_statement_logging().connect().await?;
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&mut connection)
            .await?;
        let sql = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
        let known: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        let made = match known {
            0 => Vec::new(),
            _ => {
                let sql =
                    "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
                sqlx::query_as::<_, Made>(sql)
                    .fetch_all(&mut connection)
                    .await?
            }
        };
        let tables = tables(&made, &MIGRATIONS);
        let clusters = match tables {
            Tables::Current(_) => rows::clusters(&mut connection).await?,
            _ => Vec::new(),
        };
        let _ = connection.close().await;
        Ok(Inspection {
            version: format!("SQLite {version}"),
            tables,
            now: None,
            clusters,
        })
    }

    async fn try_project(&self, batch: &Batch, writing: Writing) -> Result<Projected, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
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
impl Store for Sqlite {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.take_lock()?;
        // Not within the time limit of a call: nobody else can hold it up, and a later migration may be long.
        let mut connection = self.writer.acquire().await?;
        MIGRATIONS.run_direct(None, &mut *connection, false).await?;
        Ok(())
    }

    async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.call(self.look()).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.call(async {
            sqlx::query("SELECT 1").execute(&self.reader).await?;
            Ok(())
        })
        .await
    }

    async fn insert(&self, jobs: &[NewJob]) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            rows::insert(&mut tx, jobs).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::job(&mut connection, id).await
        })
        .await
    }

    async fn list(&self, listing: &Listing) -> Result<Listed, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            list::list(&mut connection, listing).await
        })
        .await
    }

    async fn erase(&self, id: JobId, now: Millis) -> Result<bool, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let erased = list::erase(&mut tx, id, now).await?;
            tx.commit().await?;
            Ok(erased)
        })
        .await
    }

    async fn claim_retry(&self, retry: NewRetry) -> Result<Option<Retry>, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let first = rows::claim_retry(&mut tx, retry).await?;
            tx.commit().await?;
            Ok(first)
        })
        .await
    }

    async fn reserve(
        &self,
        key: &NewKey,
        now: Millis,
        lease: Millis,
    ) -> Result<Reserved, StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            let reserved = keys::reserve(&mut tx, key, now, lease).await?;
            tx.commit().await?;
            Ok(reserved)
        })
        .await
    }

    async fn retry_produced(&self, of: JobId, job: JobId) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            rows::retry_produced(&mut tx, of, job).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn produced(&self, job: &NewJob) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            keys::produced(&mut tx, job).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn retry(&self, of: JobId) -> Result<Option<Retry>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::retry(&mut connection, of).await
        })
        .await
    }

    async fn release(
        &self,
        id: JobId,
        reserved_at: Millis,
        forget: bool,
    ) -> Result<(), StoreError> {
        self.call(async {
            let mut tx = self.begin().await?;
            keys::release(&mut tx, id, reserved_at, forget).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn glance(&self, ids: &[JobId]) -> Result<HashMap<JobId, Glimpse>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            let found = keys::glance(&mut connection, ids).await?;
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
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::overdue(&mut connection, deadline, after, limit).await
        })
        .await
    }

    async fn position(&self, partition: i32) -> Result<Option<Position>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::position(&mut connection, partition).await
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
        self.call(async {
            let mut tx = self.begin().await?;
            rows::mark_caught_up(&mut tx, partitions).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn caught_up_by_partition(&self) -> Result<BTreeMap<i32, Option<Millis>>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::caught_up(&mut connection).await
        })
        .await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            Ok(!rows::holds_something(&mut connection).await?)
        })
        .await
    }

    async fn rows_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::by_status(&mut connection).await
        })
        .await
    }

    async fn unfinished_by_tenant(&self) -> Result<Vec<(Tenant, u64)>, StoreError> {
        self.call(async {
            let mut connection = self.reader.acquire().await?;
            rows::unfinished(&mut connection).await
        })
        .await
    }

    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError> {
        let cutoffs = Cutoffs::new(&self.keep, now);
        self.call(async {
            let mut tally = Tally::new(limit);
            let mut tx = self.begin().await?;
            for (status, before) in cutoffs.ended {
                let left = tally.rows_left();
                tally.ended(purging::ended(&mut tx, status, before, now, left).await?);
            }
            let left = tally.rows_left();
            tally.unfinished(purging::unfinished(&mut tx, cutoffs.unfinished, now, left).await?);
            for (kind, before) in cutoffs.aged {
                tally.aged(kind, purging::aged(&mut tx, kind, before, limit).await?);
            }
            tally.keys(keys::purge(&mut tx, cutoffs.unfinished, limit).await?);
            tx.commit().await?;
            Ok(tally.purged())
        })
        .await
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    async fn close(&self) {
        let both = async {
            self.reader.close().await;
            self.writer.close().await;
        };
        let _ = tokio::time::timeout(self.timeout, both).await;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
