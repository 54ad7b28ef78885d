//! The one task that reads replies: for the waits and for the projection.
//!
//! Records come from two consumers. The *group* consumer has the partitions that Kafka gave this gateway; what it
//! delivers is offered to the waits and queued for the projector. The *side* consumer follows, for the waits
//! alone, the partitions on which somebody waits and which the group consumer does not read just now. What is to
//! be read by whom is decided by the [`Ledger`]; this task carries it out and never blocks on anything but its own
//! `select!`: whatever takes time (store, broker, registry) runs in a task that comes back with a [`Notice`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_contract::{JobEvent, Millis, now_millis};
use tidegate_kafka::{AssignedConsumer, ConsumerEvent, GroupConsumer, Record};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::ledger::{Ledger, Phase};
use super::opening::Opening;
use super::queue::Epoch;
use super::tasks::{Opened, Tasks};

/// How often paused partitions are looked at, offsets committed and marks made.
const TICK: Duration = Duration::from_millis(250);

/// Marks are written once a second, which is also the sign of life that is asked of the store.
const TICKS_A_MARK: u64 = 4;

/// How long the group may leave a gateway without a partition before it borrows a home.
const BORROW_AFTER: Duration = Duration::from_secs(3);

/// What the helpers of the reader report back.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The store has said where a newly assigned partition stands.
    Opened { partition: i32, opened: Opened },
    /// The end of a partition that the side reader is to follow from there.
    End { partition: i32, offset: i64 },
    /// A batch is in the store.
    Applied {
        partition: i32,
        epoch: Epoch,
        next: i64,
        up_to: Option<Millis>,
    },
    /// The store is at another position than we thought.
    Stale { partition: i32, epoch: Epoch },
    /// A record that could not be decoded at once has been, or has been set aside.
    Settled(Box<Settled>),
}

/// A record that held its partition up, and what it was found to say: nothing, if it was set aside.
#[derive(Debug)]
pub(crate) struct Settled {
    pub epoch: Epoch,
    pub record: Record,
    pub event: Option<JobEvent>,
}

pub(crate) struct Reader {
    pub shared: Arc<Shared>,
    pub group: Arc<GroupConsumer>,
    pub side: Arc<AssignedConsumer>,
    pub tasks: Tasks,
    pub notices: mpsc::UnboundedReceiver<Notice>,
    pub ledger: Ledger,
    /// Cancels what runs for an assignment that has ended.
    pub assignments: BTreeMap<i32, CancellationToken>,
    /// Ends of partitions that were asked for and have not come back.
    pub asked: std::collections::BTreeSet<i32>,
    /// Records delivered behind one that is held.
    pub held: BTreeMap<i32, Vec<Record>>,
    /// Kafka offsets to commit at the next tick.
    pub commits: BTreeMap<i32, i64>,
    /// Times up to which everything has been applied, a partition; to be told to the store.
    pub marks: BTreeMap<i32, Millis>,
    /// The same since the partition was opened.
    pub applied_to: BTreeMap<i32, Millis>,
    pub begun: Instant,
    /// Spreads the homes of gateways over what they own.
    pub salt: u64,
    pub ticks: u64,
}

impl Reader {
    /// Reads until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(notice) = self.notices.recv() => { self.on_notice(notice); self.arrange(); }
                event = self.group.next() => self.on_group(event),
                event = self.side.next() => self.on_side(event),
                () = self.shared.waits.homes_changed() => self.arrange(),
                _ = tick.tick() => { self.on_tick(); self.arrange(); }
            }
        }
        for (_, assignment) in std::mem::take(&mut self.assignments) {
            assignment.cancel();
        }
        // What the projector finished last is worth a commit too.
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Applied { .. } = notice {
                self.on_notice(notice);
            }
        }
        self.commit();
    }

    fn on_group(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Record(record) => self.on_record(record),
            ConsumerEvent::Assigned(partitions) => {
                tracing::info!(?partitions, "reply partitions assigned");
                for partition in partitions {
                    self.open(partition);
                }
                self.shared.metrics.rebalanced(
                    "replies",
                    "assigned",
                    self.ledger.partitions().count(),
                );
                self.arrange();
            }
            ConsumerEvent::Revoked(partitions) => {
                tracing::info!(?partitions, "reply partitions revoked");
                for partition in partitions {
                    self.close(partition);
                }
                self.shared.metrics.rebalanced(
                    "replies",
                    "revoked",
                    self.ledger.partitions().count(),
                );
                self.arrange();
            }
            ConsumerEvent::Committed(result) => {
                let label = if result.is_ok() { "ok" } else { "failed" };
                self.shared.metrics.committed("replies", label);
                if let Err(reason) = result {
                    // A hint for lag tools: the position that counts is in the store.
                    tracing::debug!(reason, "replies are applied, and their commit failed");
                }
            }
            ConsumerEvent::EndOfPartition(partition) => {
                if let Some(owned) = self.ledger.owned_mut(partition) {
                    owned.at_end = true;
                }
            }
            ConsumerEvent::Trouble(reason) => {
                self.shared.metrics.consumer_trouble("replies");
                tracing::warn!(reason, "trouble while reading replies");
            }
        }
    }

    /// The side reader: nobody but the waits.
    fn on_side(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Record(record) => {
                self.shared.metrics.reply_read("waits");
                self.ledger.see(record.partition, record.offset);
                self.offer_undecoded(&record);
            }
            ConsumerEvent::Trouble(reason) => {
                self.shared.metrics.consumer_trouble("waits");
                tracing::debug!(reason, "trouble while reading replies for waits");
            }
            _ => {}
        }
    }

    /// Begins, or begins again, with a partition of the group: asks the store where it stands.
    pub(super) fn open(&mut self, partition: i32) {
        self.ledger.assign(partition);
        self.held.remove(&partition);
        self.shared.queues.close(partition);
        self.group.pause(&[partition]);
        let assignment = CancellationToken::new();
        if let Some(old) = self.assignments.insert(partition, assignment.clone()) {
            old.cancel();
        }
        self.tasks.open(partition, assignment);
    }

    fn close(&mut self, partition: i32) {
        if let Some(assignment) = self.assignments.remove(&partition) {
            assignment.cancel();
        }
        self.ledger.revoke(partition);
        self.held.remove(&partition);
        self.commits.remove(&partition);
        self.marks.remove(&partition);
        self.applied_to.remove(&partition);
        self.shared.queues.close(partition);
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Opened { partition, opened } => self.on_opened(partition, opened),
            Notice::End { partition, offset } => {
                self.asked.remove(&partition);
                // Asked for because nobody has read the partition yet, so this is where its read begins.
                self.ledger.side_begins(partition, offset);
            }
            Notice::Applied {
                partition,
                epoch,
                next,
                up_to,
            } => {
                if self
                    .ledger
                    .owned(partition)
                    .is_some_and(|owned| owned.epoch == epoch)
                {
                    self.commits.insert(partition, next);
                    if let Some(up_to) = up_to {
                        self.mark(partition, up_to);
                    }
                }
            }
            Notice::Stale { partition, epoch } => {
                if self
                    .ledger
                    .owned(partition)
                    .is_some_and(|owned| owned.epoch == epoch)
                {
                    self.open(partition);
                }
            }
            Notice::Settled(settled) => self.on_settled(*settled),
        }
    }

    /// The position of the store is known, and the group consumer already stands there.
    fn on_opened(&mut self, partition: i32, opened: Opened) {
        if opened.assignment.is_cancelled() {
            return;
        }
        let (phase, from) = match opened.opening {
            Opening::Fresh { from } | Opening::Resume { from } => (Phase::Live, from),
            Opening::Verify { offset, key, from } => (Phase::Verifying { offset, key }, from),
            Opening::Refuse(reason) => {
                tracing::error!(partition, reason, "replies partition is not projected");
                if let Some(owned) = self.ledger.owned_mut(partition) {
                    owned.phase = Phase::Refused(reason);
                }
                return;
            }
        };
        let epoch = self.shared.queues.open(partition, from);
        if let Some(owned) = self.ledger.owned_mut(partition) {
            (owned.phase, owned.epoch, owned.read, owned.target) =
                (phase, epoch, from, opened.high);
            owned.at_end = from >= opened.high;
            // Outcomes of waits that open from now on lie behind the present end.
            let waits = self.shared.waits.homes();
            self.ledger.ends_at(partition, opened.high, &waits);
            self.group.resume(&[partition]);
        }
    }

    /// Brings side reads and home in line with the ledger.
    pub(super) fn arrange(&mut self) {
        let borrow = self.begun.elapsed() >= BORROW_AFTER && self.shared.partitions > 0;
        let spare = borrow.then(|| (self.salt % self.shared.partitions as u64) as i32);
        if self.ledger.choose_home(spare, self.salt) {
            tracing::info!(home = self.ledger.home(), "home partition chosen");
        }
        let (start, stop) = self.ledger.side_reads(&self.shared.waits.homes());
        for partition in stop {
            self.side.unassign(partition);
            self.ledger.side_stopped(partition);
        }
        for partition in start {
            match self.ledger.seen(partition) {
                Some(from) => match self.side.assign(partition, from) {
                    Ok(()) => self.ledger.side_started(partition, from),
                    // The next tick tries again.
                    Err(error) => {
                        tracing::warn!(partition, %error, "waits cannot be served aside yet")
                    }
                },
                None if self.asked.insert(partition) => self.tasks.end_of(partition),
                None => {}
            }
        }
        let home = self.ledger.home().filter(|_| self.ledger.home_is_served());
        self.shared.set_home(home);
        self.shared.set_refusal(self.ledger.refusal());
        match (self.ledger.refusal(), home) {
            (Some(reason), _) => self.shared.condition.fail(reason),
            (None, None) => self
                .shared
                .condition
                .fail("no reply partition yet: waiting for the group of gateways"),
            (None, Some(_)) => self.shared.condition.ok(),
        }
    }

    fn on_tick(&mut self) {
        let full: Vec<i32> = self
            .ledger
            .partitions()
            .filter(|(partition, owned)| {
                owned.phase == Phase::Full && self.shared.queues.has_room(*partition)
            })
            .map(|(partition, _)| partition)
            .collect();
        for partition in full {
            if let Some(owned) = self.ledger.owned_mut(partition) {
                owned.phase = Phase::Live;
                self.group.resume(&[partition]);
            }
        }
        self.commit();
        // Whoever is at the end of a log that can be read has applied all that was produced until now.
        if self.shared.broker_ok() {
            let now = now_millis();
            let ends: Vec<i32> = self
                .ledger
                .partitions()
                .filter(|(partition, owned)| {
                    owned.phase == Phase::Live
                        && owned.at_end
                        && self.shared.queues.is_drained(*partition)
                })
                .map(|(partition, _)| partition)
                .collect();
            for partition in ends {
                self.mark(partition, now);
            }
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_A_MARK) {
            self.tasks.mark(std::mem::take(&mut self.marks));
        }
        let now = now_millis();
        let behind = self
            .applied_to
            .values()
            .map(|mark| now - mark)
            .max()
            .unwrap_or(0)
            .max(0);
        let lag = Duration::from_millis(behind as u64);
        let metrics = &self.shared.metrics;
        metrics.projection_backlog(lag, self.shared.queues.bytes());
        metrics.unread_age(&self.shared.topic, lag);
        self.shared.metrics.waits_readers(self.ledger.side_count());
    }

    fn mark(&mut self, partition: i32, up_to: Millis) {
        for marks in [&mut self.marks, &mut self.applied_to] {
            let mark = marks.entry(partition).or_insert(up_to);
            *mark = (*mark).max(up_to);
        }
    }

    fn commit(&mut self) {
        if !self.commits.is_empty() {
            let commits: Vec<_> = std::mem::take(&mut self.commits).into_iter().collect();
            self.group.commit(&commits);
            self.shared.metrics.committed("replies", "sent");
        }
    }
}
