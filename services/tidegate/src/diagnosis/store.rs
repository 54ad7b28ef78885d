//! Whether the store is there, is ours, and belongs to this Kafka.

use tidegate_store::{Inspection, StoreError, Tables};

use super::Finding;

const CHECK: &str = "store";

/// The database as it was found; `cluster` is the Kafka that answers now.
pub fn judge(found: &Result<Inspection, StoreError>, cluster: Option<&str>) -> Vec<Finding> {
    let found = match found {
        Ok(found) => found,
        Err(error) => return vec![away(error)],
    };
    let version = &found.version;
    let mut findings = vec![match found.tables {
        Tables::Current(at) => Finding::ok(CHECK, format!("{version}, tables at migration {at}")),
        Tables::Missing => Finding::warning(
            CHECK,
            format!("{version}, no tables yet"),
            "the first gateway makes them",
        ),
        Tables::Older { found, wanted } => Finding::warning(
            CHECK,
            format!("{version}, tables at migration {found} of {wanted}"),
            "back it up; the next gateway upgrades it",
        ),
        Tables::Newer(at) => Finding::problem(
            CHECK,
            format!("its tables are of a later version (migration {at})"),
            "upgrade this tidegate",
        ),
        Tables::Foreign(at) => Finding::problem(
            CHECK,
            format!("its tables were not made by this tidegate (migration {at} differs)"),
            "use another database",
        ),
        Tables::Unfinished(at) => Finding::problem(
            CHECK,
            format!("migration {at} was begun and did not end"),
            "restore the backup, or mend the tables by hand",
        ),
    }];
    let other = found
        .clusters
        .iter()
        .find(|of| Some(of.as_str()) != cluster);
    if let (Some(other), Some(cluster)) = (other, cluster) {
        findings.push(Finding::problem(
            CHECK,
            format!("it follows Kafka cluster {other} and this is {cluster}"),
            "give the gateways the store of this cluster, or an empty one",
        ));
    }
    findings
}

fn away(error: &StoreError) -> Finding {
    match error {
        StoreError::Unavailable(reason) => Finding::problem(
            CHECK,
            format!("it is away: {reason}"),
            "start it, or correct store.url",
        ),
        StoreError::Locked(reason)
        | StoreError::Refused(reason)
        | StoreError::Corrupt(reason)
        | StoreError::Settings(reason) => {
            Finding::problem(CHECK, reason, "correct store.url, or the database")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn judged(tables: Tables, cluster: Option<&str>) -> Vec<Verdict> {
        let found = Inspection {
            version: "PostgreSQL 15".to_owned(),
            tables,
            now: None,
            clusters: vec!["one".to_owned()],
        };
        let findings = judge(&Ok(found), cluster);
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn tables_and_the_cluster_that_they_follow_are_judged() {
        use Verdict::{Ok, Problem, Warning};
        assert_eq!(judged(Tables::Current(1), Some("one")), [Ok]);
        assert_eq!(judged(Tables::Current(1), None), [Ok]);
        assert_eq!(judged(Tables::Current(1), Some("two")), [Ok, Problem]);
        assert_eq!(judged(Tables::Missing, None), [Warning]);
        let older = Tables::Older {
            found: 1,
            wanted: 2,
        };
        assert_eq!(judged(older, None), [Warning]);
        for wrong in [Tables::Newer(9), Tables::Foreign(1), Tables::Unfinished(2)] {
            assert_eq!(judged(wrong, None), [Problem], "{wrong:?}");
        }
    }

    #[test]
    fn one_that_is_away_is_one_line() {
        let error = StoreError::Unavailable("no connection in time".to_owned());
        let findings = judge(&Err(error), None);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].says, "it is away: no connection in time");
    }
}
