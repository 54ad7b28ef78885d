//! Looking at topics and making them, on a real broker.

use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::error::KafkaError;
use crate::topics::{CreateOutcome, TopicInfo, TopicPlan};

/// One request.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// The broker stamps records itself.
const APPEND_TIME: &str = "LogAppendTime";

/// Partitions and replicas of those topics that are there. Blocks.
pub(crate) fn partitions<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[String],
    limit: Duration,
) -> Result<Vec<TopicInfo>, KafkaError> {
    let found = topics.iter().map(|name| partitions_of(client, name, limit));
    found.filter_map(Result::transpose).collect()
}

/// The same for one topic; `None` if it is not there. Blocks.
pub(crate) fn partitions_of<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    name: &str,
    limit: Duration,
) -> Result<Option<TopicInfo>, KafkaError> {
    let metadata = client
        .fetch_metadata(Some(name), limit)
        .map_err(KafkaError::call)?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
        Some(code) => return Err(KafkaError::of(code, format!("topic {name}: {code}"))),
    }
    let replicas = topic.partitions().iter().map(|p| p.replicas().len()).min();
    Ok(Some(TopicInfo {
        name: name.to_owned(),
        partitions: i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX),
        replication: replicas.map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX)),
        min_insync: None,
        retention_ms: None,
        max_message_bytes: None,
        compact: None,
        unclean_election: None,
        append_time: None,
    }))
}

/// Adds what the broker says of the topics' settings.
pub(crate) async fn settings(
    config: &ClientConfig,
    infos: Vec<TopicInfo>,
) -> Result<Vec<TopicInfo>, KafkaError> {
    let infos = settings_if_told(config, infos).await?;
    Ok(infos.into_iter().map(|(info, _)| info).collect())
}

/// The same, and whether it was told of each: the binding keeps the refusal of a single topic to itself, but no topic
/// is without settings.
pub(crate) async fn settings_if_told(
    config: &ClientConfig,
    infos: Vec<TopicInfo>,
) -> Result<Vec<(TopicInfo, bool)>, KafkaError> {
    if infos.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = infos.iter().map(|info| info.name.clone()).collect();
    let resources = call(config, async |client, options| {
        let wanted: Vec<_> = names.iter().map(|n| ResourceSpecifier::Topic(n)).collect();
        client.describe_configs(&wanted, options).await
    })
    .await?;
    let told = infos
        .into_iter()
        .zip(resources)
        .map(|(mut info, resource)| {
            let resource = resource
                .map_err(|code| KafkaError::Refused(format!("topic {}: {code}", info.name)))?;
            fill(&mut info, &resource);
            Ok((info, !resource.entries.is_empty()))
        });
    told.collect()
}

fn fill(info: &mut TopicInfo, resource: &ConfigResource) {
    let value = |name| value(resource, name);
    info.min_insync = value("min.insync.replicas").and_then(|text| text.parse().ok());
    info.retention_ms = value("retention.ms").and_then(|text| text.parse().ok());
    info.max_message_bytes = value("max.message.bytes").and_then(|text| text.parse().ok());
    info.compact = value("cleanup.policy").map(|text| text.contains("compact"));
    info.unclean_election =
        value("unclean.leader.election.enable").and_then(|text| text.parse().ok());
    info.append_time = value("message.timestamp.type").map(|text| text == APPEND_TIME);
}

fn policy(compact: bool) -> &'static str {
    match compact {
        true => "compact,delete",
        false => "delete",
    }
}

fn value<'a>(resource: &'a ConfigResource, name: &str) -> Option<&'a str> {
    resource
        .entries
        .iter()
        .find(|entry| entry.name == name)?
        .value
        .as_deref()
}

/// Makes the topics that are not `there`.
pub(crate) async fn create(
    config: &ClientConfig,
    plan: &[TopicPlan],
    there: &[TopicInfo],
) -> Result<Vec<(String, CreateOutcome)>, KafkaError> {
    let missing: Vec<_> = plan
        .iter()
        .filter(|planned| !there.iter().any(|info| info.name == planned.name))
        .collect();
    let made = make(config, &missing).await?;
    let mut outcomes = Vec::with_capacity(plan.len());
    for planned in plan {
        let name = planned.name.clone();
        let outcome = match there.iter().find(|info| info.name == name) {
            Some(info) if info.partitions < planned.partitions => CreateOutcome::TooFewPartitions {
                found: info.partitions,
                planned: planned.partitions,
            },
            Some(_) => CreateOutcome::Exists,
            None => match made.iter().find(|(made, _)| *made == name) {
                Some((_, Ok(()))) => CreateOutcome::Created,
                // Somebody else was quicker.
                Some((_, Err(Code::TopicAlreadyExists))) => CreateOutcome::Exists,
                Some((_, Err(Code::InvalidReplicationFactor))) => {
                    return Err(KafkaError::Refused(format!(
                        "topic {name} wants {} replicas and there are fewer brokers: add brokers, or set kafka.durability to single-broker",
                        planned.replication
                    )));
                }
                Some((_, Err(code))) => {
                    return Err(KafkaError::Refused(format!("topic {name}: {code}")));
                }
                None => {
                    return Err(KafkaError::Unavailable(format!("topic {name}: no answer")));
                }
            },
        };
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

/// Takes topics away; those that are not there are none of its business.
pub(crate) async fn delete(config: &ClientConfig, topics: &[String]) -> Result<(), KafkaError> {
    let names: Vec<_> = topics.iter().map(String::as_str).collect();
    let results = call(config, async |client, options| {
        client.delete_topics(&names, options).await
    })
    .await?;
    for result in results {
        match result {
            Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic)) => {}
            Err((name, code)) => return Err(KafkaError::Refused(format!("topic {name}: {code}"))),
        }
    }
    Ok(())
}

async fn make(
    config: &ClientConfig,
    missing: &[&TopicPlan],
) -> Result<Vec<(String, Result<(), Code>)>, KafkaError> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let settings: Vec<_> = missing
        .iter()
        .map(|planned| {
            (
                planned.min_insync.to_string(),
                planned.retention.as_millis().to_string(),
                planned.max_message_bytes.to_string(),
            )
        })
        .collect();
    let topics: Vec<_> = missing
        .iter()
        .zip(&settings)
        .map(|(planned, (min_insync, retention, max_bytes))| {
            let topic = NewTopic::new(
                &planned.name,
                planned.partitions,
                TopicReplication::Fixed(planned.replication),
            )
            .set("min.insync.replicas", min_insync)
            .set("retention.ms", retention)
            .set("max.message.bytes", max_bytes)
            .set("unclean.leader.election.enable", "false")
            .set("cleanup.policy", policy(planned.compact));
            match planned.append_time {
                true => topic.set("message.timestamp.type", APPEND_TIME),
                false => topic,
            }
        })
        .collect();
    let results = call(config, async |client, options| {
        client.create_topics(&topics, options).await
    })
    .await?;
    Ok(results
        .into_iter()
        .map(|result| match result {
            Ok(name) => (name, Ok(())),
            Err((name, code)) => (name, Err(code)),
        })
        .collect())
}

async fn call<T>(
    config: &ClientConfig,
    request: impl AsyncFnOnce(
        &AdminClient<DefaultClientContext>,
        &AdminOptions,
    ) -> rdkafka::error::KafkaResult<T>,
) -> Result<T, KafkaError> {
    let client = AdminClient::from_config(config)
        .map_err(|error| KafkaError::Settings(error.to_string()))?;
    let options = AdminOptions::new()
        .request_timeout(Some(LIMIT))
        .operation_timeout(Some(LIMIT));
    let answer = tokio::time::timeout(LIMIT * 2, request(&client, &options)).await;
    // Dropping it joins its polling thread.
    drop(tokio::task::spawn_blocking(move || drop(client)));
    match answer {
        Ok(answer) => answer.map_err(KafkaError::call),
        Err(_) => Err(KafkaError::Unavailable("no answer in time".to_owned())),
    }
}
