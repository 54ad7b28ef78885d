//! Topic and group names under a configurable prefix.

use crate::names::{Pool, Tier};

/// Partitions that `topics create` gives a jobs topic.
pub const JOBS_PARTITIONS: i32 = 12;
/// Partitions that `topics create` gives the replies topic: the most gateways that can own a home.
pub const REPLIES_PARTITIONS: i32 = 64;
/// Partitions that `topics create` gives the dead letters.
pub const DEAD_LETTERS_PARTITIONS: i32 = 12;

/// The names of all topics and groups of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// Names under `prefix`, which is put in front as it is: `tidegate.` gives `tidegate.replies`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where jobs of a pool and tier wait: `jobs.{tier}`, or `jobs.{pool}.{tier}` for pools other than `default`.
    pub fn jobs(&self, pool: &Pool, tier: Tier) -> String {
        if *pool == Pool::default() {
            format!("{}jobs.{tier}", self.prefix)
        } else {
            format!("{}jobs.{pool}.{tier}", self.prefix)
        }
    }

    /// Where all events of jobs go, by explicit partition.
    pub fn replies(&self) -> String {
        format!("{}replies", self.prefix)
    }

    /// Where records lie that could not be handled.
    pub fn dead_letters(&self) -> String {
        format!("{}dead-letters", self.prefix)
    }

    /// The group that all gateways join on the replies topic.
    pub fn gateway_group(&self) -> String {
        format!("{}gateway", self.prefix)
    }

    /// The group of the workers of a pool on one tier.
    pub fn worker_group(&self, pool: &Pool, tier: Tier) -> String {
        format!("{}worker.{pool}.{tier}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pool_has_the_short_names() {
        let topics = Topics::new("tidegate.");
        let gpu: Pool = "gpu".parse().unwrap();
        assert_eq!(
            topics.jobs(&Pool::default(), Tier::High),
            "tidegate.jobs.high"
        );
        assert_eq!(topics.jobs(&gpu, Tier::Low), "tidegate.jobs.gpu.low");
        assert_eq!(topics.replies(), "tidegate.replies");
        assert_eq!(
            topics.worker_group(&gpu, Tier::Low),
            "tidegate.worker.gpu.low"
        );
    }
}
