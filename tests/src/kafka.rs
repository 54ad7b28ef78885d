//! A look into topics, and records that no gateway would write.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Everything that lies on a topic now, partition by partition.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<OwnedMessage> {
    let mut messages = Vec::new();
    // Who counts on what is missing finds out by what it compares.
    let _ = read_each(bootstrap, topic, |message| messages.push(message));
    messages
}

/// The same, one record after the other, so that a long topic needs no memory.
///
/// # Errors
/// When no record comes for a minute although there are more.
pub fn read_each(
    bootstrap: &str,
    topic: &str,
    mut each: impl FnMut(OwnedMessage),
) -> Result<(), String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "tests-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let limit = Duration::from_secs(10);
    let metadata = consumer
        .fetch_metadata(Some(topic), limit)
        .expect("metadata");
    let mut positions = TopicPartitionList::new();
    // What is still to come of each partition: a record may be delivered again, so they are not just counted.
    let mut left = BTreeMap::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.id(), limit)
            .expect("watermarks");
        if low < high {
            left.insert(partition.id(), (low, high));
        }
        positions
            .add_partition_offset(topic, partition.id(), Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&positions).expect("assign");
    let mut last = Instant::now();
    while !left.is_empty() {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let (partition, offset) = (message.partition(), message.offset());
            let Some((next, end)) = left.get_mut(&partition) else {
                continue;
            };
            if offset < *next {
                continue;
            }
            *next = offset + 1;
            if *next >= *end {
                left.remove(&partition);
            }
            each(message.detach());
            last = Instant::now();
        } else if last.elapsed() > Duration::from_secs(60) {
            return Err(format!("records of {topic} did not come: {left:?}"));
        }
    }
    Ok(())
}

/// The text of a header.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let found = message
        .headers()?
        .iter()
        .find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}

/// Writes a record as it is given.
pub async fn write(
    bootstrap: &str,
    topic: &str,
    partition: Option<i32>,
    key: impl AsRef<[u8]>,
    headers: &[(&str, &str)],
    value: &[u8],
) -> (i32, i64) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .expect("a producer");
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(*value),
            })
        });
    let mut record = FutureRecord::to(topic)
        .key(key.as_ref())
        .payload(value)
        .headers(headers);
    if let Some(partition) = partition {
        record = record.partition(partition);
    }
    let delivery = producer
        .send(record, Duration::from_secs(10))
        .await
        .expect("written");
    (delivery.partition, delivery.offset)
}
