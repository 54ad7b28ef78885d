//! Which topics there should be (`plan`), and what is wrong with those that are there (`check`). Pure.

mod check;
mod plan;

use std::time::Duration;

pub use check::{TopicProblem, check_topics, topic_problems};
pub(crate) use plan::more_topics;
pub use plan::{TopicPlan, topic_plan};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A topic as it is. `None` where the broker does not say (the embedded one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    pub partitions: i32,
    /// The fewest replicas that a partition has.
    pub replication: i32,
    pub min_insync: Option<i32>,
    /// Milliseconds; -1 keeps records for ever.
    pub retention_ms: Option<i64>,
    pub max_message_bytes: Option<i64>,
    /// Whether `cleanup.policy` has `compact`.
    pub compact: Option<bool>,
    /// Whether a replica that lacks acknowledged records may become leader.
    pub unclean_election: Option<bool>,
    /// Whether records carry the time at which they were appended.
    pub append_time: Option<bool>,
}

impl TopicInfo {
    /// How long the topic keeps records; `None` if for ever, or if the broker does not say.
    pub fn retention(&self) -> Option<Duration> {
        let ms = u64::try_from(self.retention_ms?).ok()?;
        Some(Duration::from_millis(ms))
    }
}

/// What `topics create` did with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    Created,
    /// It was there, and has enough partitions.
    Exists,
    /// It was there with fewer partitions than planned; nothing was changed.
    TooFewPartitions {
        found: i32,
        planned: i32,
    },
}
