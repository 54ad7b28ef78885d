//! Jobs of a type that is not known here: after a pause they go to the end of another partition, or to the pool that
//! they belong to, where another worker may know them. See docs/decisions/0006-hand-on-unknown-types.md.

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::headers::HANDED_ON;
use tidegate_contract::{JobMessage, now_millis};
use tidegate_kafka::{Outgoing, Record};
use tokio_util::sync::CancellationToken;

use crate::execute::Engine;
use crate::lane::{Place, RECORD_COST};
use crate::outbox::{Stopped, result_label};

/// The pause before the next hand-over: it doubles with each.
pub(crate) fn pause(handed_on: u32, first: Duration, most: Duration) -> Duration {
    let factor = 2u32.checked_pow(handed_on).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

/// A record that waits to be handed on; it counts in its lane until dropped.
struct Parked {
    place: Place,
    bytes: usize,
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.place.lane.unpark(self.bytes);
    }
}

impl Engine {
    /// Hands a record on in a while. Returns at once with the work to be spawned; the record counts as parked from
    /// now on.
    pub(crate) fn hand_on(
        self: &Arc<Self>,
        place: Place,
        record: Record,
        job: JobMessage,
        partitions: i32,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let bytes = record.payload.as_ref().map_or(0, |value| value.len()) + RECORD_COST;
        place.lane.park(bytes);
        let parked = Parked { place, bytes };
        let engine = Arc::clone(self);
        async move {
            let work = engine.wait_and_hand_on(&parked.place, record, job, partitions);
            let done = tokio::select! {
                done = work => done,
                // Uncommitted, it is read again by whoever comes next.
                () = stop.cancelled() => return,
            };
            if done.is_ok() {
                parked.place.complete();
            }
        }
    }

    async fn wait_and_hand_on(
        &self,
        place: &Place,
        record: Record,
        job: JobMessage,
        partitions: i32,
    ) -> Result<(), Stopped> {
        let times = record.headers.handed_on();
        let (first, most) = (self.settings.hand_on_after, self.settings.hand_on_at_most);
        let left = job.deadline.saturating_sub(now_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        tokio::time::sleep(pause(times, first, most).min(left)).await;
        if !place.is_current() {
            return Err(Stopped);
        }
        if now_millis() >= job.deadline {
            return self.expire(place, &job, &record.headers).await;
        }
        let lane = &place.lane;
        let other_pool = self
            .repertoire
            .pool_elsewhere(&job.job_type)
            .filter(|pool| **pool != lane.pool);
        let (topic, partition) = match other_pool {
            Some(pool) => (self.topics.jobs(pool, lane.tier), None),
            None if partitions > 1 => {
                let next = (record.partition + 1).rem_euclid(partitions);
                (lane.topic.clone(), Some(next))
            }
            None => (lane.topic.clone(), None),
        };
        let mut headers = record.headers.clone();
        headers.set(HANDED_ON, times.saturating_add(1).to_string());
        self.metrics
            .job_parked(job.job_type.as_str(), "unknown-type");
        tracing::info!(
            job_id = %job.job_id,
            job_type = %job.job_type,
            from = record.partition,
            to_topic = topic,
            to = partition,
            times = times + 1,
            "a job of a type unknown here is handed on"
        );
        let out = Outgoing {
            topic,
            partition,
            key: job.job_id.to_string(),
            headers,
            payload: record.payload.unwrap_or_default(),
        };
        let begun = std::time::Instant::now();
        let sent = self
            .outbox
            .producer
            .send_until_acked(out, &self.outbox.stop)
            .await;
        self.metrics
            .produced("jobs", result_label(&sent), begun.elapsed());
        sent.map(|_| ()).map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<_> = (0..7).map(|n| pause(n, first, most).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(times in any::<u32>(), first in 1u64..10_000, most in 1u64..100_000) {
            let (first, most) = (Duration::from_millis(first), Duration::from_millis(most));
            let waited = pause(times, first, most);
            prop_assert!(waited <= most && waited >= first.min(most));
        }
    }
}
