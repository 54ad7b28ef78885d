//! What the brokers are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tidegate_contract::{Pool, Tier};
use tidegate_kafka::{Answer, Cluster, KafkaError, Right, Sight};

use crate::diagnosis::groups::Sharing;
use crate::diagnosis::rights::Role;
use crate::diagnosis::{Finding, broker, groups, rights, topics};
use crate::settings::Settings;

/// The first sign of life: a broker that is away costs this much, and nothing else is asked then.
const PROBE: Duration = Duration::from_secs(3);
/// Every other question.
const LIMIT: Duration = Duration::from_secs(4);
/// All of them together: an answer to the first says little about a broker that is dying.
const REST: Duration = Duration::from_secs(6);

/// What was found, and the cluster's id if it answers.
pub struct Kafka {
    pub findings: Vec<Finding>,
    pub cluster: Option<String>,
}

/// Asks for everything that roles of these kinds need.
pub async fn look(settings: &Settings, roles: &[Role]) -> Kafka {
    let cluster = Cluster::new(settings.kafka.clone());
    let (info, brokers) = tokio::join!(cluster.probe(PROBE), cluster.brokers(PROBE));
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            return Kafka {
                findings: broker::away(&settings.kafka, &error),
                cluster: None,
            };
        }
    };
    let mut findings = broker::judge(&settings.kafka, &info, &brokers);
    match tokio::time::timeout(REST, rest(&cluster, settings, roles)).await {
        Ok(more) => findings.extend(more),
        Err(_) => findings.extend(broker::silent(REST)),
    }
    Kafka {
        findings,
        cluster: Some(info.cluster_id),
    }
}

async fn rest(cluster: &Cluster, settings: &Settings, roles: &[Role]) -> Vec<Finding> {
    let plan = settings.topic_plan();
    let names: Vec<_> = plan.iter().map(|topic| topic.name.clone()).collect();
    let (seen, sharing) = tokio::join!(
        limited(cluster.survey(&names, LIMIT)),
        members(cluster, settings),
    );
    let sights: BTreeMap<String, Sight> = seen.iter().flatten().cloned().collect();
    let mut findings = topics::judge(&settings.kafka, &plan, &seen);
    findings.extend(shared(cluster, sharing, &sights));
    findings.extend(allowed(cluster, settings, roles, &sights).await);
    findings
}

async fn limited<T>(call: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(KafkaError::Unavailable(format!(
            "no answer within {} s",
            LIMIT.as_secs()
        ))),
    }
}

/// The pools whose jobs are run, as `topic_plan` takes them.
fn pools(settings: &Settings) -> Vec<Pool> {
    let named = settings.types.values().map(|spec| &spec.pool);
    let pools: BTreeSet<&Pool> = named.chain(&settings.worker.pools).collect();
    pools.into_iter().cloned().collect()
}

/// Members of the gateways' group, and of each pool's on its busiest tier.
struct Members {
    gateways: Result<usize, KafkaError>,
    workers: Vec<(Pool, Result<usize, KafkaError>)>,
}

async fn members(cluster: &Cluster, settings: &Settings) -> Members {
    let topics = cluster.topics();
    let group = topics.gateway_group();
    let gateways = cluster.group_members(&group, LIMIT);
    let workers = pools(settings).into_iter().map(|pool| async move {
        let tiers = Tier::ALL.map(|tier| {
            let group = topics.worker_group(&pool, tier);
            async move { cluster.group_members(&group, LIMIT).await }
        });
        let mut most = Ok(0);
        for members in join_all(tiers).await {
            most = match (most, members) {
                (Ok(most), Ok(members)) => Ok(members.max(most)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
        (pool, most)
    });
    let (gateways, workers) = tokio::join!(gateways, join_all(workers));
    Members { gateways, workers }
}

fn shared(cluster: &Cluster, members: Members, sights: &BTreeMap<String, Sight>) -> Vec<Finding> {
    let topics = cluster.topics();
    let partitions = |topic: String| Some(sights.get(&topic)?.info()?.partitions);
    let gateways = Sharing {
        members: members.gateways,
        partitions: partitions(topics.replies()),
    };
    let workers = members.workers.into_iter().map(|(pool, members)| {
        let least = Tier::ALL.map(|tier| partitions(topics.jobs(&pool, tier)));
        let partitions = least.into_iter().flatten().min();
        let sharing = Sharing {
            members,
            partitions,
        };
        (pool, sharing)
    });
    groups::judge(&gateways, &workers.collect::<Vec<_>>())
}

async fn allowed(
    cluster: &Cluster,
    settings: &Settings,
    roles: &[Role],
    sights: &BTreeMap<String, Sight>,
) -> Vec<Finding> {
    let pools = pools(settings);
    let rungs = settings.kafka.delay_rungs.rungs().to_vec();
    let wanted = roles.iter().map(|role| {
        (
            *role,
            rights::wanted(*role, cluster.topics(), &pools, &rungs),
        )
    });
    let wanted: Vec<_> = wanted.collect();
    // What is missing cannot be tried, and is told of already.
    let is_there = |right: &Right| match right {
        Right::ReadTopic(topic) | Right::WriteTopic(topic) => {
            !matches!(sights.get(topic), None | Some(Sight::Missing))
        }
        Right::ReadGroup(_) => true,
    };
    let mut tried: Vec<Right> = Vec::new();
    for right in wanted.iter().flat_map(|(_, rights)| rights) {
        if is_there(right) && !tried.contains(right) {
            tried.push(right.clone());
        }
    }
    let answers: BTreeMap<Right, Answer> = cluster.try_rights(tried, LIMIT).await;
    let undescribed = sights
        .iter()
        .filter(|(_, sight)| matches!(sight, Sight::Partly(_) | Sight::Hidden))
        .map(|(name, _)| name.clone())
        .collect();
    let login = settings.kafka.librdkafka.get("sasl.username");
    let known = rights::Known {
        answers: &answers,
        undescribed: &undescribed,
        prefix: cluster.topics().prefix(),
        login: login.map(|name| name.expose()),
    };
    wanted
        .iter()
        .flat_map(|(role, wanted)| rights::judge(*role, wanted, &known))
        .collect()
}
