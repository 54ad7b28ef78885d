//! Bringing up what a gateway depends on: each a named condition, tried until it is met, with the reason why not.
//!
//! Order: the registry and the store by themselves; the topics once the broker answers; the replies when store and
//! topics are there. The broker is asked, and the topics are looked at, for as long as the gateway lives: submits are
//! refused at once while the one is known to be away or the others are not what they should be.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_contract::Pool;
use tidegate_kafka::{
    Cluster, ClusterInfo, ClusterWatch, Codec, Producer, TopicInfo, TopicPlan, TopicsError,
    WatchPace, topic_plan,
};
use tidegate_runtime::metrics::Metrics;
use tidegate_runtime::readiness::Readiness;
use tidegate_runtime::{LiveTypes, retry_forever};
use tidegate_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::placing::Placing;
use crate::replies::{OnProjected, Replies, RepliesConfig, StoreHealth};
use crate::waits::Waits;

/// One probe may fail for another reason than that the broker is away, and the second follows soon.
pub const PACE: WatchPace = WatchPace {
    probe_every: Duration::from_secs(1),
    probe_limit: Duration::from_millis(1500),
    failures: 2,
    look_every: Duration::from_secs(30),
    look_again: Duration::from_secs(2),
};
/// The least that topics are planned for, whatever the types say.
const LEAST_DEADLINE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is to be brought up.
#[derive(Clone)]
pub struct Bringup {
    pub cluster: Cluster,
    pub watch: Arc<ClusterWatch>,
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
    /// Brings up everything, then watches the topics, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let registry = self.readiness.condition("registry");
        let store = self.readiness.condition("store");
        let warm = retry_forever(&registry, &stop, || self.codec.warm_up());
        let prepared = async {
            let done = retry_forever(&store, &stop, || self.store.prepare()).await;
            if done.is_some() {
                self.health.succeeded();
            }
            done
        };
        let checked = self.check_topics(&stop);
        if let (Some(()), Some(()), Some((cluster, partitions))) =
            tokio::join!(warm, prepared, checked)
        {
            self.clone().join(cluster, partitions);
            let following = self.watch.follow_topics(|| self.look_at_topics());
            stop.run_until_cancelled(following).await;
        }
    }

    async fn look_at_topics(&self) -> Result<Vec<TopicInfo>, TopicsError> {
        let found = self.watch.look(&self.plan()).await?;
        self.placing.found(&found);
        Ok(found)
    }

    /// The cluster, and how many partitions its replies topic has.
    async fn check_topics(&self, stop: &CancellationToken) -> Option<(ClusterInfo, i32)> {
        let replies = self.cluster.topics().replies();
        let look = async || {
            let info = self.cluster.probe(PACE.probe_limit).await;
            let info = info.map_err(|error| error.to_string())?;
            let found = self.look_at_topics().await;
            let found = found.map_err(|error| error.to_string())?;
            let replies = found.iter().find(|topic| topic.name == replies);
            let replies = replies.ok_or("the replies topic is missing")?;
            Ok::<_, String>((info, replies.partitions))
        };
        self.watch.find(stop, look).await
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
