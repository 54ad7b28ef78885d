//! How much waits on each jobs topic, asked for when somebody wants to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tidegate_contract::{Pool, Tier};
use tidegate_kafka::{Cluster, GroupBacklog, KafkaError};
use tokio::sync::Mutex;

use crate::placing::Placing;

/// How long an answer is good for, and how long it is waited for.
const AGE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);
/// A client that has failed so often in a row is made anew.
const FAILURES: u32 = 3;

/// A client that was of no use for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// The clients that ask, one a topic, made when it is asked for.
#[derive(Default)]
pub struct Backlogs {
    topics: Arc<Mutex<Topics>>,
}

type Topics = HashMap<(Pool, Tier), Asked>;

#[derive(Default)]
struct Asked {
    client: Option<GroupBacklog>,
    failures: u32,
    answer: Option<(Instant, Option<u64>)>,
}

impl Backlogs {
    /// For each of these pools and tiers how many records lie on its topic that its workers are not done with, in the same
    /// order; `None` where that cannot be told within a second.
    pub async fn of(
        &self,
        cluster: &Cluster,
        placing: &Placing,
        wanted: &[(Pool, Tier)],
    ) -> Vec<Option<u64>> {
        // Held while asking: of many who want to know at once, one asks.
        let mut topics = self.topics.lock().await;
        if topics.is_empty() {
            tokio::spawn(close_idle(Arc::clone(&self.topics)));
        }
        for key in wanted {
            topics.entry(key.clone()).or_default();
        }
        let asked = topics.iter_mut().filter(|(key, _)| wanted.contains(key));
        let answers = asked.map(|((pool, tier), asked)| async move {
            let answer = asked.fresh(cluster, placing, pool, *tier).await;
            ((pool, *tier), answer)
        });
        let answers: HashMap<_, _> = join_all(answers).await.into_iter().collect();
        let answer = |(pool, tier): &(Pool, Tier)| answers.get(&(pool, *tier)).copied().flatten();
        wanted.iter().map(answer).collect()
    }
}

/// Closes clients that nobody uses, until there is none.
async fn close_idle(topics: Arc<Mutex<Topics>>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let mut topics = topics.lock().await;
        let used = |at: &Instant| at.elapsed() < IDLE;
        topics.retain(|_, asked| asked.answer.as_ref().is_some_and(|(at, _)| used(at)));
        if topics.is_empty() {
            return;
        }
    }
}

impl Asked {
    async fn fresh(
        &mut self,
        cluster: &Cluster,
        placing: &Placing,
        pool: &Pool,
        tier: Tier,
    ) -> Option<u64> {
        if let Some((at, answer)) = self.answer
            && at.elapsed() < AGE
        {
            return answer;
        }
        let topic = cluster.topics().jobs(pool, tier);
        let answer = match placing.partitions(&topic) {
            // Not looked at yet.
            None => None,
            Some(partitions) => {
                let group = cluster.topics().worker_group(pool, tier);
                let asked = self.ask(cluster, &group, &topic, partitions).await;
                asked
                    .inspect_err(|error| tracing::debug!(topic, %error, "backlog not known"))
                    .ok()
            }
        };
        self.answer = Some((Instant::now(), answer));
        answer
    }

    async fn ask(
        &mut self,
        cluster: &Cluster,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<u64, KafkaError> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(cluster.group_backlog(group, topic)?),
        };
        let answer = client.ask(partitions, LIMIT).await;
        match &answer {
            Ok(_) => self.failures = 0,
            Err(_) => self.failures += 1,
        }
        if self.failures >= FAILURES {
            *self = Self::default();
        }
        Ok(answer?.into_iter().sum())
    }
}
