//! The tables: how far they are, and how they are made.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection};

use super::{Postgres, rows};
use crate::error::{Fault, StoreError};
use crate::inspect::{Inspection, Made, Tables, tables};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Migrations may take longer than a call: they wait for each other and may have to rewrite a table.
const MIGRATION_LIMIT: Duration = Duration::from_secs(300);

/// How far the tables are, without a lock.
async fn how_far(connection: &mut PgConnection) -> Result<Tables, Fault> {
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

impl Postgres {
    /// Makes what is missing.
    pub(super) async fn make_tables(&self) -> Result<(), StoreError> {
        let ready = async {
            let mut connection = self.migrating.connect().await?;
            let prepared = matches!(how_far(&mut connection).await?, Tables::Current(_));
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

    /// What `tidegate doctor` wants to know.
    pub(super) async fn look(&self) -> Result<Inspection, Fault> {
        let mut connection = self.migrating.connect().await?;
        let sql = "SELECT current_setting('server_version'), (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let (version, now) = sqlx::query_as::<_, (String, i64)>(sql)
            .fetch_one(&mut connection)
            .await?;
        let tables = how_far(&mut connection).await?;
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
