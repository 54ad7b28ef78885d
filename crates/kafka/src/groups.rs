//! Who is in a group, for answers that name the cause when nobody takes a job; and how far a group has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::cluster::Cluster;
use crate::error::KafkaError;

/// Asks how much of a topic a group has still to do, as often as one likes, with one client that it keeps.
pub struct GroupBacklog {
    /// Always there until it is dropped.
    client: Option<Arc<BaseConsumer>>,
    topic: String,
}

impl GroupBacklog {
    /// Records of each partition, from 0 on, that are written and not committed by the group. A partition of which it
    /// has never committed anything counts whole. Two requests for all partitions together, to each broker that leads
    /// some.
    pub async fn ask(&self, partitions: i32, limit: Duration) -> Result<Vec<u64>, KafkaError> {
        let Some(client) = self.client.clone() else {
            return Err(KafkaError::Refused("the client is closed".to_owned()));
        };
        let topic = self.topic.clone();
        let asked = tokio::task::spawn_blocking(move || -> KafkaResult<Vec<u64>> {
            // Served here because nobody polls this client: errors and logs would pile up.
            while client.poll(Duration::ZERO).is_some() {}
            let mut asked = TopicPartitionList::new();
            for partition in 0..partitions {
                asked.add_partition(&topic, partition);
            }
            let committed = client.committed_offsets(asked.clone(), limit)?;
            // Asked in the place of a time, the end is the next offset.
            asked.set_all_offsets(Offset::End)?;
            let ends = client.offsets_for_times(asked, limit)?;
            let mut backlog = Vec::new();
            for partition in 0..partitions {
                let end = offset_in(&ends, &topic, partition)?.unwrap_or(0);
                let done = offset_in(&committed, &topic, partition)?.unwrap_or(0);
                backlog.push(u64::try_from(end.saturating_sub(done)).unwrap_or(0));
            }
            Ok(backlog)
        });
        match asked.await {
            Ok(answer) => answer.map_err(KafkaError::call),
            Err(error) => Err(KafkaError::Unavailable(error.to_string())),
        }
    }
}

fn offset_in(list: &TopicPartitionList, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
    let Some(element) = list.find_partition(topic, partition) else {
        return Ok(None);
    };
    element.error()?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

impl Drop for GroupBacklog {
    fn drop(&mut self) {
        // It may take long to end.
        if let Some(client) = self.client.take() {
            drop(std::thread::Builder::new().spawn(move || drop(client)));
        }
    }
}

impl Cluster {
    /// What a group has still to do of a topic. Joins nothing; connects at the first question.
    pub fn group_backlog(&self, group: &str, topic: &str) -> Result<GroupBacklog, KafkaError> {
        let client: BaseConsumer = self
            .reading_as(group)
            .create()
            .map_err(|error| KafkaError::Settings(error.to_string()))?;
        Ok(GroupBacklog {
            client: Some(Arc::new(client)),
            topic: topic.to_owned(),
        })
    }

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
