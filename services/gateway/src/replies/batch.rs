//! Records of the replies on their way into the store, and the batches that they are taken there in.

use tidegate_contract::{JobEvent, Millis};
use tidegate_kafka::Record;
use tidegate_store::{Batch, Making};

use super::queue::Epoch;
use super::trace;

/// One record of the replies, judged.
#[derive(Debug)]
pub(crate) struct Entry {
    pub offset: i64,
    /// The record's key as text, empty if it had none.
    pub key: String,
    /// `None` for a record that could not be read and was set aside.
    pub event: Option<JobEvent>,
    /// `traceparent` of a record that may make follow-ups.
    pub trace: Option<String>,
    /// Size of the record, for the bound.
    pub bytes: usize,
    /// The record's timestamp.
    pub timestamp: Option<Millis>,
}

impl Entry {
    /// A record and what it says: nothing, if it is set aside.
    pub fn new(record: &Record, event: Option<JobEvent>) -> Self {
        let follows = event
            .as_ref()
            .is_some_and(|event| event.kind.is_terminal() && !event.job.follow_ups.is_empty());
        Self {
            offset: record.offset,
            key: key_text(record),
            trace: follows.then(|| trace::parent(&record.headers)).flatten(),
            event,
            bytes: record.payload.as_ref().map_or(0, |payload| payload.len()) + 256,
            timestamp: record.timestamp,
        }
    }
}

/// The key as it is remembered with a position.
pub(crate) fn key_text(record: &Record) -> String {
    record
        .key
        .as_deref()
        .map(|key| String::from_utf8_lossy(key).into_owned())
        .unwrap_or_default()
}

/// Consecutive records of one partition, for one transaction.
#[derive(Debug)]
pub(crate) struct Taken {
    pub partition: i32,
    pub epoch: Epoch,
    /// The position that the store must be at.
    pub expected: i64,
    pub entries: Vec<Entry>,
}

impl Taken {
    /// The position after this batch.
    pub fn next(&self) -> i64 {
        self.entries
            .last()
            .map_or(self.expected, |entry| entry.offset + 1)
    }

    /// The batch for the store, whose ends make follow-ups at that time. The events go with it; what else the entries
    /// hold stays.
    pub fn batch(&mut self, cluster_id: &str, now: Millis) -> Batch {
        let traced = self.entries.iter_mut().filter_map(|entry| {
            let job = entry.event.as_ref()?.job_id;
            Some((job, entry.trace.take()?))
        });
        let making = Making {
            at: now,
            // Of two ends the first counts.
            traces: traced.rev().collect(),
        };
        let last = self.entries.last();
        Batch {
            partition: self.partition,
            cluster_id: cluster_id.to_owned(),
            expected: self.expected,
            next: self.next(),
            last_key: last.map(|entry| entry.key.clone()).unwrap_or_default(),
            first: false,
            events: self
                .entries
                .iter_mut()
                .filter_map(|entry| entry.event.take())
                .collect(),
            follow_ups: Some(making),
        }
    }
}

/// The batch that makes the position of a partition that has none, so that every partition somebody owns has one.
pub(crate) fn first_batch(partition: i32, cluster_id: &str, from: i64) -> Batch {
    Batch {
        partition,
        cluster_id: cluster_id.to_owned(),
        expected: from,
        next: from,
        last_key: String::new(),
        first: true,
        events: Vec::new(),
        follow_ups: None,
    }
}
