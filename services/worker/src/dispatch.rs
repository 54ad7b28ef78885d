//! Gives free slots to waiting records.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execute::Engine;
use crate::lane::Lane;

/// The choosing task.
pub(crate) struct Dispatcher {
    pub engine: Arc<Engine>,
    /// In the order of [`crate::desk::lanes`].
    pub lanes: Vec<Arc<Lane>>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Dispatcher {
    /// Starts work whenever there is some and a slot is free.
    pub(crate) async fn run(self) {
        let desk = &self.engine.desk;
        while !self.stop.is_cancelled() {
            let Some((ready, slot)) = desk.next(&self.lanes) else {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = desk.work.notified() => continue,
                }
            };
            let lane = &ready.place.lane;
            self.engine
                .metrics
                .jobs_waiting(&lane.pool, lane.tier, lane.waiting());
            let is_repeat = ready.place.start();
            // As if its outcome were acknowledged.
            #[cfg(feature = "sabotage")]
            if tidegate_contract::sabotage::is_on("early-commit") {
                ready.place.complete();
            }
            self.engine.start(ready, is_repeat, slot, &self.tasks);
        }
    }
}
