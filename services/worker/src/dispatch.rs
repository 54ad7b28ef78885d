//! Gives free slots to waiting records, lane by lane after their weights.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::choose::Chooser;
use crate::execute::Engine;
use crate::lane::{Lane, Ready};

/// The choosing task.
pub(crate) struct Dispatcher {
    pub engine: Arc<Engine>,
    pub lanes: Vec<Arc<Lane>>,
    /// Told when there is work in line.
    pub work: Arc<Notify>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Dispatcher {
    /// Starts work whenever there is some and a slot is free.
    pub(crate) async fn run(self) {
        let weights = self.engine.settings.tier_weights;
        let mut chooser = Chooser::new(self.lanes.iter().map(|lane| weights.of(lane.tier)));
        let slots = Arc::new(Semaphore::new(self.engine.settings.concurrency));
        loop {
            let slot = tokio::select! {
                () = self.stop.cancelled() => return,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            // Never closed.
            let Ok(slot) = slot else { return };
            let ready = loop {
                if let Some(ready) = self.choose(&mut chooser) {
                    break ready;
                }
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.work.notified() => {}
                }
            };
            // Here, and not in the task, because here records come in the order of their offsets.
            let is_repeat = ready.place.start();
            let engine = Arc::clone(&self.engine);
            self.tasks
                .spawn(async move { engine.execute(ready, is_repeat, slot).await });
        }
    }

    fn choose(&self, chooser: &mut Chooser) -> Option<Ready> {
        loop {
            let lane = chooser.next(|index| self.lanes[index].waiting() > 0)?;
            let lane = &self.lanes[lane];
            // A revocation may have emptied it in between.
            if let Some(ready) = lane.pop() {
                self.engine.metrics.jobs_waiting(lane.tier, lane.waiting());
                return Some(ready);
            }
        }
    }
}
