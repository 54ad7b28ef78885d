//! Jobs that may not run here and now: their record goes onto the delay ladder as it is, with no attempt spent, and
//! comes back to be looked at again by whoever takes it then. See docs/decisions/0017-parked-on-the-ladder.md.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_contract::headers::PARKED;
use tidegate_contract::{JobMessage, Millis, RecordHeaders, ladder, now_millis, parking};
use tidegate_kafka::{Outgoing, Record};

use crate::execute::Engine;
use crate::handlers::{Entered, Gate, Runnable};
use crate::lane::{Place, RECORD_COST, Ready, size};
use crate::outbox::{Stopped, result_label};
use crate::work::Work;

/// Why a job is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its type is not known to this worker.
    UnknownType,
    /// Its type is paused.
    Paused,
    /// As many of its type or tenant run as may, and it would stand in the way of others.
    Limit,
    /// The http target of its type is down.
    TargetDown,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown-type",
            Self::Paused => "paused",
            Self::Limit => "limit",
            Self::TargetDown => "target-down",
        }
    }
}

/// A record that stands beside its line, on its way to the ladder for instance. It counts in its lane until dropped,
/// since that may take a while.
pub(crate) struct Parked {
    pub(crate) place: Place,
    bytes: usize,
}

impl Parked {
    pub(crate) fn new(place: Place, bytes: usize) -> Self {
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
    /// How a job is run here at this moment, or why it may not.
    pub(crate) fn runnable(&self, job: &JobMessage) -> Result<Runnable, Why> {
        let runnable = self.find(job).ok_or(Why::UnknownType)?;
        if self.control.is_paused(&job.job_type, now_millis()) {
            return Err(Why::Paused);
        }
        match gate(&runnable, job) {
            Some(gate) if !gate.lets_in() => Err(Why::TargetDown),
            _ => Ok(runnable),
        }
    }

    /// The same for a job that is begun now. What it has entered it has to leave: while its target is down, nobody else
    /// gets in.
    pub(crate) fn entered(&self, job: &JobMessage) -> Result<(Runnable, Option<Entered>), Why> {
        let runnable = self.runnable(job)?;
        let gate = gate(&runnable, job);
        let entered = gate.map(|gate| gate.enter().ok_or(Why::TargetDown));
        let entered = entered.transpose()?;
        Ok((runnable, entered))
    }

    /// Parks a record as it was read. Returns at once with the work to be spawned; the record counts as parked from
    /// now on.
    pub(crate) fn park(
        self: &Arc<Self>,
        place: Place,
        record: Record,
        job: JobMessage,
        why: Why,
    ) -> impl Future<Output = ()> + Send + 'static {
        let parked = Parked::new(place, size(&record));
        let payload = record.payload.unwrap_or_default();
        let engine = Arc::clone(self);
        async move {
            let work = engine.put_away(&parked.place, &record.headers, &job, payload, why);
            if work.await.is_ok() {
                parked.place.complete();
            }
        }
    }

    /// The same for a job that stood in line.
    pub(crate) async fn park_from_line(
        &self,
        place: &Place,
        job: &JobMessage,
        headers: &RecordHeaders,
        why: Why,
    ) -> Result<(), Stopped> {
        // What was read is not kept while a job is in line: it would take its memory twice.
        let payload = self.encoded(job)?;
        let parked = Parked::new(place.clone(), payload.len() + RECORD_COST);
        self.put_away(&parked.place, headers, job, payload, why)
            .await
    }

    /// Parks what was taken out of line again. Returns at once, as [`Engine::park`] does.
    pub(crate) fn park_surplus(
        self: &Arc<Self>,
        ready: Ready,
    ) -> impl Future<Output = ()> + Send + 'static {
        let engine = Arc::clone(self);
        let parked = Parked::new(ready.place, ready.bytes);
        async move {
            let Work::Run { job, headers } = ready.work else {
                return;
            };
            let Ok(payload) = engine.encoded(&job) else {
                return;
            };
            let work = engine.put_away(&parked.place, &headers, &job, payload, Why::Limit);
            if work.await.is_ok() {
                parked.place.complete();
            }
        }
    }

    async fn put_away(
        &self,
        place: &Place,
        headers: &RecordHeaders,
        job: &JobMessage,
        payload: Bytes,
        why: Why,
    ) -> Result<(), Stopped> {
        if !place.is_current() {
            return Err(Stopped);
        }
        let now = now_millis();
        if now >= job.deadline {
            return self.expire(place, job, headers).await;
        }
        let times = headers.parked();
        let (first, most) = (self.settings.park_after, self.settings.park_at_most);
        let due = due(now, parking::pause(times, first, most, rand::random()), job);
        let (target, partition) = self.target(place, job);
        let mut headers = headers.clone();
        headers.set(PARKED, times.saturating_add(1).to_string());
        headers.delay(due, &target, partition);
        let rung = self.ladder.first_rung(ladder::remaining(due, now));
        let out = Outgoing {
            topic: self.topics.delay(rung),
            partition: None,
            key: job.job_id.to_string(),
            headers,
            payload,
        };
        let begun = Instant::now();
        let sent = self
            .outbox
            .producer
            .send_until_acked(out, &self.outbox.stop)
            .await;
        self.metrics
            .produced("delay", result_label(&sent), begun.elapsed());
        // Where that fails the record is uncommitted, and read again by whoever comes next.
        sent.map_err(|_| Stopped)?;
        let why = why.as_str();
        self.metrics.job_parked(job.job_type.as_str(), why);
        tracing::debug!(
            job_id = %job.job_id,
            job_type = %job.job_type,
            why,
            target,
            partition,
            times = times + 1,
            pause_ms = due - now,
            "job parked"
        );
        Ok(())
    }

    /// The topic that a parked job comes back to, the one it was read from or that of the pool that its type is in; and
    /// the partition, where the producer would choose the same one again.
    fn target(&self, place: &Place, job: &JobMessage) -> (String, Option<i32>) {
        let lane = &place.lane;
        let repertoire = self.repertoire.load();
        match repertoire.pool_elsewhere(&job.job_type) {
            Some(pool) if *pool != lane.pool => (self.topics.jobs(pool, lane.tier), None),
            _ => {
                let partitions = self.partitions.get();
                let partitions = partitions.and_then(|known| known.get(&lane.topic));
                let other = partitions.and_then(|partitions| {
                    parking::partition(place.partition, *partitions, rand::random())
                });
                // Of a serial key all stay in its partition.
                let partition = match job.serial_key {
                    Some(_) => Some(place.partition),
                    None => other,
                };
                (lane.topic.clone(), partition)
            }
        }
    }
}

/// What a job has to pass. One with a serial key passes nothing: a job that is parked leaves its place in the order.
fn gate<'a>(runnable: &'a Runnable, job: &JobMessage) -> Option<&'a Gate> {
    let gate = runnable.gate.as_ref();
    gate.filter(|_| job.serial_key.is_none())
}

/// When a parked job comes back. Not after its deadline: its end is to be told in time.
fn due(now: Millis, pause: Duration, job: &JobMessage) -> Millis {
    let pause = Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX);
    now.saturating_add(pause).min(job.deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    #[test]
    fn a_parked_job_comes_back_before_its_deadline() {
        let mut job = job("echo");
        job.deadline = 10_000;
        assert_eq!(due(1_000, Duration::from_secs(5), &job), 6_000);
        assert_eq!(due(7_000, Duration::from_secs(5), &job), 10_000);
        assert_eq!(due(7_000, Duration::MAX, &job), 10_000);
    }
}
