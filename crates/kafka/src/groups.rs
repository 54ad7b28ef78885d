//! Who is in a group, for answers that name the cause when nobody takes a job; and how far a group has come.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::cluster::Cluster;
use crate::error::KafkaError;

impl Cluster {
    /// How many members a group has now; 0 for a group that nobody ever joined. `Unavailable` where the broker does
    /// not say, which is always so for the embedded one.
    pub async fn group_members(&self, group: &str, limit: Duration) -> Result<usize, KafkaError> {
        if self.is_embedded() {
            return Err(KafkaError::Unavailable(
                "the embedded broker does not tell members".to_owned(),
            ));
        }
        let group = group.to_owned();
        self.ask(limit, move |client| {
            let list = client
                .fetch_group_list(Some(&group), limit)
                .map_err(KafkaError::call)?;
            let found = list.groups().iter().find(|info| info.name() == group);
            Ok(found.map_or(0, |info| info.members().len()))
        })
        .await
    }

    /// What a group has committed for the partitions of a topic, where it has committed something. Joins nothing.
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
        partitions: i32,
        limit: Duration,
    ) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let config = self.reading_as(group);
        let topic = topic.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = config
                .create()
                .map_err(|error| KafkaError::Settings(error.to_string()))?;
            let mut asked = TopicPartitionList::new();
            for partition in 0..partitions {
                asked.add_partition(&topic, partition);
            }
            let found = client.committed_offsets(asked, limit);
            found.map_err(KafkaError::call)
        });
        let found = asked
            .await
            .map_err(|error| KafkaError::Unavailable(error.to_string()))??;
        let found = found
            .elements()
            .into_iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(next) => Some((element.partition(), next)),
                _ => None,
            });
        Ok(found.collect())
    }
}
