//! What the tests of this crate share.
#![allow(dead_code)]

pub mod codec_suite;
pub mod proxy;

use std::time::Duration;

use bytes::Bytes;
use tidegate_contract::RecordHeaders;
use tidegate_kafka::embedded::EmbeddedBroker;
use tidegate_kafka::{ConsumerEvent, KafkaSettings, Outgoing, Record, TopicPlan};

/// Longest wait for something that must happen. The mock alone takes up to 15 s for a second member.
pub const LIMIT: Duration = Duration::from_secs(45);

/// The variable that names a real server.
pub fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run through scripts/test"))
}

pub fn topic(name: &str, partitions: i32) -> TopicPlan {
    TopicPlan {
        compact: false,
        name: name.into(),
        partitions,
        replication: 1,
        min_insync: 1,
        retention: Duration::from_secs(3600),
        max_message_bytes: 2 << 20,
        append_time: false,
    }
}

/// A broker with the topics `a` (3 partitions) and the replies topic (4).
pub fn broker() -> EmbeddedBroker {
    broker_with(KafkaSettings::default())
}

pub fn broker_with(settings: KafkaSettings) -> EmbeddedBroker {
    let replies = format!("{}replies", settings.prefix);
    EmbeddedBroker::start_with(settings, &[topic("a", 3), topic(&replies, 4)]).unwrap()
}

pub fn out(topic: &str, partition: Option<i32>, key: &str, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition,
        key: key.into(),
        headers: [("job-id", key), ("tier", "low")]
            .into_iter()
            .collect::<RecordHeaders>(),
        payload: payload.into(),
    }
}

/// The next record, passing over everything else.
pub async fn record(next: impl AsyncFn() -> ConsumerEvent) -> Record {
    within(async {
        loop {
            if let ConsumerEvent::Record(record) = next().await {
                return record;
            }
        }
    })
    .await
}

/// What a future gives, or a failed test after the limit.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it took too long")
}

/// Polls until the condition holds.
pub async fn until(condition: impl AsyncFn() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
