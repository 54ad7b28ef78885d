//! Partitions against those who share them.

use tidegate_contract::Pool;
use tidegate_kafka::KafkaError;

use super::{Finding, many};

const CHECK: &str = "groups";

/// The members of a group and the partitions that they share.
pub struct Sharing {
    pub members: Result<usize, KafkaError>,
    /// `None` if the topic cannot be seen.
    pub partitions: Option<i32>,
}

/// The gateways, and the workers of each pool on its busiest tier.
pub fn judge(gateways: &Sharing, workers: &[(Pool, Sharing)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let running = match &gateways.members {
        Ok(members) => *members,
        Err(error) => {
            findings.push(Finding::not_checked(CHECK, format!("gateways: {error}")));
            0
        }
    };
    if let (Ok(members), Some(partitions)) = (&gateways.members, gateways.partitions) {
        let says = format!(
            "{} and {} of replies",
            many(*members, "gateway"),
            many(count(partitions), "partition")
        );
        findings.push(match *members > count(partitions) {
            true => Finding::warning(
                CHECK,
                format!("{says}, so that some have none of their own and read another's"),
                "add partitions with `kafka-topics --alter`, or stop a gateway",
            ),
            false => Finding::ok(CHECK, says),
        });
    }
    for (pool, sharing) in workers {
        let (members, partitions) = match (&sharing.members, sharing.partitions) {
            (Ok(members), Some(partitions)) => (*members, count(partitions)),
            (Err(error), _) => {
                let says = format!("workers of pool {pool}: {error}");
                findings.push(Finding::not_checked(CHECK, says));
                continue;
            }
            (Ok(_), None) => continue,
        };
        let says = format!(
            "{} of pool {pool} and {} of each of its jobs topics",
            many(members, "worker"),
            many(partitions, "partition")
        );
        findings.push(if members > partitions {
            Finding::warning(
                CHECK,
                format!("{says}, so that some get no jobs"),
                "add partitions with `kafka-topics --alter`, or stop a worker",
            )
        } else if members == 0 && running > 0 {
            Finding::warning(
                CHECK,
                format!("gateways run and no worker takes jobs of pool {pool}"),
                format!("start a worker with `{pool}` in worker.pools"),
            )
        } else {
            Finding::ok(CHECK, says)
        });
    }
    findings
}

fn count(partitions: i32) -> usize {
    usize::try_from(partitions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn sharing(members: usize, partitions: i32) -> Sharing {
        Sharing {
            members: Ok(members),
            partitions: Some(partitions),
        }
    }

    fn verdicts(gateways: &Sharing, workers: Sharing) -> Vec<Verdict> {
        let findings = judge(gateways, &[(Pool::default(), workers)]);
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn more_members_than_partitions_are_warned_of() {
        let fits = sharing(2, 8);
        assert_eq!(verdicts(&fits, sharing(4, 4)), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(
            verdicts(&sharing(9, 8), sharing(5, 4)),
            [Verdict::Warning; 2]
        );
    }

    #[test]
    fn nobody_at_work_is_bad_only_where_jobs_are_taken() {
        assert_eq!(
            verdicts(&sharing(1, 8), sharing(0, 4)),
            [Verdict::Ok, Verdict::Warning]
        );
        assert_eq!(verdicts(&sharing(0, 8), sharing(0, 4)), [Verdict::Ok; 2]);
    }

    #[test]
    fn what_is_not_told_is_not_judged() {
        let unknown = Sharing {
            members: Err(KafkaError::Unavailable("no answer".to_owned())),
            partitions: Some(8),
        };
        let none = Sharing {
            members: Ok(0),
            partitions: None,
        };
        assert_eq!(verdicts(&unknown, none), [Verdict::NotChecked]);
    }
}
