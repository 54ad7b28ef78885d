//! PostgreSQL passes the conformance suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code: a panic is the report, and what is printed shows with it"
)]

mod server;

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_store::Store;
use tidegate_store::conformance::Fixture;

use server::Database;

/// A database of its own, opened twice with a pool each.
struct Shared {
    database: Database,
    stores: [Arc<dyn Store>; 2],
}

impl Shared {
    async fn new() -> Self {
        let database = Database::create().await;
        let stores = [database.open(), database.open()];
        Self { database, stores }
    }
}

#[async_trait]
impl Fixture for Shared {
    fn stores(&self) -> [Arc<dyn Store>; 2] {
        self.stores.clone()
    }

    async fn execute(&self, sql: &'static str) -> bool {
        self.database.execute(sql).await;
        true
    }

    async fn end(&self) {
        self.database.drop().await;
    }
}

tidegate_store::conformance_tests!(Shared::new().await);
