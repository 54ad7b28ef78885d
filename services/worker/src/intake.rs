//! One consumer of one lane: reads records, judges them and puts them in line; commits what is done.
//!
//! It never waits for a handler. When its lane is full it pauses its partitions and goes on polling, so that the
//! group does not take it for dead; when the registry cannot be reached for a schema that it has not seen, only the
//! partition with that record stands still.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tidegate_contract::{JobMessage, now_millis};
use tidegate_kafka::{Codec, ConsumerEvent, DecodeError, GroupConsumer, Record};
use tidegate_runtime::backoff::Backoff;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execute::Engine;
use crate::held::Held;
use crate::lane::{Lane, Place, RECORD_COST, Ready};
use crate::work::{Problem, Rejected, Unreadable, Work, judge};

/// How long a full lane is given to empty itself before it is paused: a pause drops what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(50);
/// Commits that failed are repeated with the next of these.
const COMMIT_ALL: u32 = 50;
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

type Decoding = Pin<Box<dyn Future<Output = Result<JobMessage, DecodeError>> + Send>>;

/// When an intake ends.
#[derive(Clone)]
pub(crate) struct Stops {
    /// Take nothing more, but stay in the group.
    pub intake: CancellationToken,
    /// Everything is delivered: commit and leave.
    pub leave: CancellationToken,
}

/// The reading task of one lane.
pub(crate) struct Intake {
    pub lane: Arc<Lane>,
    pub engine: Arc<Engine>,
    pub consumer: GroupConsumer,
    /// Told when there is work in line.
    pub work: Arc<Notify>,
    pub tasks: TaskTracker,
    pub held: Held,
    pub stops: Stops,
}

/// Records of a partition that waits for the registry.
#[derive(Default)]
struct Backlog {
    records: VecDeque<(Place, Record)>,
}

/// A record whose schema has come, or will not.
struct Decoded {
    place: Place,
    record: Record,
    result: Result<JobMessage, DecodeError>,
}

impl Intake {
    /// Reads until told to leave.
    pub(crate) async fn run(self) {
        let (tell, mut decoded) = mpsc::unbounded_channel();
        let mut reading = Reading {
            waiting: HashMap::new(),
            paused: false,
            stopped: false,
            tell,
        };
        let mut tick = tokio::time::interval(self.engine.settings.commit_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                () = self.stops.leave.cancelled() => break,
                () = self.stops.intake.cancelled(), if !reading.stopped => self.stop(&mut reading),
                _ = tick.tick() => {
                    ticks += 1;
                    self.commit(ticks % COMMIT_ALL == 0);
                }
                Some(decoded) = decoded.recv() => self.decoded(&mut reading, decoded),
                () = self.lane.emptied.notified(), if reading.paused => self.resume(&mut reading),
                event = self.consumer.next() => self.event(&mut reading, event).await,
            }
        }
        self.leave().await;
    }

    async fn event(&self, reading: &mut Reading, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Record(record) => {
                if !reading.stopped {
                    self.record(reading, record);
                    self.hold_back(reading).await;
                }
            }
            ConsumerEvent::Assigned(partitions) => {
                self.lane.assign(&partitions);
                self.rebalanced("assigned", &partitions);
                if reading.paused || reading.stopped {
                    self.consumer.pause(&partitions);
                }
            }
            ConsumerEvent::Revoked(partitions) => {
                self.lane.revoke(&partitions);
                for partition in &partitions {
                    reading.waiting.remove(partition);
                    self.held.release(&self.lane.topic, *partition);
                }
                self.rebalanced("revoked", &partitions);
            }
            ConsumerEvent::EndOfPartition(_) => {}
            ConsumerEvent::Trouble(problem) => {
                self.engine.metrics.consumer_trouble(&self.lane.label);
                tracing::warn!(topic = %self.lane.topic, problem, "consumer trouble, going on");
            }
        }
    }

    fn rebalanced(&self, change: &'static str, partitions: &[i32]) {
        let owned = self.lane.owned().len();
        let metrics = &self.engine.metrics;
        metrics.rebalanced(&self.lane.label, change, owned);
        tracing::info!(topic = %self.lane.topic, ?partitions, owned, "partitions {change}");
    }

    fn record(&self, reading: &mut Reading, record: Record) {
        self.engine.metrics.job_received(self.lane.tier);
        let partition = record.partition;
        let Some(place) = self
            .lane
            .deliver(partition, record.offset, record.timestamp)
        else {
            return;
        };
        if let Some(backlog) = reading.waiting.get_mut(&partition) {
            // Fetched before the pause took hold.
            backlog.records.push_back((place, record));
            return;
        }
        self.decode(reading, place, record);
    }

    /// Decodes at once if the schema is known, else holds the partition until it is. Whether it was decoded.
    fn decode(&self, reading: &mut Reading, place: Place, record: Record) -> bool {
        let mut decoding = decoding(&self.engine.outbox.codec, &record);
        match poll_once(&mut decoding) {
            Some(Err(DecodeError::RegistryUnavailable(_))) | None => {
                let partition = record.partition;
                self.consumer.pause(&[partition]);
                reading.waiting.entry(partition).or_default();
                let wait = wait_for_schema(
                    decoding,
                    self.engine.outbox.codec.clone(),
                    place,
                    record,
                    self.held.clone(),
                    reading.tell.clone(),
                );
                let stop = self.stops.intake.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = wait => {}
                    }
                });
                false
            }
            Some(result) => {
                self.put_in_line(place, record, result);
                true
            }
        }
    }

    /// The registry has answered for a record: it goes in line, and so does what stood behind it.
    fn decoded(&self, reading: &mut Reading, decoded: Decoded) {
        let Decoded {
            place,
            record,
            result,
        } = decoded;
        if reading.stopped || !place.is_current() {
            return;
        }
        let partition = record.partition;
        self.held.release(&self.lane.topic, partition);
        self.put_in_line(place, record, result);
        let backlog = reading.waiting.remove(&partition).unwrap_or_default();
        let mut records = backlog.records;
        while let Some((place, record)) = records.pop_front() {
            if !self.decode(reading, place, record) {
                reading.waiting.entry(partition).or_default().records = records;
                return;
            }
        }
        if !reading.paused {
            self.consumer.resume(&[partition]);
        }
    }

    fn put_in_line(&self, place: Place, record: Record, result: Result<JobMessage, DecodeError>) {
        let replies = self.engine.replies.partitions();
        let bytes = record.payload.as_ref().map_or(0, |value| value.len()) + RECORD_COST;
        let work = match judge(&record, result) {
            Ok(job) if job.reply_partition >= replies => {
                let problem = Problem::no_reply_partition(job.reply_partition, replies);
                let job = Some(job);
                Work::SetAside(Box::new(Unreadable {
                    record,
                    problem,
                    job,
                }))
            }
            Ok(job) if self.engine.find(&job).is_none() => {
                self.tasks.spawn(self.engine.hand_on(place, record, job));
                return;
            }
            Ok(job) => Work::Run {
                job: Arc::new(job),
                headers: record.headers,
            },
            Err(rejected) => {
                let Rejected { problem, job } = *rejected;
                Work::SetAside(Box::new(Unreadable {
                    record,
                    problem,
                    job,
                }))
            }
        };
        self.lane.push(Ready { place, bytes, work });
        let waiting = self.lane.waiting();
        self.engine.metrics.jobs_waiting(self.lane.tier, waiting);
        self.work.notify_one();
    }

    /// Pauses a lane that stays full.
    async fn hold_back(&self, reading: &mut Reading) {
        if !self.lane.is_full() || reading.paused {
            return;
        }
        let emptied = async {
            while self.lane.is_full() {
                self.lane.emptied.notified().await;
            }
        };
        if timeout(PATIENCE, emptied).await.is_err() {
            self.consumer.pause(&self.lane.owned());
            reading.paused = true;
        }
    }

    fn resume(&self, reading: &mut Reading) {
        if reading.stopped || !self.lane.has_room() {
            return;
        }
        let mut partitions = self.lane.owned();
        partitions.retain(|partition| !reading.waiting.contains_key(partition));
        self.consumer.resume(&partitions);
        reading.paused = false;
    }

    /// Takes nothing more; what is in line stays uncommitted for others.
    fn stop(&self, reading: &mut Reading) {
        reading.stopped = true;
        self.consumer.pause(&self.lane.owned());
        reading.waiting.clear();
        self.lane.clear();
    }

    fn commit(&self, all: bool) {
        let positions = self.lane.to_commit(all);
        if !positions.is_empty() {
            self.consumer.commit(&positions);
            self.engine.metrics.committed(&self.lane.label, "ok");
        }
        let age = self.lane.oldest().map_or(0, |at| now_millis() - at).max(0);
        let age = Duration::from_millis(age.unsigned_abs());
        self.engine.metrics.unread_age(&self.lane.topic, age);
    }

    async fn leave(self) {
        let positions = self.lane.to_commit(true);
        let committed = timeout(LEAVE, self.consumer.commit_sync(&positions)).await;
        if !matches!(committed, Ok(Ok(()))) {
            self.engine.metrics.committed(&self.lane.label, "failed");
            tracing::warn!(topic = %self.lane.topic, "the last commit failed: some jobs may run again");
        }
        self.consumer.close(LEAVE).await;
    }
}

/// What the reading task keeps between events.
struct Reading {
    /// Partitions that wait for the registry, with what stands behind.
    waiting: HashMap<i32, Backlog>,
    /// The lane is full.
    paused: bool,
    /// Nothing more is taken.
    stopped: bool,
    tell: mpsc::UnboundedSender<Decoded>,
}

fn decoding(codec: &Codec, record: &Record) -> Decoding {
    let codec = codec.clone();
    let payload = record.payload.clone().unwrap_or_default();
    // Outside tokio's budget, which would make it look pending now and then.
    Box::pin(tokio::task::unconstrained(async move {
        codec.decode_job(&payload).await
    }))
}

/// Polls a future that is mostly ready at once. What it returns as pending must be polled on.
fn poll_once(decoding: &mut Decoding) -> Option<Result<JobMessage, DecodeError>> {
    let waker = std::task::Waker::noop();
    match decoding
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
    {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Asks until the registry answers.
async fn wait_for_schema(
    first: Decoding,
    codec: Codec,
    place: Place,
    record: Record,
    held: Held,
    tell: mpsc::UnboundedSender<Decoded>,
) {
    // The first try has seen a waker that wakes nobody; it is begun anew.
    drop(first);
    let backoff = Backoff::default();
    let mut failures = 0;
    let result = loop {
        match decoding(&codec, &record).await {
            Err(DecodeError::RegistryUnavailable(problem)) => {
                if !place.is_current() {
                    return;
                }
                held.hold(&place.lane.topic, record.partition, &problem);
                let pause = backoff.delay(failures, rand::random_range(0.5..1.0));
                failures = failures.saturating_add(1);
                tokio::time::sleep(pause).await;
            }
            result => break result,
        }
    };
    let _ = tell.send(Decoded {
        place,
        record,
        result,
    });
}
