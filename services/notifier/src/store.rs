//! What a notifier needs of the status store, besides its follow-ups.

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_contract::JobId;
use tidegate_store::{Lookup, Store, StoreError};

/// The jobs that callbacks tell of.
#[async_trait]
pub trait Jobs: Send + Sync {
    /// As [`Store::prepare`].
    ///
    /// # Errors
    /// Whatever the store says.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// As [`Store::job`].
    ///
    /// # Errors
    /// Whatever the store says.
    async fn job(&self, id: JobId) -> Result<Lookup, StoreError>;
}

#[async_trait]
impl Jobs for Arc<dyn Store> {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.as_ref().prepare().await
    }

    async fn job(&self, id: JobId) -> Result<Lookup, StoreError> {
        self.as_ref().job(id).await
    }
}
