//! Says what runs here of partitions that were given up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_contract::handover::{self, Beat};
use tidegate_kafka::{Outgoing, Producer};
use tokio_util::sync::CancellationToken;

use super::MISSED;
use super::given::Given;
use super::heard::Heard;

/// The saying task of a process.
pub(crate) struct Teller {
    pub owner: u64,
    pub topic: String,
    pub every: Duration,
    pub given: Arc<Given>,
    /// Of ourselves we hear at once: a partition may come back while its jobs still run here.
    pub heard: Arc<Heard>,
    pub producer: Producer,
}

impl Teller {
    /// Says it at every change, and again and again while there is something to say.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            self.say().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.given.changed.notified() => {}
                () = tokio::time::sleep(self.every) => {}
            }
        }
    }

    /// Says it once. A beat that is not acknowledged in time is not worth another try: the next one says more.
    pub(crate) async fn say(&self) {
        let Some(beat) = self.given.beat(self.every * 2 * MISSED, Instant::now()) else {
            return;
        };
        let out = self.record(&beat);
        self.heard.take(self.owner, beat, Instant::now());
        let sent = tokio::time::timeout(self.every, self.producer.send(out));
        if !matches!(sent.await, Ok(Ok(_))) {
            tracing::debug!("a beat was not acknowledged in time");
        }
    }

    fn record(&self, beat: &Beat) -> Outgoing {
        Outgoing {
            topic: self.topic.clone(),
            partition: None,
            key: handover::key(self.owner),
            headers: beat.headers(),
            payload: Bytes::new(),
        }
    }
}
