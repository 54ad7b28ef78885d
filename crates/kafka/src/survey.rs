//! A look at brokers and topics that goes as far as the principal may look, for those who judge rights too.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use crate::admin;
use crate::cluster::{Cluster, EMBEDDED_ID};
use crate::error::KafkaError;
use crate::topics::TopicInfo;

/// A topic as far as it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Missing,
    /// Whether it is there is not told: no right on it at all.
    Hidden,
    /// Its partitions, but not its settings: `DescribeConfigs` is not allowed.
    Partly(TopicInfo),
    Whole(TopicInfo),
}

impl Sight {
    /// What is known of a topic that is there.
    pub fn info(&self) -> Option<&TopicInfo> {
        match self {
            Sight::Partly(info) | Sight::Whole(info) => Some(info),
            Sight::Missing | Sight::Hidden => None,
        }
    }
}

impl Cluster {
    /// Each of these topics, in their order. Each call takes `limit` at most.
    pub async fn survey(
        &self,
        topics: &[String],
        limit: Duration,
    ) -> Result<Vec<(String, Sight)>, KafkaError> {
        let names = topics.to_vec();
        let (mut sights, embedded) = self
            .ask(limit, move |client| {
                let mut sights = Vec::new();
                for name in names {
                    let sight = match admin::partitions_of(client, &name, limit) {
                        Ok(None) => Sight::Missing,
                        Ok(Some(info)) => Sight::Whole(info),
                        Err(KafkaError::Denied(_)) => Sight::Hidden,
                        Err(error) => return Err(error),
                    };
                    sights.push((name, sight));
                }
                let id = client.client().fetch_cluster_id(limit);
                Ok((sights, id.is_some_and(|id| id.starts_with(EMBEDDED_ID))))
            })
            .await?;
        if embedded {
            return Ok(sights);
        }
        let there = sights.iter().filter_map(|(_, sight)| sight.info().cloned());
        for (info, told) in admin::settings_if_told(&self.admin_config(), there.collect()).await? {
            let name = info.name.clone();
            let sight = match told {
                true => Sight::Whole(info),
                false => Sight::Partly(info),
            };
            if let Some((_, place)) = sights.iter_mut().find(|(of, _)| *of == name) {
                *place = sight;
            }
        }
        Ok(sights)
    }
}
