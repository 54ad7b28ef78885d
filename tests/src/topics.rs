//! What an operator does to topics behind Tidegate's back, and where its groups stand.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{secs, until_true};

const LIMIT: Duration = Duration::from_secs(10);

/// An operator's tools for one cluster.
pub struct Admin {
    bootstrap: String,
    client: AdminClient<DefaultClientContext>,
}

impl Admin {
    pub fn of(bootstrap: &str) -> Self {
        let client = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .create();
        Self {
            bootstrap: bootstrap.to_owned(),
            client: client.expect("a client"),
        }
    }

    /// Makes a topic, one replica each.
    pub async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let made = self
            .client
            .create_topics([&new], &options())
            .await
            .expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Deletes a topic and waits until it is gone.
    pub async fn delete(&self, topic: &str) {
        let gone = self
            .client
            .delete_topics(&[topic], &options())
            .await
            .expect("an answer");
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
        until_true("topic is gone", secs(10), || async {
            let metadata = self
                .client
                .inner()
                .fetch_metadata(None, LIMIT)
                .expect("metadata");
            metadata.topics().iter().all(|known| known.name() != topic)
        })
        .await;
    }

    /// Adds partitions, up to this many.
    pub async fn grow(&self, topic: &str, partitions: usize) {
        let more = NewPartitions::new(topic, partitions);
        let grown = self
            .client
            .create_partitions([&more], &options())
            .await
            .expect("an answer");
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    /// Deletes the records of a partition before an offset, as retention would.
    pub async fn cut(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("an offset");
        let cut = self.client.delete_records(&list, &options()).await;
        let cut = cut.expect("an answer");
        assert!(cut.elements().iter().all(|e| e.error().is_ok()), "{cut:?}");
    }

    /// Gives a topic exactly these settings.
    pub async fn configure(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in settings {
            change = change.set(name, value);
        }
        let done = self
            .client
            .alter_configs([&change], &options())
            .await
            .expect("an answer");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    /// First and next offset of every partition.
    pub fn ends(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer = self.consumer("tests-reader");
        (0..self.partitions(&consumer, topic))
            .map(|partition| {
                let ends = consumer.fetch_watermarks(topic, partition, LIMIT);
                ends.expect("watermarks")
            })
            .collect()
    }

    /// The topics whose name begins so.
    pub fn topics(&self, prefix: &str) -> BTreeSet<String> {
        let metadata = self.client.inner().fetch_metadata(None, LIMIT);
        let metadata = metadata.expect("metadata");
        let names = metadata.topics().iter().map(|topic| topic.name());
        names
            .filter(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    }

    /// What a group has committed for every partition; `None` where it has not.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let consumer = self.consumer(group);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, self.partitions(&consumer, topic) - 1);
        let found = consumer.committed_offsets(asked, LIMIT).expect("offsets");
        let offsets = found.elements().into_iter().map(|element| element.offset());
        offsets
            .map(|offset| match offset {
                Offset::Offset(next) => Some(next),
                _ => None,
            })
            .collect()
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> i32 {
        let metadata = consumer
            .fetch_metadata(Some(topic), LIMIT)
            .expect("metadata");
        metadata.topics()[0].partitions().len() as i32
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(LIMIT))
        .request_timeout(Some(LIMIT))
}
