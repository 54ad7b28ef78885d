//! Topics as they are, compared with the plan.

use super::plan::TopicPlan;
use super::{DAY, TopicInfo};
use crate::settings::Durability;

/// What is wrong with a topic and what to do, one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {mend}")]
pub struct TopicProblem {
    pub what: String,
    pub mend: String,
}

/// Compares what is there with the plan. The first problem, as one sentence.
///
/// `durability` is what the configuration asks for: with `single-broker` the number of replicas is not looked at.
pub fn check_topics(
    plan: &[TopicPlan],
    found: &[TopicInfo],
    durability: Durability,
) -> Result<(), TopicProblem> {
    match topic_problems(plan, found, durability).into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(problem),
    }
}

/// The same, with all problems: missing topics are one, then come those of each topic.
pub fn topic_problems(
    plan: &[TopicPlan],
    found: &[TopicInfo],
    durability: Durability,
) -> Vec<TopicProblem> {
    let mut problems = Problems::default();
    let missing: Vec<_> = plan
        .iter()
        .filter(|planned| !found.iter().any(|info| info.name == planned.name))
        .map(|planned| planned.name.as_str())
        .collect();
    if let Some(first) = missing.first() {
        let more = match missing.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let verb = if missing.len() == 1 { "is" } else { "are" };
        problems.add(
            format!("topic {first}{more} {verb} missing"),
            "run `tidegate topics create`",
        );
    }
    for planned in plan {
        for info in found.iter().filter(|info| info.name == planned.name) {
            compare(planned, info, durability, &mut problems);
        }
    }
    problems.0
}

#[derive(Default)]
struct Problems(Vec<TopicProblem>);

impl Problems {
    fn add(&mut self, what: String, mend: impl Into<String>) {
        let mend = mend.into();
        self.0.push(TopicProblem { what, mend });
    }
}

fn compare(plan: &TopicPlan, info: &TopicInfo, durability: Durability, problems: &mut Problems) {
    let name = &info.name;
    let (found, needed) = (info.partitions, plan.partitions);
    if found < needed {
        problems.add(
            format!("topic {name} has {found} partitions and needs {needed}"),
            "add partitions with `kafka-topics --alter`",
        );
    }
    if durability == Durability::Replicated {
        let (found, needed) = (info.replication, plan.replication);
        if found < needed {
            problems.add(
                format!("topic {name} has {found} of {needed} replicas"),
                "add replicas, or set kafka.durability to single-broker",
            );
        }
        let needed = plan.min_insync;
        if let Some(found) = info.min_insync
            && found < needed
        {
            problems.add(
                format!("topic {name} has min.insync.replicas {found} and needs {needed}"),
                "raise it, or set kafka.durability to single-broker",
            );
        }
        if info.unclean_election == Some(true) {
            problems.add(
                format!(
                    "topic {name} allows unclean leader election, which loses acknowledged records"
                ),
                "set unclean.leader.election.enable to false",
            );
        }
    }
    // A topic that is compacted against the plan loses all but one record of each key.
    if let Some(found) = info.compact
        && found != plan.compact
    {
        let (is, policy) = match plan.compact {
            true => ("is not compacted", "compact,delete"),
            false => ("is compacted, which loses records", "delete"),
        };
        problems.add(
            format!("topic {name} {is}"),
            format!("set its cleanup.policy to {policy}"),
        );
    }
    if let Some(found) = info.retention_ms
        && found >= 0
        && (found as u128) < plan.retention.as_millis()
    {
        let found = found as f64 / DAY.as_millis() as f64;
        let needed = plan.retention.as_secs_f64() / DAY.as_secs_f64();
        problems.add(
            format!("topic {name} keeps records for {found:.1} days and needs {needed:.1}"),
            "raise its retention.ms",
        );
    }
    let needed = plan.max_message_bytes;
    if let Some(found) = info.max_message_bytes
        && found < needed as i64
    {
        problems.add(
            format!("topic {name} takes records of up to {found} bytes and needs {needed}"),
            "raise its max.message.bytes",
        );
    }
    if plan.append_time && info.append_time == Some(false) {
        problems.add(
            format!("topic {name} has the times of producers and needs those of the broker"),
            "set its message.timestamp.type to LogAppendTime",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::plan::tests::plan;

    fn as_planned(plan: &[TopicPlan]) -> Vec<TopicInfo> {
        plan.iter()
            .map(|planned| TopicInfo {
                name: planned.name.clone(),
                partitions: planned.partitions,
                replication: planned.replication,
                min_insync: Some(planned.min_insync),
                retention_ms: Some(planned.retention.as_millis() as i64),
                max_message_bytes: Some(planned.max_message_bytes as i64),
                compact: Some(planned.compact),
                unclean_election: Some(false),
                append_time: Some(planned.append_time),
            })
            .collect()
    }

    #[test]
    fn every_problem_is_one_sentence_with_its_mend() {
        type Bend = fn(&mut Vec<TopicInfo>);
        let cases: [(Bend, &str); 12] = [
            (|_| {}, ""),
            (
                |found| drop(found.remove(6)),
                "topic t.replies is missing: run `tidegate topics create`",
            ),
            (
                |found| found.clear(),
                "topic t.jobs.high and 16 more are missing: run `tidegate topics create`",
            ),
            (
                |found| found[6].partitions = 8,
                "topic t.replies has 8 partitions and needs 64: add partitions with `kafka-topics --alter`",
            ),
            (
                |found| found[0].replication = 1,
                "topic t.jobs.high has 1 of 3 replicas: add replicas, or set kafka.durability to single-broker",
            ),
            (
                |found| found[1].min_insync = Some(1),
                "topic t.jobs.normal has min.insync.replicas 1 and needs 2: raise it, or set kafka.durability to single-broker",
            ),
            (
                |found| found[1].unclean_election = Some(true),
                "topic t.jobs.normal allows unclean leader election, which loses acknowledged records: set unclean.leader.election.enable to false",
            ),
            (
                |found| found[7].retention_ms = Some(7 * 86_400_000),
                "topic t.dead-letters keeps records for 7.0 days and needs 90.0: raise its retention.ms",
            ),
            (
                |found| found[7].max_message_bytes = Some(1_048_588),
                "topic t.dead-letters takes records of up to 1048588 bytes and needs 4194304: raise its max.message.bytes",
            ),
            (
                |found| found[9].append_time = Some(false),
                "topic t.delay.1s has the times of producers and needs those of the broker: set its message.timestamp.type to LogAppendTime",
            ),
            (
                |found| found[8].compact = Some(false),
                "topic t.control is not compacted: set its cleanup.policy to compact,delete",
            ),
            (
                |found| found[6].compact = Some(true),
                "topic t.replies is compacted, which loses records: set its cleanup.policy to delete",
            ),
        ];
        let plan = plan(Durability::Replicated);
        for (bend, sentence) in cases {
            let mut found = as_planned(&plan);
            bend(&mut found);
            let problem = check_topics(&plan, &found, Durability::Replicated)
                .err()
                .map_or(String::new(), |problem| problem.to_string());
            assert_eq!(problem, sentence);
        }
    }

    #[test]
    fn all_problems_are_told_where_all_are_asked_for() {
        let plan = plan(Durability::Replicated);
        let mut found = as_planned(&plan);
        found[0].partitions = 1;
        found[0].retention_ms = Some(1);
        found[5].min_insync = Some(1);
        found.remove(7);
        let problems = topic_problems(&plan, &found, Durability::Replicated);
        let whats: Vec<_> = problems.iter().map(|problem| &*problem.what).collect();
        assert_eq!(
            whats,
            [
                "topic t.dead-letters is missing",
                "topic t.jobs.high has 1 partitions and needs 12",
                "topic t.jobs.high keeps records for 0.0 days and needs 14.0",
                "topic t.jobs.gpu.low has min.insync.replicas 1 and needs 2",
            ]
        );
        let first = check_topics(&plan, &found, Durability::Replicated).unwrap_err();
        assert_eq!(first, problems[0]);
    }

    #[test]
    fn what_is_more_or_not_known_is_fine() {
        let plan = plan(Durability::Replicated);
        let mut found = as_planned(&plan);
        for info in &mut found {
            info.partitions += 1;
            info.replication += 1;
            info.retention_ms = Some(-1);
            info.max_message_bytes = None;
            info.min_insync = None;
            info.compact = None;
            info.unclean_election = None;
            info.append_time = None;
        }
        assert_eq!(check_topics(&plan, &found, Durability::Replicated), Ok(()));
        for info in &mut found {
            info.replication = 1;
            info.min_insync = Some(1);
        }
        assert_eq!(
            check_topics(&plan, &found, Durability::SingleBroker),
            Ok(())
        );
    }
}
