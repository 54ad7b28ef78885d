//! Databases on the PostgreSQL that `TIDEGATE_TEST_POSTGRES` names.

#![allow(dead_code, reason = "every test file uses a part")]

pub mod proxy;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tidegate_contract::Secret;
use tidegate_store::{Store, StoreSettings, open};

/// The server's URL; its user may create databases.
pub fn url() -> String {
    std::env::var("TIDEGATE_TEST_POSTGRES")
        .expect("TIDEGATE_TEST_POSTGRES is not set: run through scripts/test")
}

/// A database of its own; dropped by [`Database::drop`].
pub struct Database {
    pub name: String,
}

impl Database {
    pub async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("store_test_{}_{count}", std::process::id());
        let database = Self { name };
        database
            .admin(format!("CREATE DATABASE {}", database.name))
            .await;
        database
    }

    pub async fn drop(&self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        self.admin(sql).await;
    }

    async fn admin(&self, sql: String) {
        let mut connection = PgConnection::connect(&url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    pub async fn execute(&self, sql: &'static str) {
        let options = PgConnectOptions::from_str(&url())
            .unwrap()
            .database(&self.name);
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let options = PgConnectOptions::from_str(&url())
            .unwrap()
            .database(&self.name);
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        connection.close().await.unwrap();
        count.unwrap()
    }

    /// The database's URL by way of another address.
    pub fn url_at(&self, host: &str, port: u16) -> String {
        let options = PgConnectOptions::from_str(&url()).unwrap();
        let (user, login) = (options.get_username(), url());
        let password = login
            .split_once("://")
            .and_then(|(_, rest)| rest.rsplit_once('@'))
            .and_then(|(login, _)| login.split_once(':'))
            .map_or("", |(_, password)| password);
        format!("postgres://{user}:{password}@{host}:{port}/{}", self.name)
    }

    pub fn open(&self) -> Arc<dyn Store> {
        let options = PgConnectOptions::from_str(&url()).unwrap();
        let url = self.url_at(options.get_host(), options.get_port());
        let settings = StoreSettings {
            url: Secret::new(url),
            // A test machine runs all of these at once.
            timeout: Duration::from_secs(20),
            max_connections: 5,
            ..StoreSettings::default()
        };
        open(&settings).unwrap()
    }
}
