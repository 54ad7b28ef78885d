//! How many jobs each tenant has unfinished, for the limit at the submit.
//!
//! Counted in the store once a second: rows without an end. A job that is waited for has no row in its first second
//! (`gateway.row_after`), so what ends within that does not count; and within a second a tenant may go over its limit by
//! what it submits in it. While the store does not answer nothing is known, and nobody is refused for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_contract::Tenant;
use tidegate_store::Store;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

/// The counts as last asked for. Clones share.
#[derive(Clone, Default)]
pub struct TenantBacklogs {
    counts: Arc<ArcSwap<HashMap<Tenant, u64>>>,
}

impl TenantBacklogs {
    /// Unfinished jobs of a tenant; `None` if it has none, or they are not known.
    pub fn of(&self, tenant: &Tenant) -> Option<u64> {
        self.counts.load().get(tenant).copied()
    }

    /// Counts until `stop`.
    pub async fn watch(self, store: Arc<dyn Store>, stop: CancellationToken) {
        let rounds = async {
            loop {
                let counts = store.unfinished_by_tenant().await;
                // Its absence is told by those who need it.
                let counts = counts.inspect_err(|error| tracing::debug!(%error, "not counted"));
                let counts = counts.unwrap_or_default().into_iter().collect();
                self.counts.store(Arc::new(counts));
                tokio::time::sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }
}
