//! Bringing up what a gateway depends on: each a named condition, tried until it is met, with the reason why not.
//!
//! Order: the registry and the store by themselves; the topics once the broker answers; the replies when store and
//! topics are there. The broker is asked, and the topics are looked at, for as long as the gateway lives: submits are
//! refused at once while the one is known to be away or the others are not what they should be.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_contract::Pool;
use tidegate_kafka::{
    Cluster, ClusterInfo, Codec, Durability, Producer, TopicInfo, TopicPlan, TopicsError,
    topic_plan,
};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::readiness::{Condition, Readiness};
use tidegate_runtime::{LiveTypes, retry_forever};
use tidegate_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::placing::Placing;
use crate::replies::{OnProjected, Replies, RepliesConfig, StoreHealth};
use crate::waits::Waits;

/// How often the broker is asked for a sign of life, and for how long.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_millis(1500);
/// One probe may fail for another reason than that the broker is away.
const PROBES_TO_FAIL: u32 = 2;
/// How often the topics are looked at while they are good, and while they are not.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The least that topics are planned for, whatever the types say.
const LEAST_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);
/// What `readyz` repeats about the weaker durability.
const SINGLE_BROKER: &str =
    "kafka.durability is single-broker: what the disk of one broker loses is lost";

/// What is to be brought up.
#[derive(Clone)]
pub struct Bringup {
    pub cluster: Cluster,
    pub codec: Codec,
    pub producer: Producer,
    pub store: Arc<dyn Store>,
    pub health: StoreHealth,
    pub waits: Waits,
    pub projected: OnProjected,
    pub types: LiveTypes,
    pub queue_bytes: usize,
    pub instance: String,
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Where the replies are put once they run.
    pub replies: Arc<OnceLock<Replies>>,
    /// Told when the end of a job has made follow-ups.
    pub on_follow_ups: Option<Arc<Notify>>,
    /// Told of the topics' partitions.
    pub placing: Placing,
}

impl Bringup {
    /// Asks the broker until `stop`, and says on its condition what it answers.
    pub async fn watch_broker(self, stop: CancellationToken) {
        let condition = self.readiness.condition("broker");
        let mut failures = 0;
        loop {
            let probe = self.cluster.probe(PROBE_LIMIT);
            let Some(answer) = stop.run_until_cancelled(probe).await else {
                return;
            };
            match answer {
                Ok(_) => {
                    if failures >= PROBES_TO_FAIL {
                        tracing::info!("kafka answers again");
                    }
                    failures = 0;
                    condition.ok();
                }
                Err(error) => {
                    failures += 1;
                    if failures == PROBES_TO_FAIL {
                        tracing::warn!(%error, "kafka is away: submits are refused");
                    }
                    if failures >= PROBES_TO_FAIL || !condition.is_ok() {
                        condition.fail(error.to_string());
                    }
                }
            }
            let pause = tokio::time::sleep(PROBE_EVERY);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Brings up everything, then watches the topics, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let registry = self.readiness.condition("registry");
        let store = self.readiness.condition("store");
        let topics = self.readiness.condition("topics");
        let warm = retry_forever(&registry, &stop, || self.codec.warm_up());
        let prepared = async {
            let done = retry_forever(&store, &stop, || self.store.prepare()).await;
            if done.is_some() {
                self.health.succeeded();
            }
            done
        };
        let checked = self.check_topics(&topics, &stop);
        if let (Some(()), Some(()), Some((cluster, partitions))) =
            tokio::join!(warm, prepared, checked)
        {
            let watch = self.clone();
            self.join(cluster, partitions);
            stop.run_until_cancelled(watch.watch_topics(&topics)).await;
        }
    }

    /// Looks at the topics now and then. When that cannot be done nothing changes: the broker has a condition of its
    /// own.
    async fn watch_topics(&self, condition: &Condition) {
        loop {
            let pause = match condition.is_ok() {
                true => LOOK_EVERY,
                false => LOOK_AGAIN,
            };
            tokio::time::sleep(pause).await;
            match self.look_at_topics().await {
                Ok(_) => self.topics_are_good(condition),
                Err(TopicsError::Unknown(error)) => {
                    tracing::debug!(%error, "the topics could not be looked at");
                }
                Err(TopicsError::Wrong(problem)) => {
                    if condition.is_ok() {
                        tracing::warn!(%problem, "the topics are not as they should be: submits are refused");
                    }
                    condition.fail(problem.to_string());
                }
            }
        }
    }

    async fn look_at_topics(&self) -> Result<Vec<TopicInfo>, TopicsError> {
        let found = self.cluster.check_topics(&self.plan()).await?;
        for topic in &found {
            if let Some(retention) = topic.retention() {
                self.metrics.topic_retention(&topic.name, retention);
            }
        }
        self.placing.found(&found);
        Ok(found)
    }

    fn topics_are_good(&self, condition: &Condition) {
        match self.cluster.settings().durability {
            Durability::SingleBroker => condition.ok_with(SINGLE_BROKER),
            Durability::Replicated => condition.ok(),
        }
    }

    /// The cluster, and how many partitions its replies topic has.
    async fn check_topics(
        &self,
        condition: &Condition,
        stop: &CancellationToken,
    ) -> Option<(ClusterInfo, i32)> {
        let replies = self.cluster.topics().replies();
        let found = retry_forever(condition, stop, async || {
            let info = self.cluster.probe(PROBE_LIMIT).await;
            let info = info.map_err(|error| error.to_string())?;
            let found = self.look_at_topics().await;
            let found = found.map_err(|error| error.to_string())?;
            let replies = found.iter().find(|topic| topic.name == replies);
            let replies = replies.ok_or("the replies topic is missing")?;
            Ok::<_, String>((info, replies.partitions))
        })
        .await?;
        self.topics_are_good(condition);
        Some(found)
    }

    fn plan(&self) -> Vec<TopicPlan> {
        let types = self.types.now();
        let pools: Vec<Pool> = types.values().map(|spec| spec.pool.clone()).collect();
        let longest = types.values().map(|spec| spec.deadline).max();
        let longest = longest.unwrap_or_default().max(LEAST_DEADLINE);
        topic_plan(self.cluster.settings(), &pools, longest)
    }

    /// Joins the group of gateways. The condition `replies` is the replies' own: they meet it with their first home.
    fn join(self, cluster: ClusterInfo, partitions: i32) {
        let condition = self.readiness.condition("replies");
        let spawned = Replies::spawn(RepliesConfig {
            cluster: self.cluster,
            cluster_id: cluster.cluster_id,
            partitions,
            codec: self.codec,
            producer: self.producer,
            store: self.store,
            health: self.health,
            waits: self.waits,
            projected: self.projected,
            queue_bytes: self.queue_bytes,
            instance: self.instance,
            metrics: self.metrics,
            readiness: self.readiness,
            on_follow_ups: self.on_follow_ups,
        });
        match spawned {
            Ok(replies) => {
                let _ = self.replies.set(replies);
            }
            // Only settings that librdkafka refuses: trying again changes nothing.
            Err(error) => {
                tracing::error!(%error, "replies cannot be read");
                condition.fail(error.to_string());
            }
        }
    }
}
