//! Whether the store answers, as seen by whoever called it last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_runtime::readiness::Condition;
use tidegate_store::StoreError;

/// Shared by the projector, the writer of rows and the periodic ping; shown as a note on the readiness condition
/// `store`.
#[derive(Clone)]
pub struct StoreHealth {
    ok: Arc<AtomicBool>,
    condition: Condition,
}

impl StoreHealth {
    /// Healthy until a call fails.
    pub fn new(condition: Condition) -> Self {
        Self {
            ok: Arc::new(AtomicBool::new(true)),
            condition,
        }
    }

    /// Whether the last call was answered.
    pub fn is_ok(&self) -> bool {
        self.ok.load(Ordering::Relaxed)
    }

    /// The store has answered.
    pub fn succeeded(&self) {
        if !self.ok.swap(true, Ordering::Relaxed) {
            tracing::info!("store answers again");
        }
        self.condition.ok();
    }

    /// The store did not answer, or could not do what was asked.
    pub fn failed(&self, error: &StoreError) {
        if self.ok.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "store is away: asynchronous submits are refused, waits go on");
        }
        // Still ready: a gateway that balancers take out would end the waits that go on without the store.
        self.condition.ok_with(format!(
            "{error}; asynchronous submits are refused, waits go on"
        ));
    }
}
