//! Reading records: what the two consumers have in common.

mod assigned;
mod context;
mod group;
mod handle;
mod position;

use bytes::Bytes;
use rdkafka::error::KafkaError as Native;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use tidegate_contract::{DeadLetter, JobId, Millis, Pair, RecordHeaders};

pub use assigned::AssignedConsumer;
pub use group::{GroupConsumer, GroupOptions, OnRevoke};
pub use position::{Committed, Position};

use crate::error::describe;

/// A record as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// As the topic has it: when it was made, or when it was appended.
    pub timestamp: Option<Millis>,
    pub key: Option<Bytes>,
    /// Values that are not UTF-8 are read lossily; of a name that comes twice, the last counts.
    pub headers: RecordHeaders,
    pub payload: Option<Bytes>,
}

impl Record {
    /// The record whole, and why `source` could not handle it.
    pub fn dead_letter(
        &self,
        job_id: Option<JobId>,
        reason: &str,
        message: &str,
        source: &str,
        at: Millis,
    ) -> DeadLetter {
        DeadLetter {
            job_id,
            reason: reason.to_owned(),
            message: message.to_owned(),
            at,
            source: source.to_owned(),
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            attempt: self.headers.attempt().unwrap_or(0),
            key: self.key.clone(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| Pair::new(name, value))
                .collect(),
            value: self.payload.clone(),
            job_type: None,
            tenant: None,
            attempts: 0,
            redrives: 0,
            first_error: None,
            last_error: None,
            trace_id: None,
        }
    }
}

/// What a consumer has to tell, in the order in which it happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerEvent {
    Record(Record),
    /// Partitions that were added. Records of them follow.
    Assigned(Vec<i32>),
    /// Partitions that were taken away, or lost: already given up. No record of them follows.
    Revoked(Vec<i32>),
    /// How a commit has ended: the one before partitions are given up either way, those of [`GroupConsumer::commit`]
    /// only if they failed. What failed is repeated only if the caller does so.
    Committed(Result<(), String>),
    /// Everything that lay in the partition has been handed out. Only if asked for; again after each new end.
    EndOfPartition(i32),
    /// Something did not work and is being tried again: count it and go on.
    Trouble(String),
}

fn event(result: Result<BorrowedMessage<'_>, Native>) -> ConsumerEvent {
    match result {
        Ok(message) => ConsumerEvent::Record(record(&message)),
        Err(Native::PartitionEOF(partition)) => ConsumerEvent::EndOfPartition(partition),
        Err(error) => ConsumerEvent::Trouble(describe(&error)),
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message
        .headers()
        .map_or_else(RecordHeaders::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    let value = header.value.unwrap_or_default();
                    (header.key, String::from_utf8_lossy(value).into_owned())
                })
                .collect()
        });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        payload: message.payload().map(Bytes::copy_from_slice),
    }
}

fn partitions(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    list
}
