//! SQLite passes the conformance suite, in a file and in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code: a panic is the report, and what is printed shows with it"
)]

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Connection;
use tempfile::TempDir;
use tidegate_contract::Secret;
use tidegate_store::conformance::Fixture;
use tidegate_store::{Store, StoreSettings, open};

fn at(url: String) -> Arc<dyn Store> {
    let settings = StoreSettings {
        url: Secret::new(url),
        ..StoreSettings::default()
    };
    open(&settings).unwrap()
}

struct File {
    folder: TempDir,
    store: Arc<dyn Store>,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = at(format!(
            "sqlite:{}",
            folder.path().join("jobs.db").display()
        ));
        Self { folder, store }
    }
}

#[async_trait]
impl Fixture for File {
    fn stores(&self) -> [Arc<dyn Store>; 2] {
        [self.store.clone(), self.store.clone()]
    }

    async fn execute(&self, sql: &'static str) -> bool {
        let path = self.folder.path().join("jobs.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        true
    }

    async fn end(&self) {}
}

struct Memory(Arc<dyn Store>);

#[async_trait]
impl Fixture for Memory {
    fn stores(&self) -> [Arc<dyn Store>; 2] {
        [self.0.clone(), self.0.clone()]
    }

    async fn execute(&self, _: &'static str) -> bool {
        false
    }

    async fn end(&self) {}
}

mod file {
    tidegate_store::conformance_tests!(super::File::new());
}

mod memory {
    tidegate_store::conformance_tests!(super::Memory(super::at("sqlite::memory:".to_owned())));
}
