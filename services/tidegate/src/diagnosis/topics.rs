//! Whether the topics are as the configuration asks: all of what is wrong with them, in the words of the roles.

use tidegate_kafka::{KafkaError, KafkaSettings, Sight, TopicInfo, TopicPlan, topic_problems};

use super::{Finding, many};

const CHECK: &str = "topics";

/// The topics of the plan as they were seen.
pub fn judge(
    settings: &KafkaSettings,
    plan: &[TopicPlan],
    seen: &Result<Vec<(String, Sight)>, KafkaError>,
) -> Vec<Finding> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let says = format!("they could not be looked at: {error}");
            return vec![Finding::problem(
                CHECK,
                says,
                "try again; see the broker's log",
            )];
        }
    };
    let hidden = |name: &str| {
        let mut seen = seen.iter();
        seen.any(|(of, sight)| of == name && *sight == Sight::Hidden)
    };
    let plan: Vec<_> = plan.iter().filter(|topic| !hidden(&topic.name)).collect();
    let plan: Vec<TopicPlan> = plan.into_iter().cloned().collect();
    let infos: Vec<TopicInfo> = seen
        .iter()
        .filter_map(|(_, sight)| sight.info().cloned())
        .collect();
    let mut findings: Vec<_> = topic_problems(&plan, &infos, settings.durability)
        .into_iter()
        .map(|problem| Finding::problem(CHECK, problem.what, problem.mend))
        .collect();
    for info in &infos {
        let (most, limit) = (settings.max_record_bytes, info.max_message_bytes);
        if let Some(limit) = limit
            && i64::try_from(most).unwrap_or(i64::MAX) > limit
        {
            findings.push(Finding::warning(
                CHECK,
                format!(
                    "kafka.max_record_bytes is {most} and topic {} takes {limit}",
                    info.name
                ),
                "raise its max.message.bytes, or lower the setting",
            ));
        }
    }
    if findings.is_empty() && !infos.is_empty() {
        findings.push(Finding::ok(CHECK, good(&infos)));
    }
    let count = |wanted: fn(&Sight) -> bool| seen.iter().filter(|(_, sight)| wanted(sight)).count();
    let hidden = count(|sight| *sight == Sight::Hidden);
    let partly = count(|sight| matches!(sight, Sight::Partly(_)));
    for (count, what) in [(hidden, ""), (partly, "the settings of ")] {
        if count > 0 {
            let says = format!(
                "this login cannot see {what}{}: see rights",
                many(count, "topic")
            );
            findings.push(Finding::not_checked(CHECK, says));
        }
    }
    findings
}

/// What they have in common, as far as it is told.
fn good(infos: &[TopicInfo]) -> String {
    let least = |of: fn(&TopicInfo) -> Option<i64>| infos.iter().filter_map(of).min();
    let mut parts = vec![many(infos.len(), "topic")];
    let names = infos.iter().filter(|info| info.name.ends_with("replies"));
    parts.extend(names.map(|info| format!("{} with {} partitions", info.name, info.partitions)));
    let mut least_of = |what: &str, value: Option<i64>| {
        parts.extend(value.map(|value| format!("{what} {value}")));
    };
    least_of("replication", least(|info| Some(info.replication.into())));
    least_of(
        "min.insync.replicas",
        least(|info| info.min_insync.map(i64::from)),
    );
    let days = |info: &TopicInfo| Some(info.retention()?.as_secs() as i64 / 86_400);
    least_of("days kept", least(days));
    least_of("bytes a record", least(|info| info.max_message_bytes));
    parts.join(", ") + " at least"
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use tidegate_contract::Pool;
    use tidegate_kafka::topic_plan;

    fn whole(plan: &[TopicPlan]) -> Vec<(String, Sight)> {
        let sight = |planned: &TopicPlan| {
            let info = TopicInfo {
                name: planned.name.clone(),
                partitions: planned.partitions,
                replication: planned.replication,
                min_insync: Some(planned.min_insync),
                retention_ms: Some(planned.retention.as_millis() as i64),
                max_message_bytes: Some(planned.max_message_bytes as i64),
                compact: Some(planned.compact),
                unclean_election: Some(false),
                append_time: None,
            };
            (planned.name.clone(), Sight::Whole(info))
        };
        plan.iter().map(sight).collect()
    }

    fn plan() -> (KafkaSettings, Vec<TopicPlan>) {
        let settings = KafkaSettings::default();
        let week = std::time::Duration::from_secs(7 * 86_400);
        let plan = topic_plan(&settings, &[Pool::default()], week);
        (settings, plan)
    }

    #[test]
    fn good_topics_are_one_line_with_their_figures() {
        let (settings, plan) = plan();
        assert_eq!(
            judge(&settings, &plan, &Ok(whole(&plan))),
            [Finding::ok(
                CHECK,
                "14 topics, tidegate.replies with 64 partitions, replication 3, min.insync.replicas 2, days kept 14, \
                 bytes a record 2097152 at least"
            )]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let (settings, plan) = plan();
        let mut seen = whole(&plan);
        seen[0].1 = Sight::Missing;
        if let Sight::Whole(info) = &mut seen[3].1 {
            (info.partitions, info.retention_ms) = (8, Some(1));
        }
        let findings = judge(&settings, &plan, &Ok(seen));
        let problems: Vec<_> = findings.iter().map(|finding| &*finding.says).collect();
        assert_eq!(
            problems,
            [
                "topic tidegate.jobs.high is missing",
                "topic tidegate.replies has 8 partitions and needs 64",
                "topic tidegate.replies keeps records for 0.0 days and needs 14.0",
            ]
        );
        assert!(findings.iter().all(|f| f.verdict == Verdict::Problem));
    }

    #[test]
    fn what_is_hidden_is_not_called_missing() {
        let (settings, plan) = plan();
        let seen = plan.iter().map(|topic| (topic.name.clone(), Sight::Hidden));
        let findings = judge(&settings, &plan, &Ok(seen.collect()));
        let verdicts: Vec<_> = findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::NotChecked]);
    }

    #[test]
    fn records_larger_than_the_topics_take_are_warned_of() {
        let (mut settings, plan) = plan();
        settings.max_record_bytes = 3 << 20;
        let findings = judge(&settings, &plan, &Ok(whole(&plan)));
        // Dead letters take four.
        assert_eq!(findings.len(), 13);
        assert!(findings.iter().all(|f| f.verdict == Verdict::Warning));
    }
}
