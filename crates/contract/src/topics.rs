//! Topic and group names under a configurable prefix.

use std::time::Duration;

use crate::names::{Pool, Tier};

/// Partitions that `topics create` gives a jobs topic.
pub const JOBS_PARTITIONS: i32 = 12;
/// Partitions that `topics create` gives the replies topic: the most gateways that can own a home.
pub const REPLIES_PARTITIONS: i32 = 64;
/// Partitions that `topics create` gives the dead letters.
pub const DEAD_LETTERS_PARTITIONS: i32 = 12;

/// Partitions that `topics create` gives each rung of the delay ladder: the most schedulers that share one. Half of
/// those of a jobs topic, because moving a record is much cheaper than running a job.
pub const DELAY_PARTITIONS: i32 = 6;
/// Partitions that `topics create` gives the control topic: every worker reads all of it.
pub const CONTROL_PARTITIONS: i32 = 1;

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

    /// A rung of the delay ladder: `delay.15s`.
    pub fn delay(&self, rung: Duration) -> String {
        format!("{}delay.{}", self.prefix, compact(rung))
    }

    /// The group of the schedulers on a rung.
    pub fn scheduler_group(&self, rung: Duration) -> String {
        format!("{}scheduler.{}", self.prefix, compact(rung))
    }

    /// Whether a record of the delay ladder may be sent there: only to where jobs wait.
    pub fn is_jobs(&self, topic: &str) -> bool {
        let rest = topic.strip_prefix(&self.prefix);
        rest.and_then(|rest| rest.strip_prefix("jobs."))
            .is_some_and(|rest| !rest.is_empty())
    }

    /// What every worker and every scheduler is told: jobs that are called off.
    pub fn control(&self) -> String {
        format!("{}control", self.prefix)
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

/// A duration as a topic name may hold it: `1s`, `15m`, `1m30s`.
fn compact(rung: Duration) -> String {
    humantime::format_duration(rung)
        .to_string()
        .replace(' ', "")
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
        let minute = Duration::from_secs(60);
        assert_eq!(topics.delay(minute * 15), "tidegate.delay.15m");
        assert_eq!(topics.delay(minute * 3 / 2), "tidegate.delay.1m30s");
        assert_eq!(topics.scheduler_group(minute), "tidegate.scheduler.1m");
        assert!(topics.is_jobs("tidegate.jobs.gpu.low"));
        assert!(!topics.is_jobs("tidegate.replies") && !topics.is_jobs("jobs.low"));
        assert_eq!(
            topics.worker_group(&gpu, Tier::Low),
            "tidegate.worker.gpu.low"
        );
    }
}
