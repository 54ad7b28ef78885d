//! Removing what has been kept long enough.
//!
//! Every gateway does it, a little at a time: the store takes bounded batches, and two gateways at once only share
//! the work.

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::now_millis;
use tidegate_store::{Purged, Store};
use tokio_util::sync::CancellationToken;

/// Between two rounds. Ages are days: minutes do not matter.
const EVERY: Duration = Duration::from_secs(60);
/// Between two batches of one round, so that the projection gets its turn.
const BREATH: Duration = Duration::from_millis(100);
/// Rows a batch.
const BATCH: u32 = 500;

/// Purges until `stop`.
pub async fn run(store: Arc<dyn Store>, stop: CancellationToken) {
    let rounds = async {
        loop {
            round(store.as_ref()).await;
            tokio::time::sleep(EVERY).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Batches until there is nothing more to remove, or the store does not answer.
async fn round(store: &dyn Store) {
    let mut sum = Purged::default();
    loop {
        match store.purge(now_millis(), BATCH).await {
            Ok(purged) => {
                sum.rows += purged.rows;
                sum.unfinished += purged.unfinished;
                sum.tombstones += purged.tombstones;
                sum.keys += purged.keys;
                if !purged.more {
                    break;
                }
                tokio::time::sleep(BREATH).await;
            }
            // The next round comes; the absence of the store is told by those who need it.
            Err(error) => {
                tracing::debug!(%error, "purge");
                break;
            }
        }
    }
    if sum != Purged::default() {
        tracing::info!(
            rows = sum.rows,
            unfinished = sum.unfinished,
            tombstones = sum.tombstones,
            keys = sum.keys,
            "purged"
        );
    }
}
