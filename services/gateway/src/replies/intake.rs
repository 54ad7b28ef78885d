//! What the [`Reader`] does with a record of the group consumer: decode it, offer it to the waits, queue it for the
//! projection; or hold its partition while that takes longer.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tidegate_contract::{EventKind, JobEvent, JobId, headers};
use tidegate_kafka::{DecodeError, Record};

use super::batch::{Entry, key_text};
use super::judge::{Problem, judge};
use super::ledger::Phase;
use super::opening::{Verdict, verify};
use super::queue::{Epoch, Pressure};
use super::reader::{Reader, Settled};
use super::trace;

impl Reader {
    pub(super) fn on_record(&mut self, record: Record) {
        self.shared.metrics.reply_read("projection");
        let partition = record.partition;
        let Some(owned) = self.ledger.owned_mut(partition) else {
            self.offer_undecoded(&record);
            return;
        };
        owned.at_end = false;
        match owned.phase.clone() {
            Phase::Live | Phase::Full => self.take(record),
            Phase::Held => self.held.entry(partition).or_default().push(record),
            Phase::Opening | Phase::Refused(_) => self.offer_undecoded(&record),
            Phase::Verifying { offset, key } => {
                match verify(
                    partition,
                    (offset, &key),
                    (record.offset, &key_text(&record)),
                ) {
                    Verdict::Same => {
                        owned.phase = Phase::Live;
                        owned.at_end = owned.read >= owned.target;
                    }
                    Verdict::Gone => {
                        owned.phase = Phase::Live;
                        self.take(record);
                    }
                    Verdict::Earlier => self.place_again(&record, offset),
                    Verdict::Refuse(reason) => {
                        tracing::error!(partition, reason, "replies partition is not projected");
                        owned.phase = Phase::Refused(reason);
                        self.group.pause(&[partition]);
                    }
                }
                self.arrange();
            }
        }
    }

    /// A record in its turn: decodes it, offers it to the waits, queues it for the projection.
    fn take(&mut self, record: Record) {
        let Some(owned) = self.ledger.owned(record.partition) else {
            return;
        };
        let (partition, epoch) = (record.partition, owned.epoch);
        if record.offset < owned.read {
            let expected = owned.read;
            return self.place_again(&record, expected);
        }
        let decoded = match &record.payload {
            Some(payload) => self.shared.codec.decode_event(payload).now_or_never(),
            None => Some(Err(DecodeError::Malformed("it has no value".into()))),
        };
        match decoded {
            Some(Err(DecodeError::RegistryUnavailable(_))) | None => {
                self.settle(record, None, epoch)
            }
            Some(decoded) => match judge(&record, decoded) {
                Ok(event) => self.finish(partition, epoch, &record, Some(event)),
                Err(problem) => self.settle(record, Some(problem), epoch),
            },
        }
    }

    /// The read of a partition went back by itself, and is put where it belongs. That happens when the group has
    /// committed nothing yet: librdkafka then looks for the beginning of the log, and when our pause or seek meets
    /// that look-up, repeats it half a second later, over the seek.
    fn place_again(&mut self, record: &Record, expected: i64) {
        let (partition, offset) = (record.partition, record.offset);
        tracing::info!(
            partition,
            offset,
            expected,
            "replies partition is read at another offset: placed again"
        );
        self.offer_undecoded(record);
        self.open(partition);
    }

    /// Holds a partition while one of its records is decoded with the registry's help, or set aside.
    fn settle(&mut self, record: Record, problem: Option<Problem>, epoch: Epoch) {
        let partition = record.partition;
        self.group.pause(&[partition]);
        if let Some(owned) = self.ledger.owned_mut(partition) {
            owned.phase = Phase::Held;
        }
        if let Some(assignment) = self.assignments.get(&partition) {
            self.tasks
                .settle(record, problem, epoch, assignment.clone());
        }
        self.arrange();
    }

    pub(super) fn on_settled(&mut self, settled: Settled) {
        let Settled {
            epoch,
            record,
            event,
        } = settled;
        let partition = record.partition;
        let Some(owned) = self
            .ledger
            .owned_mut(partition)
            .filter(|owned| owned.epoch == epoch)
        else {
            return;
        };
        owned.phase = Phase::Live;
        self.group.resume(&[partition]);
        self.finish(partition, epoch, &record, event);
        let mut behind = self.held.remove(&partition).unwrap_or_default().into_iter();
        while let Some(record) = behind.next() {
            self.on_record(record);
            if self
                .ledger
                .owned(partition)
                .is_some_and(|owned| owned.phase == Phase::Held)
            {
                self.held.entry(partition).or_default().extend(behind);
                return;
            }
        }
    }

    /// Hands a record over to waits and projection.
    fn finish(&mut self, partition: i32, epoch: Epoch, record: &Record, event: Option<JobEvent>) {
        self.ledger.see(partition, record.offset);
        #[cfg(feature = "sabotage")]
        let event = event.filter(|event| {
            let drops = tidegate_contract::sabotage::is_on("drop-reply");
            !drops || !event.kind.is_terminal() || record.offset % 50 != 7
        });
        if let Some(event) = &event {
            let span = trace::process(record, event, &self.shared.topic);
            let _in = span.enter();
            // Also what the side reader has seen: whoever of the two is quicker completes the wait.
            self.offer(event);
        }
        let entry = Entry::new(record, event);
        let pressure = self.shared.queues.push(partition, epoch, entry);
        let Some(owned) = self.ledger.owned_mut(partition) else {
            return;
        };
        owned.read = record.offset + 1;
        if pressure == Pressure::Full && owned.phase == Phase::Live {
            owned.phase = Phase::Full;
            self.group.pause(&[partition]);
            tracing::info!(
                partition,
                "projection is behind: the partition is paused, its waits are served aside"
            );
            self.arrange();
        } else if self.ledger.is_side_read(partition) {
            self.arrange();
        }
    }

    /// Completes the wait for a job that has ended.
    fn offer(&self, event: &JobEvent) {
        if event.kind.is_terminal() && self.shared.waits.is_open(event.job_id) {
            self.shared
                .waits
                .complete(Arc::new(event.clone()), Instant::now());
        }
    }

    /// The same for a record that nobody has decoded: only the key is looked at, unless somebody waits.
    pub(super) fn offer_undecoded(&self, record: &Record) {
        let id = record.key.as_deref().and_then(JobId::from_key);
        let Some(id) = id.filter(|id| self.shared.waits.is_open(*id)) else {
            return;
        };
        let headers_say_open = record.headers.get(headers::EVENT).is_some_and(|kind| {
            EventKind::ALL
                .iter()
                .any(|k| k.as_str() == kind && !k.is_terminal())
        });
        if !headers_say_open {
            self.tasks.offer(id, record.clone());
        }
    }
}
