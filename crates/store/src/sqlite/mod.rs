//! The embedded backend: SQLite, for one process.
//!
//! One connection writes, so that writers queue up here instead of meeting `SQLITE_BUSY`; a few others read.
//!
//! The database is in WAL mode with `synchronous = NORMAL`. A killed process loses nothing that was committed. A
//! machine that loses power may lose the last commits, but only from the end and whole, and with them goes the
//! position of the projection: what events said is read again from the replies topic. That is why no commit has to
//! wait for the disk.

mod file;
mod rows;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite as Backend, SqlitePool, SqliteTransaction};
use tidegate_contract::{JobId, Millis, Status};

use self::file::{FileLock, Location};
use crate::error::{Fault, StoreError};
use crate::project::{Writing, project};
use crate::purge::{Cutoffs, Tally};
use crate::settings::{Retention, StoreSettings};
use crate::store::Store;
use crate::types::{Batch, Lookup, NewJob, Position, Projected, Purged};

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

    async fn purge(&self, now: Millis, limit: u32) -> Result<Purged, StoreError> {
        let cutoffs = Cutoffs::new(&self.keep, now);
        self.call(async {
            let mut tally = Tally::new(limit);
            let mut tx = self.begin().await?;
            for (status, before) in cutoffs.ended {
                let left = tally.rows_left();
                tally.ended(rows::purge_ended(&mut tx, status, before, now, left).await?);
            }
            let left = tally.rows_left();
            tally.unfinished(rows::purge_unfinished(&mut tx, cutoffs.unfinished, now, left).await?);
            tally.tombstones(rows::purge_tombstones(&mut tx, cutoffs.tombstones, limit).await?);
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
