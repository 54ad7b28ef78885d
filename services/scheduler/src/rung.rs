//! One rung: reads its topic, holds what is to move soon, and moves it.
//!
//! The loop never waits for anything but its next event. Records of a partition leave in the order in which they came,
//! so its head is the next to move: a partition whose head is not due soon is paused, and is read on when it is.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::ladder::Step;
use tidegate_contract::{Millis, now_millis};
use tidegate_kafka::{ConsumerEvent, GroupConsumer, Record};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::{Moved, Mover, name};
use crate::held::{Held, Room};
use crate::judge::{Problem, judge, window};
use crate::lines::{At, Lines};
use crate::settings::SchedulerSettings;

/// What a record costs besides its payload, roughly.
const RECORD_COST: usize = 1024;
/// Commits that failed are repeated with the next of these.
const COMMIT_ALL: u32 = 50;
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

/// When a rung ends.
#[derive(Clone)]
pub(crate) struct Stops {
    /// Take nothing more, but stay in the group.
    pub intake: CancellationToken,
    /// What was on its way is delivered: commit and leave.
    pub leave: CancellationToken,
}

/// The task of one rung.
pub(crate) struct Rung {
    pub delay: Duration,
    pub topic: String,
    pub consumer: GroupConsumer,
    pub lines: Arc<Lines>,
    pub mover: Arc<Mover>,
    pub settings: SchedulerSettings,
    /// Records on their way.
    pub tasks: TaskTracker,
    pub stops: Stops,
}

/// A record that waits here.
struct Waiting {
    at: At,
    record: Record,
    way: Result<Millis, Problem>,
    /// When it leaves the rung, and when it is moved on from here.
    leaves: Millis,
    moves: Millis,
    bytes: usize,
}

/// A partition that is paused, because its first record is not to move soon or there is no room for it.
struct Paused {
    waiting: VecDeque<Waiting>,
    /// When the first is looked at again; `None`: when there is room.
    wake: Option<Millis>,
}

/// News of a record that was on its way.
struct Back {
    at: At,
    moves: Millis,
    bytes: usize,
    moved: Moved,
}

/// What the task keeps between events.
struct Reading {
    held: Held<Waiting>,
    paused: HashMap<i32, Paused>,
    /// When records that are on their way had to move, and where they lay.
    moving: BTreeSet<(Millis, i32, i64)>,
    room: Room,
    stopped: bool,
    tell: mpsc::UnboundedSender<Back>,
}

impl Rung {
    /// Reads and moves until told to leave.
    pub(crate) async fn run(self) {
        let (tell, mut backs) = mpsc::unbounded_channel();
        let mut reading = Reading {
            held: Held::new(),
            paused: HashMap::new(),
            moving: BTreeSet::new(),
            room: Room::new(self.settings.hold_records, self.settings.hold_bytes),
            stopped: false,
            tell,
        };
        let mut tick = tokio::time::interval(self.settings.commit_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            let next = reading.next_turn();
            tokio::select! {
                () = self.stops.leave.cancelled() => break,
                () = self.stops.intake.cancelled(), if !reading.stopped => self.stop(&mut reading),
                _ = tick.tick() => {
                    ticks += 1;
                    self.commit(ticks % COMMIT_ALL == 0);
                    self.observe(&reading);
                }
                Some(back) = backs.recv() => self.back(&mut reading, &back),
                () = at(next) => {}
                event = self.consumer.next() => self.event(&mut reading, event),
            }
            self.turn(&mut reading);
        }
        self.leave().await;
    }

    fn event(&self, reading: &mut Reading, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Record(record) => {
                if !reading.stopped {
                    self.record(reading, record);
                }
            }
            ConsumerEvent::Assigned(partitions) => {
                self.lines.assign(&partitions);
                self.rebalanced("assigned", &partitions);
                if reading.stopped {
                    self.consumer.pause(&partitions);
                }
            }
            ConsumerEvent::Revoked(partitions) => {
                self.lines.revoke(&partitions);
                reading.drop_of(&partitions);
                self.rebalanced("revoked", &partitions);
            }
            ConsumerEvent::Committed(Ok(())) => self.mover.metrics.committed(&self.label(), "ok"),
            ConsumerEvent::Committed(Err(problem)) => {
                self.mover.metrics.committed(&self.label(), "failed");
                tracing::warn!(topic = %self.topic, problem, "a commit failed and will be repeated");
            }
            ConsumerEvent::EndOfPartition(_) => {}
            ConsumerEvent::Trouble(problem) => {
                self.mover.metrics.consumer_trouble(&self.label());
                tracing::warn!(topic = %self.topic, problem, "consumer trouble, going on");
            }
        }
    }

    fn label(&self) -> String {
        format!("delay-{}", name(self.delay))
    }

    fn rebalanced(&self, change: &'static str, partitions: &[i32]) {
        let owned = self.lines.owned().len();
        self.mover.metrics.rebalanced(&self.label(), change, owned);
        tracing::info!(topic = %self.topic, ?partitions, owned, "partitions {change}");
    }

    fn record(&self, reading: &mut Reading, record: Record) {
        let partition = record.partition;
        let Some(at) = self.lines.deliver(partition, record.offset) else {
            return;
        };
        let waiting = self.judged(at, record);
        match reading.paused.get_mut(&partition) {
            // Fetched before the pause took hold.
            Some(paused) => paused.waiting.push_back(waiting),
            None => {
                let waiting = VecDeque::from([waiting]);
                let wake = None;
                if let Some(paused) = self.admit(reading, Paused { waiting, wake }) {
                    self.consumer.pause(&[partition]);
                    reading.paused.insert(partition, paused);
                }
            }
        }
    }

    fn judged(&self, at: At, record: Record) -> Waiting {
        let mover = &self.mover;
        // Where a broker says no time, the record counts as new.
        let appended = record.timestamp.unwrap_or_else(now_millis);
        let plan = judge(
            &record.headers,
            appended,
            self.delay,
            &mover.ladder,
            &mover.topics,
        );
        let bytes = record.payload.as_ref().map_or(0, |value| value.len()) + RECORD_COST;
        let (way, leaves, moves) = match plan {
            Ok(plan) => (Ok(plan.due), plan.leaves, plan.moves),
            Err(problem) => (Err(problem), Millis::MIN, Millis::MIN),
        };
        Waiting {
            at,
            record,
            way,
            leaves,
            moves,
            bytes,
        }
    }

    /// Takes from the front what is to move soon and has room. What is left, with the time at which it is worth another
    /// look; `None` if nothing is left.
    fn admit(&self, reading: &mut Reading, mut paused: Paused) -> Option<Paused> {
        let window = millis(window(self.delay, &self.mover.ladder));
        let now = now_millis();
        while let Some(first) = paused.waiting.pop_front() {
            if first.leaves.saturating_sub(window) > now {
                // Later than it could be taken, so that many can then be read before the next pause.
                paused.wake = Some(first.leaves - window / 4);
                paused.waiting.push_front(first);
                return Some(paused);
            }
            if !reading.room.take(first.bytes) {
                paused.wake = None;
                paused.waiting.push_front(first);
                return Some(paused);
            }
            reading.held.push(first.moves, first);
        }
        None
    }

    /// Moves what is due, and reads on where that is worth it.
    fn turn(&self, reading: &mut Reading) {
        let now = now_millis();
        while let Some(waiting) = reading.held.pop_due(now) {
            if !self.is_dropped(reading, &waiting) {
                self.set_off(reading, waiting, now);
            }
        }
        let look = |paused: &Paused| paused.wake.is_none_or(|wake| wake <= now);
        let awake = reading.paused.iter().filter(|(_, paused)| look(paused));
        let awake: Vec<i32> = awake.map(|(partition, _)| *partition).collect();
        for partition in awake {
            let Some(paused) = reading.paused.remove(&partition) else {
                continue;
            };
            match self.admit(reading, paused) {
                Some(paused) => drop(reading.paused.insert(partition, paused)),
                None => self.consumer.resume(&[partition]),
            }
        }
    }

    /// Whether a record has come to its end here: its job is called off, so that a worker would drop it.
    fn is_dropped(&self, reading: &mut Reading, waiting: &Waiting) -> bool {
        let Waiting { at, record, .. } = waiting;
        // What nobody knows what to do with is kept in any case.
        let called_off = waiting.way.as_ref().ok();
        let called_off = called_off.and_then(|_| self.mover.orders.called_off(record));
        let Some(job_id) = called_off else {
            return false;
        };
        let (topic, partition, offset) = (&self.topic, at.partition, at.offset);
        tracing::debug!(topic, partition, offset, %job_id, "dropped: the job is called off");
        let job_type = record.headers.job_type();
        let job_type = job_type.as_ref().map_or("", |name| name.as_str());
        self.mover.metrics.job_dropped(job_type, "delayed");
        reading.room.give_back(waiting.bytes);
        self.lines.complete(*at);
        true
    }

    /// Sends a record on its way in a task of its own, unless a little of its time is left.
    fn set_off(&self, reading: &mut Reading, waiting: Waiting, now: Millis) {
        let Waiting {
            at,
            record,
            way,
            leaves,
            moves,
            bytes,
        } = waiting;
        let to = match &way {
            Ok(due) => match self.mover.step(*due, now) {
                Step::Wait(_) => {
                    let (moves, way) = (*due, way);
                    let waiting = Waiting {
                        at,
                        record,
                        way,
                        leaves,
                        moves,
                        bytes,
                    };
                    reading.held.push(moves, waiting);
                    return;
                }
                Step::Rung(rung) => Some(rung),
                Step::Target => None,
            },
            Err(_) => None,
        };
        reading.moving.insert((moves, at.partition, at.offset));
        let (mover, from, tell) = (Arc::clone(&self.mover), self.delay, reading.tell.clone());
        self.tasks.spawn(async move {
            let moved = match (way, to) {
                (Err(problem), _) => mover.refuse(&record, &problem).await,
                (Ok(_), Some(rung)) => mover.to_rung(&record, from, rung).await,
                (Ok(due), None) => mover.to_target(&record, from, due).await,
            };
            // Nobody listens any more only when the rung has left.
            let _ = tell.send(Back {
                at,
                moves,
                bytes,
                moved,
            });
        });
    }

    fn back(&self, reading: &mut Reading, back: &Back) {
        let Back {
            at, moves, bytes, ..
        } = back;
        reading.room.give_back(*bytes);
        reading.moving.remove(&(*moves, at.partition, at.offset));
        if back.moved == Moved::Done {
            self.lines.complete(*at);
        }
    }

    /// Takes nothing more; what waits stays uncommitted for others.
    fn stop(&self, reading: &mut Reading) {
        reading.stopped = true;
        let owned = self.lines.owned();
        self.consumer.pause(&owned);
        reading.drop_of(&owned);
    }

    fn commit(&self, all: bool) {
        let positions = self.lines.to_commit(all);
        if !positions.is_empty() {
            self.consumer.commit(&positions);
            self.mover.metrics.committed(&self.label(), "sent");
        }
    }

    fn observe(&self, reading: &Reading) {
        let now = now_millis();
        let metrics = &self.mover.metrics;
        let age = |since: Option<Millis>| {
            let age = since.map_or(0, |since| now.saturating_sub(since)).max(0);
            Duration::from_millis(age.unsigned_abs())
        };
        let moving = reading.moving.first().map(|(moves, ..)| *moves);
        let moves = reading.held.next_at().into_iter().chain(moving).min();
        metrics.delay_overdue(&name(self.delay), age(moves));
        metrics.delay_held(&name(self.delay), reading.room.records());
        // What is on its way has been here for the time of the rung, and what is behind the first of a partition is younger.
        let firsts = reading.paused.values();
        let firsts = firsts.filter_map(|paused| paused.waiting.front()?.record.timestamp);
        let passed = moves.map(|moves| moves.saturating_sub(millis(self.delay)));
        metrics.unread_age(&self.topic, age(firsts.chain(passed).min()));
    }

    async fn leave(self) {
        let positions = self.lines.to_commit(true);
        let committed = timeout(LEAVE, self.consumer.commit_sync(&positions)).await;
        if !matches!(committed, Ok(Ok(()))) {
            self.mover.metrics.committed(&self.label(), "failed");
            tracing::warn!(topic = %self.topic, "the last commit failed: some records may be moved again");
        }
        self.consumer.close(LEAVE).await;
    }
}

impl Reading {
    /// When something is due that no event tells of.
    fn next_turn(&self) -> Option<Millis> {
        let wakes = self.paused.values().filter_map(|paused| paused.wake);
        wakes.chain(self.held.next_at()).min()
    }

    /// Forgets what waits of these partitions. What is on its way arrives; whether it counts, its assignment says.
    fn drop_of(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.paused.remove(partition);
        }
        let room = &mut self.room;
        self.held.retain(|waiting| {
            let keep = !partitions.contains(&waiting.at.partition);
            if !keep {
                room.give_back(waiting.bytes);
            }
            keep
        });
    }
}

/// Waits until that time, by the wall clock; for ever without one.
async fn at(time: Option<Millis>) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            let left = time.saturating_sub(now_millis());
            tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
        }
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
