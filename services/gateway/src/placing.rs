//! In which partition a job is put: one of its tenant's, the least backlogged, as far as that is known. See
//! `docs/fairness.md`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_contract::{JobMessage, Pool, Tier, placement};
use tidegate_kafka::{Cluster, GroupBacklog, KafkaError, TopicInfo};
use tokio_util::sync::CancellationToken;

/// How often the backlog is asked for, and how long an answer may take.
const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);
/// A topic to which nothing was written in so many rounds is asked for no longer.
const IDLE_ROUNDS: u32 = 60;
/// After so many failures in a row another client asks.
const FAILURES: u32 = 30;

/// What is known of the jobs topics. Clones share.
#[derive(Clone)]
pub struct Placing {
    /// Partitions a tenant; 0: all.
    shards: usize,
    topics: Arc<ArcSwap<HashMap<String, Arc<Topic>>>>,
}

struct Topic {
    /// Records of each partition that are not done: as last asked for, and what was written from here since.
    backlog: Vec<AtomicU64>,
    /// Something was written to it since the last round.
    used: AtomicBool,
}

impl Topic {
    fn of(partitions: i32) -> Self {
        let backlog = (0..partitions).map(|_| AtomicU64::new(0));
        Self {
            backlog: backlog.collect(),
            used: AtomicBool::new(false),
        }
    }

    fn partitions(&self) -> i32 {
        i32::try_from(self.backlog.len()).unwrap_or(i32::MAX)
    }

    fn of_partition(&self, partition: i32) -> Option<&AtomicU64> {
        self.backlog.get(usize::try_from(partition).ok()?)
    }
}

impl Placing {
    /// Each tenant has `shards` of the partitions of a jobs topic, or all if that is 0. No topic is known yet.
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            topics: Arc::default(),
        }
    }

    /// Topics as they were found, with their partitions; new ones begin without a backlog.
    pub fn found(&self, found: &[TopicInfo]) {
        let before = self.topics.load();
        let same = |info: &TopicInfo| {
            let known = before.get(&info.name);
            known.is_some_and(|topic| topic.partitions() == info.partitions)
        };
        if found.iter().all(same) {
            return;
        }
        let mut topics = HashMap::clone(&before);
        for info in found.iter().filter(|info| !same(info)) {
            topics.insert(info.name.clone(), Arc::new(Topic::of(info.partitions)));
        }
        self.topics.store(Arc::new(topics));
    }

    /// How many partitions a topic has; `None` if it is not known yet.
    pub fn partitions(&self, topic: &str) -> Option<i32> {
        Some(self.topics.load().get(topic)?.partitions())
    }

    /// The partition for a job on that topic; `None` if the topic is not known yet, and the producer is to decide. The
    /// job counts as written there.
    pub fn place(&self, topic: &str, job: &JobMessage) -> Option<i32> {
        let topics = self.topics.load();
        let topic = topics.get(topic)?;
        let partition = match &job.serial_key {
            Some(key) => placement::of_serial_key(&job.tenant, key, topic.partitions())?,
            None => {
                let shards = placement::shards(&job.tenant, topic.partitions(), self.shards);
                let backlog =
                    |partition| Some(topic.of_partition(partition)?.load(Ordering::Relaxed));
                placement::place(&shards, job.created_at, backlog)?
            }
        };
        topic
            .of_partition(partition)?
            .fetch_add(1, Ordering::Relaxed);
        topic.used.store(true, Ordering::Relaxed);
        Some(partition)
    }

    /// What lies in the partitions of a topic now.
    fn learned(&self, topic: &str, backlog: &[u64]) {
        if let Some(topic) = self.topics.load().get(topic) {
            for (known, now) in topic.backlog.iter().zip(backlog) {
                known.store(*now, Ordering::Relaxed);
            }
        }
    }

    /// The partitions of a topic if it was written to since this was last asked.
    fn used(&self, topic: &str) -> Option<i32> {
        let topics = self.topics.load();
        let topic = topics.get(topic)?;
        let used = topic.used.swap(false, Ordering::Relaxed);
        used.then(|| topic.partitions())
    }

    /// Asks for the backlog of the topics that are written to, until `stop`.
    pub async fn watch(
        self,
        cluster: Cluster,
        pools: impl Fn() -> Vec<Pool>,
        stop: CancellationToken,
    ) {
        let mut asked: HashMap<String, Asked> = HashMap::new();
        let rounds = async {
            loop {
                tokio::time::sleep(EVERY).await;
                for pool in pools() {
                    for tier in Tier::ALL {
                        let topic = cluster.topics().jobs(&pool, tier);
                        if let Some(partitions) = self.used(&topic) {
                            let group = cluster.topics().worker_group(&pool, tier);
                            let entry = asked.entry(topic).or_insert_with(|| Asked::of(group));
                            entry.partitions = partitions;
                            entry.idle = 0;
                        }
                    }
                }
                asked.retain(|_, entry| entry.idle < IDLE_ROUNDS);
                for (topic, entry) in &mut asked {
                    entry.idle += 1;
                    match entry.ask(&cluster, topic).await {
                        Ok(backlog) => self.learned(topic, &backlog),
                        Err(error) => tracing::debug!(topic, %error, "backlog not known"),
                    }
                }
            }
        };
        stop.run_until_cancelled(rounds).await;
    }
}

/// A topic whose backlog is asked for.
struct Asked {
    group: String,
    partitions: i32,
    idle: u32,
    failures: u32,
    client: Option<GroupBacklog>,
}

impl Asked {
    fn of(group: String) -> Self {
        Self {
            group,
            partitions: 0,
            idle: 0,
            failures: 0,
            client: None,
        }
    }

    async fn ask(&mut self, cluster: &Cluster, topic: &str) -> Result<Vec<u64>, KafkaError> {
        let client = match &self.client {
            Some(client) => client,
            None => self
                .client
                .insert(cluster.group_backlog(&self.group, topic)?),
        };
        let answer = client.ask(self.partitions, LIMIT).await;
        match &answer {
            Ok(_) => self.failures = 0,
            Err(_) => self.failures += 1,
        }
        if self.failures >= FAILURES {
            self.failures = 0;
            self.client = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::a_job;

    fn topic(name: &str, partitions: i32) -> TopicInfo {
        TopicInfo {
            name: name.to_owned(),
            partitions,
            replication: 1,
            min_insync: None,
            retention_ms: None,
            max_message_bytes: None,
            compact: None,
            unclean_election: None,
            append_time: None,
        }
    }

    #[test]
    fn jobs_are_spread_over_the_tenants_partitions_and_leave_out_the_backlogged() {
        let placing = Placing::new(4);
        let job = a_job("shop");
        assert_eq!(placing.place("t.jobs.high", &job), None, "not known yet");
        placing.found(&[topic("t.jobs.high", 12), topic("t.replies", 64)]);
        let shards = placement::shards(&job.tenant, 12, 4);
        let mut placed = HashMap::<i32, u32>::new();
        for _ in 0..400 {
            let partition = placing.place("t.jobs.high", &a_job("shop"));
            *placed.entry(partition.unwrap()).or_default() += 1;
        }
        assert!(placed.keys().all(|partition| shards.contains(partition)));
        // What was written from here counts, so the spread is even to within a step though nothing was asked yet.
        let step = u32::try_from(placement::STEP).unwrap();
        assert!(
            placed.values().all(|count| count.abs_diff(100) <= step),
            "{placed:?}"
        );

        let mut backlog = vec![0; 12];
        for partition in &shards[1..] {
            backlog[*partition as usize] = 64;
        }
        placing.learned("t.jobs.high", &backlog);
        for _ in 0..64 {
            let partition = placing.place("t.jobs.high", &a_job("shop"));
            assert_eq!(partition, Some(shards[0]));
        }
        // Topics that are looked at again keep what is known; more partitions begin anew.
        placing.found(&[topic("t.jobs.high", 12)]);
        assert_eq!(placing.used("t.jobs.high"), Some(12));
        assert_eq!(placing.used("t.jobs.high"), None, "nothing since");
        placing.found(&[topic("t.jobs.high", 24)]);
        assert!(placing.place("t.jobs.high", &job).is_some());
        assert_eq!(placing.used("t.jobs.high"), Some(24));
    }

    #[test]
    fn without_shards_all_partitions_are_used() {
        let placing = Placing::new(0);
        placing.found(&[topic("t", 12)]);
        let placed: std::collections::BTreeSet<_> = (0..12 * placement::STEP)
            .filter_map(|_| placing.place("t", &a_job("default")))
            .collect();
        assert_eq!(placed.len(), 12);
    }
}
