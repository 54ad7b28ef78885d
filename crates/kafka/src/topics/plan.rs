//! The topics of an installation, as they should be.

use std::time::Duration;

use tidegate_contract::topics::CONTROL_PARTITIONS;
use tidegate_contract::{JobTypes, Pool, Tier, Topics};

use super::DAY;
use crate::settings::KafkaSettings;

/// How much longer than the longest deadline a record is kept.
const SLACK: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long dead letters are kept.
const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// `max.message.bytes` of jobs and replies.
const MAX_RECORD: usize = 2 << 20;
/// Dead letters carry a record whole and say more about it.
const MAX_DEAD_LETTER: usize = 4 << 20;

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    pub name: String,
    /// At least.
    pub partitions: i32,
    pub replication: i32,
    pub min_insync: i32,
    /// At least.
    pub retention: Duration,
    /// At least, in bytes.
    pub max_message_bytes: usize,
    /// Records carry the time at which the broker appended them, not that of their producer.
    pub append_time: bool,
    /// Of each key the last record is enough (`cleanup.policy` has `compact` besides `delete`).
    pub compact: bool,
}

/// The topics of an installation with these pools, in a fixed order. `longest_deadline` is that of the job types.
pub fn topic_plan(
    settings: &KafkaSettings,
    pools: &[Pool],
    longest_deadline: Duration,
) -> Vec<TopicPlan> {
    let topics = Topics::new(settings.prefix.clone());
    let counts = settings.partitions;
    let topic = |name, partitions, retention, max_message_bytes| TopicPlan {
        name,
        partitions,
        replication: settings.durability.replication(),
        min_insync: settings.durability.min_insync(),
        retention,
        max_message_bytes,
        append_time: false,
        compact: false,
    };
    let kept = longest_deadline + SLACK;
    let mut pools: Vec<_> = pools.to_vec();
    pools.sort();
    pools.dedup();
    let mut plan: Vec<_> = pools
        .iter()
        .flat_map(|pool| Tier::ALL.map(|tier| topics.jobs(pool, tier)))
        .map(|name| topic(name, counts.jobs, kept, MAX_RECORD))
        .collect();
    plan.push(topic(topics.replies(), counts.replies, kept, MAX_RECORD));
    plan.push(topic(
        topics.dead_letters(),
        counts.dead_letters,
        DEAD_LETTERS_KEPT.max(kept),
        MAX_DEAD_LETTER,
    ));
    plan.push(TopicPlan {
        compact: true,
        ..topic(topics.control(), CONTROL_PARTITIONS, kept, MAX_RECORD)
    });
    // Kept as long as jobs, whatever the rung: schedulers may be away for days, and then catch up.
    plan.extend(settings.delay_rungs.rungs().iter().map(|rung| TopicPlan {
        append_time: true,
        ..topic(topics.delay(*rung), counts.delay, kept, MAX_RECORD)
    }));
    plan
}

/// The topics that types need which take the place of others, if that is more than those needed.
pub(crate) fn more_topics(
    settings: &KafkaSettings,
    old: &JobTypes,
    new: &JobTypes,
) -> Option<Vec<TopicPlan>> {
    let pools = |types: &JobTypes| -> Vec<Pool> {
        let pools = types.values().map(|spec| spec.pool.clone());
        pools.collect()
    };
    // Topics are planned for a week at least, whatever the types say.
    let longest = |types: &JobTypes| {
        let longest = types.values().map(|spec| spec.deadline).max();
        longest.unwrap_or_default().max(7 * DAY)
    };
    let (before, after) = (pools(old), pools(new));
    let more = after.iter().any(|pool| !before.contains(pool)) || longest(new) > longest(old);
    more.then(|| topic_plan(settings, &after, longest(new)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::settings::Durability;

    /// For two pools, one of them named twice.
    pub fn plan(durability: Durability) -> Vec<TopicPlan> {
        let settings = KafkaSettings {
            prefix: "t.".into(),
            durability,
            ..Default::default()
        };
        let pools = [Pool::default(), "gpu".parse().unwrap(), Pool::default()];
        topic_plan(&settings, &pools, 7 * DAY)
    }

    #[test]
    fn the_plan_is_the_design() {
        let plan = plan(Durability::Replicated);
        let shown: Vec<_> = plan
            .iter()
            .map(|p| {
                (
                    p.name.as_str(),
                    p.partitions,
                    p.retention.as_secs() / 86_400,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("t.jobs.high", 12, 14),
                ("t.jobs.normal", 12, 14),
                ("t.jobs.low", 12, 14),
                ("t.jobs.gpu.high", 12, 14),
                ("t.jobs.gpu.normal", 12, 14),
                ("t.jobs.gpu.low", 12, 14),
                ("t.replies", 64, 14),
                ("t.dead-letters", 12, 90),
                ("t.control", 1, 14),
                ("t.delay.1s", 6, 14),
                ("t.delay.5s", 6, 14),
                ("t.delay.15s", 6, 14),
                ("t.delay.1m", 6, 14),
                ("t.delay.5m", 6, 14),
                ("t.delay.15m", 6, 14),
                ("t.delay.1h", 6, 14),
                ("t.delay.6h", 6, 14),
            ]
        );
        assert!(plan.iter().all(|p| p.replication == 3 && p.min_insync == 2));
        assert_eq!(plan[7].max_message_bytes, 4 << 20);
    }

    #[test]
    fn other_types_need_a_look_at_the_topics_only_where_they_need_more() {
        use tidegate_contract::{HandlerSpec, JobTypeSpec};
        let settings = KafkaSettings::default();
        let types = |pool: &str, deadline| {
            let spec = JobTypeSpec {
                pool: pool.parse().unwrap(),
                deadline,
                ..JobTypeSpec::new(HandlerSpec::Echo)
            };
            JobTypes::from([("echo".parse().unwrap(), spec)])
        };
        let old = types("default", DAY);
        for (pool, days, more) in [
            ("default", 1, false),
            ("default", 7, false),
            ("default", 8, true),
            ("gpu", 1, true),
        ] {
            let plan = more_topics(&settings, &old, &types(pool, days * DAY));
            assert_eq!(plan.is_some(), more, "{pool} {days}");
        }
        let plan = more_topics(&settings, &old, &types("gpu", 8 * DAY)).unwrap();
        assert_eq!(plan[0].name, "tidegate.jobs.gpu.high");
        assert_eq!(plan[0].retention, 15 * DAY);
    }
}
