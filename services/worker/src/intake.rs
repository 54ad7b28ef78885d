//! One consumer of one lane: reads records, judges them and puts them in line; commits what is done.
//!
//! It never waits for a handler. When its lane is full it pauses its partitions and goes on polling, so that the
//! group does not take it for dead; when the registry cannot be reached for a schema that it has not seen, only the
//! partition with that record stands still.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_contract::now_millis;
use tidegate_kafka::{ConsumerEvent, DecodeError, GroupConsumer, Record};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::decoding::{Decoded, decoding, poll_once, wait_for_schema};
use crate::execute::Engine;
use crate::handover::away::Away;
use crate::held::Held;
use crate::lane::{Lane, Place};
use crate::offsets::Read;
use crate::read_back::{ReadBack, read_back};

/// How long a full lane is given to empty itself by half before it is paused: a pause drops what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(10);
/// Each of these commits everything, whether or not it has changed.
const COMMIT_ALL: u32 = 50;
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);
/// How long the last commit is tried for: on a busy machine a rebalance that is under way refuses it for seconds. At least
/// so long, however little of the grace time is left.
const FAREWELL: Duration = Duration::from_secs(5);
const LEAST_FAREWELL: Duration = Duration::from_secs(1);
/// How long after a try the next one comes, unless there is a reason to try earlier.
const AGAIN: Duration = Duration::from_millis(300);

/// When an intake ends.
#[derive(Clone)]
pub(crate) struct Stops {
    /// Take nothing more, but stay in the group.
    pub intake: CancellationToken,
    /// Everything is delivered: commit and leave.
    pub leave: CancellationToken,
    /// Set before that: by when it should be done.
    pub leave_by: Arc<OnceLock<Instant>>,
}

/// The reading task of one lane.
pub(crate) struct Intake {
    pub lane: Arc<Lane>,
    pub engine: Arc<Engine>,
    pub consumer: Arc<GroupConsumer>,
    pub tasks: TaskTracker,
    pub held: Held,
    pub stops: Stops,
}

/// Records of a partition that waits for the registry.
#[derive(Default)]
struct Backlog {
    records: VecDeque<(Place, Record)>,
}

impl Intake {
    /// Reads until told to leave.
    pub(crate) async fn run(self) {
        let (tell, mut decoded) = mpsc::unbounded_channel();
        let (tell_back, mut back) = mpsc::unbounded_channel();
        let mut reading = Reading {
            waiting: HashMap::new(),
            early: HashMap::new(),
            held_back: BTreeSet::new(),
            paused: BTreeSet::new(),
            away: Away::default(),
            stopped: false,
            tell,
            tell_back,
        };
        let mut tick = tokio::time::interval(self.engine.settings.commit_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        let mut beats = self.engine.heard.news.subscribe();
        loop {
            tokio::select! {
                () = self.stops.leave.cancelled() => break,
                () = self.stops.intake.cancelled(), if !reading.stopped => self.stop(&mut reading),
                _ = tick.tick() => {
                    ticks += 1;
                    self.commit(ticks % COMMIT_ALL == 0);
                    self.hold_back_crowded(&mut reading);
                    self.review(&mut reading.away);
                }
                Ok(()) = beats.changed(), if !reading.away.is_empty() => self.review(&mut reading.away),
                () = self.lane.commit_wanted.notified() => self.commit(false),
                Some(back) = back.recv() => self.read_back(&mut reading, back).await,
                Some(decoded) = decoded.recv() => self.decoded(&mut reading, decoded),
                () = self.lane.emptied.notified(), if !reading.paused.is_empty() => self.resume(&mut reading),
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
                // Until it is known what is done of them.
                self.consumer.pause(&partitions);
                let assigned = self.lane.assign(&partitions);
                self.rebalanced("assigned", &partitions);
                reading.held_back.extend(&partitions);
                let consumer = Arc::clone(&self.consumer);
                tokio::spawn(read_back(consumer, assigned, reading.tell_back.clone()));
            }
            ConsumerEvent::Revoked(partitions) => {
                self.lane.revoke(&partitions);
                self.count_waiting();
                for partition in &partitions {
                    reading.waiting.remove(partition);
                    reading.early.remove(partition);
                    reading.held_back.remove(partition);
                    reading.paused.remove(partition);
                    self.held.release(&self.lane.topic, *partition);
                }
                reading.away.forget();
                self.rebalanced("revoked", &partitions);
            }
            ConsumerEvent::Committed(Ok(())) => {
                self.engine.metrics.committed(&self.lane.label, "ok");
            }
            ConsumerEvent::Committed(Err(problem)) => {
                self.engine.metrics.committed(&self.lane.label, "failed");
                tracing::warn!(topic = %self.lane.topic, problem, "a commit failed and will be repeated");
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
        let partition = record.partition;
        if !self.lane.is_restored(partition) {
            // Fetched before the pause took hold.
            reading.early.entry(partition).or_default().push(record);
            return;
        }
        self.engine.metrics.job_received(self.lane.tier);
        let read = self
            .lane
            .deliver(partition, record.offset, record.timestamp);
        let place = match read {
            Read::New(place) => place,
            Read::Done => return self.engine.metrics.job_passed_over(self.lane.tier),
            Read::Repeat => return,
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
                self.admit(&mut reading.away, place, record, result);
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
        self.admit(&mut reading.away, place, record, result);
        let backlog = reading.waiting.remove(&partition).unwrap_or_default();
        let mut records = backlog.records;
        while let Some((place, record)) = records.pop_front() {
            if !self.decode(reading, place, record) {
                reading.waiting.entry(partition).or_default().records = records;
                return;
            }
        }
        if !reading.paused.contains(&partition) && !reading.held_back.contains(&partition) {
            self.consumer.resume(&[partition]);
        }
    }

    /// It is known what is done of partitions: their records may come.
    async fn read_back(&self, reading: &mut Reading, back: ReadBack) {
        for found in back.partitions {
            let partition = found.assigned.0;
            let restored = self
                .lane
                .restore(found.assigned, found.committed.as_ref(), found.end);
            let Some(restored) = restored else {
                continue;
            };
            let topic = &self.lane.topic;
            match restored {
                Ok(found) if found.unclean => {
                    self.engine.metrics.unclean_end(&self.lane.label);
                    tracing::warn!(
                        topic,
                        partition,
                        done = found.done,
                        running = found.running,
                        times = found.falls,
                        "the last worker of a partition ended without a farewell"
                    );
                }
                Ok(found) => tracing::debug!(topic, partition, done = found.done, "read back"),
                Err(problem) => tracing::warn!(
                    topic,
                    partition,
                    %problem,
                    "what lies beside the committed offset cannot be used: jobs above it may run again"
                ),
            }
            for record in reading.early.remove(&partition).unwrap_or_default() {
                if !reading.stopped {
                    self.record(reading, record);
                    self.hold_back(reading).await;
                }
            }
        }
        self.hold_back_crowded(reading);
    }

    /// Pauses what must not be read now, and reads on where that may be again.
    fn hold_back_crowded(&self, reading: &mut Reading) {
        let held_back = self.lane.held_back();
        if held_back == reading.held_back || reading.stopped {
            return;
        }
        let more: Vec<_> = held_back.difference(&reading.held_back).copied().collect();
        let mut less: Vec<_> = reading.held_back.difference(&held_back).copied().collect();
        reading.held_back = held_back;
        if !more.is_empty() {
            self.consumer.pause(&more);
        }
        less.retain(|partition| {
            !reading.waiting.contains_key(partition) && !reading.paused.contains(partition)
        });
        if !less.is_empty() {
            self.consumer.resume(&less);
        }
    }

    /// Pauses what fills a lane that stays full. Other partitions are read on: what is in them does not stand behind
    /// a flood.
    async fn hold_back(&self, reading: &mut Reading) {
        if !self.lane.is_full() {
            return;
        }
        // Once something is paused the rest is read for the few records that it may have.
        if reading.paused.is_empty() {
            let emptied = async {
                while !self.lane.has_room() {
                    self.lane.emptied.notified().await;
                }
            };
            if timeout(PATIENCE, emptied).await.is_ok() {
                return;
            }
        }
        for ready in self.engine.desk.surplus(&self.lane) {
            self.tasks.spawn(self.engine.park_surplus(ready));
        }
        if !self.lane.is_full() {
            return self.count_waiting();
        }
        let mut heavy = self.lane.heavy();
        heavy.retain(|partition| reading.paused.insert(*partition));
        self.consumer.pause(&heavy);
    }

    fn resume(&self, reading: &mut Reading) {
        if reading.stopped {
            return;
        }
        let mut light = self.lane.light();
        light.retain(|partition| reading.paused.remove(partition));
        // Those wait for something else as well.
        light.retain(|partition| {
            !reading.waiting.contains_key(partition) && !reading.held_back.contains(partition)
        });
        if !light.is_empty() {
            self.consumer.resume(&light);
        }
    }

    /// Takes nothing more; what is in line stays uncommitted for others.
    fn stop(&self, reading: &mut Reading) {
        reading.stopped = true;
        self.consumer.pause(&self.lane.owned());
        reading.waiting.clear();
        reading.early.clear();
        reading.away = Away::default();
        self.lane.clear();
        self.count_waiting();
    }

    fn commit(&self, all: bool) {
        let positions = self.lane.to_commit(all);
        if !positions.is_empty() {
            let (consumer, lane) = (Arc::clone(&self.consumer), Arc::clone(&self.lane));
            let metrics = self.engine.metrics.clone();
            tokio::spawn(async move {
                let answer = consumer.commit_sync(&positions).await;
                if let Err(problem) = &answer {
                    tracing::warn!(topic = %lane.topic, %problem, "a commit failed, going on");
                }
                let result = if answer.is_ok() { "ok" } else { "failed" };
                metrics.committed(&lane.label, result);
                lane.committed(&positions, answer.is_ok());
            });
        }
        let age = self.lane.oldest().map_or(0, |at| now_millis() - at).max(0);
        let age = Duration::from_millis(age.unsigned_abs());
        self.engine.metrics.unread_age(&self.lane.topic, age);
    }

    /// Says the last word and leaves.
    async fn leave(self) {
        let by = self.stops.leave_by.get();
        let left = by.map_or(FAREWELL, |by| by.saturating_duration_since(Instant::now()));
        let limit = left.saturating_sub(LEAVE).clamp(LEAST_FAREWELL, FAREWELL);
        if timeout(limit, self.say_farewell()).await.is_ok() {
            self.engine.metrics.committed(&self.lane.label, "ok");
        } else {
            self.engine.metrics.committed(&self.lane.label, "failed");
            tracing::warn!(topic = %self.lane.topic, "the last commit failed: some jobs may run again");
        }
        self.consumer.close(LEAVE).await;
    }

    /// Commits until that is taken. A rebalance that is under way may refuse it until we have taken our part in it; what
    /// it gives us is for others.
    async fn say_farewell(&self) {
        while let Err(problem) = self.consumer.commit_sync(&self.lane.farewell()).await {
            tracing::debug!(topic = %self.lane.topic, %problem, "the last commit failed, trying again");
            let rebalanced = async {
                while !matches!(
                    self.consumer.next().await,
                    ConsumerEvent::Assigned(_) | ConsumerEvent::Revoked(_)
                ) {}
            };
            let _ = timeout(AGAIN, rebalanced).await;
        }
    }
}

/// What the reading task keeps between events.
struct Reading {
    /// Partitions that wait for the registry, with what stands behind.
    waiting: HashMap<i32, Backlog>,
    /// Records of partitions that were not read back yet.
    early: HashMap<i32, Vec<Record>>,
    /// Partitions that are paused: not read back yet, or crowded.
    held_back: BTreeSet<i32>,
    /// Partitions that are not read because the lane is full of them.
    paused: BTreeSet<i32>,
    /// Records that may still run where their partition comes from.
    away: Away,
    /// Nothing more is taken.
    stopped: bool,
    tell: mpsc::UnboundedSender<Decoded>,
    tell_back: mpsc::UnboundedSender<ReadBack>,
}
