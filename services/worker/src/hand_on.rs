//! Jobs of a type that is not known here: after a pause they go to the end of another partition, or to the pool that
//! they belong to, where another worker may know them. See docs/decisions/0006-hand-on-unknown-types.md.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_contract::headers::HANDED_ON;
use tidegate_contract::{JobMessage, RecordHeaders, now_millis};
use tidegate_kafka::{Outgoing, Record};

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

impl Parked {
    fn new(place: Place, payload: usize) -> Self {
        let bytes = payload + RECORD_COST;
        place.lane.park(bytes);
        Self { place, bytes }
    }
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
    ) -> impl Future<Output = ()> + Send + 'static {
        let payload = record.payload.unwrap_or_default();
        let parked = Parked::new(place, payload.len());
        let engine = Arc::clone(self);
        async move {
            let work = engine.park(&parked, &record.headers, &job, payload);
            if work.await.is_ok() {
                parked.place.complete();
            }
        }
    }

    /// The same for a job that stood in line when its type was taken away.
    pub(crate) async fn hand_on_from_line(
        &self,
        place: &Place,
        job: &JobMessage,
        headers: &RecordHeaders,
    ) -> Result<(), Stopped> {
        // What was read is not kept while a job is in line: it would take its memory twice.
        let payload = match self.outbox.codec.encode_job(job) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(job_id = %job.job_id, %error, "a job cannot be written again");
                return Err(Stopped);
            }
        };
        let parked = Parked::new(place.clone(), payload.len());
        self.park(&parked, headers, job, payload).await
    }

    async fn park(
        &self,
        parked: &Parked,
        headers: &RecordHeaders,
        job: &JobMessage,
        payload: Bytes,
    ) -> Result<(), Stopped> {
        tokio::select! {
            done = self.wait_and_hand_on(&parked.place, headers, job, payload) => done,
            // Uncommitted, it is read again by whoever comes next.
            () = self.stopping.cancelled() => Err(Stopped),
        }
    }

    async fn wait_and_hand_on(
        &self,
        place: &Place,
        headers: &RecordHeaders,
        job: &JobMessage,
        payload: Bytes,
    ) -> Result<(), Stopped> {
        let times = headers.handed_on();
        let (first, most) = (self.settings.hand_on_after, self.settings.hand_on_at_most);
        let left = job.deadline.saturating_sub(now_millis());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        tokio::time::sleep(pause(times, first, most).min(left)).await;
        if !place.is_current() {
            return Err(Stopped);
        }
        if now_millis() >= job.deadline {
            return self.expire(place, job, headers).await;
        }
        let lane = &place.lane;
        let elsewhere = self
            .repertoire
            .load()
            .pool_elsewhere(&job.job_type)
            .cloned();
        let other_pool = elsewhere.filter(|pool| *pool != lane.pool);
        let partitions = self.partitions.get();
        let partitions = partitions.and_then(|known| known.get(&lane.topic).copied());
        let (topic, partition) = match (other_pool, partitions) {
            (Some(pool), _) => (self.topics.jobs(&pool, lane.tier), None),
            (None, Some(partitions)) if partitions > 1 => {
                let next = (place.partition + 1).rem_euclid(partitions);
                (lane.topic.clone(), Some(next))
            }
            (None, _) => (lane.topic.clone(), None),
        };
        let mut headers = headers.clone();
        headers.set(HANDED_ON, times.saturating_add(1).to_string());
        self.metrics
            .job_parked(job.job_type.as_str(), "unknown-type");
        tracing::info!(
            job_id = %job.job_id,
            job_type = %job.job_type,
            from = place.partition,
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
            payload,
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
