//! Whether the registry answers, has our schemas, and keeps them compatible.

use tidegate_kafka::{Compatibility, LEVEL, RegistryError};

use super::{Finding, many};

const CHECK: &str = "registry";

/// The schemas as the registry knows them, and the level of each subject; `None` is the registry's own.
pub fn judge(
    url: &str,
    schemas: &Result<Vec<Compatibility>, RegistryError>,
    levels: &Result<Vec<(String, Option<String>)>, RegistryError>,
) -> Vec<Finding> {
    let schemas = match schemas {
        Ok(schemas) => schemas,
        Err(error) => return vec![away(url, error)],
    };
    let mut findings = Vec::new();
    let missing: Vec<_> = schemas
        .iter()
        .filter(|schema| schema.id.is_none())
        .collect();
    let names = |schemas: &[&Compatibility]| {
        let names: Vec<_> = schemas.iter().map(|schema| &*schema.subject).collect();
        names.join(", ")
    };
    let (fitting, others): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|schema| schema.compatible);
    if !fitting.is_empty() {
        findings.push(Finding::problem(
            CHECK,
            format!("{url} has no {}", names(&fitting)),
            "run `tidegate schemas register`",
        ));
    }
    for schema in others {
        findings.push(Finding::problem(
            CHECK,
            format!(
                "{} is not compatible with what is registered: {}",
                schema.subject,
                schema.messages.join("; ")
            ),
            "is this program older than the one that registered it? else use another registry",
        ));
    }
    if findings.is_empty() {
        let ids = schemas.iter().filter_map(|schema| {
            let id = schema.id?;
            Some(format!("{} is {id}", schema.subject))
        });
        let ids: Vec<_> = ids.collect();
        let says = format!(
            "{}, {} registered: {}",
            url,
            many(ids.len(), "schema"),
            ids.join(", ")
        );
        findings.push(Finding::ok(CHECK, says));
        findings.extend(levels.iter().flatten().filter_map(|(subject, level)| {
            let level = level.as_deref()?;
            (level != LEVEL).then(|| {
                Finding::warning(
                    CHECK,
                    format!("{subject} is kept {level} compatible and should be {LEVEL}"),
                    "run `tidegate schemas register`",
                )
            })
        }));
    }
    findings
}

fn away(url: &str, error: &RegistryError) -> Finding {
    match error {
        RegistryError::Unavailable(reason) => Finding::problem(
            CHECK,
            format!("{url} does not answer: {reason}"),
            "start it, or correct registry.url",
        ),
        RegistryError::Settings(reason) => Finding::problem(CHECK, reason, "correct the setting"),
        RegistryError::Refused(reason) => Finding::problem(
            CHECK,
            format!("{url} refuses: {reason}"),
            "correct registry.url, or registry.username and registry.password",
        ),
        RegistryError::NotRegistered(_) | RegistryError::Incompatible { .. } => {
            Finding::problem(CHECK, error.to_string(), "run `tidegate schemas register`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn schema(id: Option<u32>, compatible: bool) -> Compatibility {
        Compatibility {
            subject: "tidegate.v1.Job".to_owned(),
            id,
            compatible,
            messages: vec!["field gone".to_owned()],
        }
    }

    fn judged(schema: Compatibility, level: Option<&str>) -> Vec<(Verdict, String)> {
        let levels = vec![(schema.subject.clone(), level.map(str::to_owned))];
        let findings = judge("http://r", &Ok(vec![schema]), &Ok(levels));
        let findings = findings.into_iter();
        findings
            .map(|finding| (finding.verdict, finding.says))
            .collect()
    }

    #[test]
    fn schemas_are_there_or_can_be_made_or_cannot() {
        let there = judged(schema(Some(3), true), None);
        let says = "http://r, 1 schema registered: tidegate.v1.Job is 3";
        assert_eq!(there, [(Verdict::Ok, says.to_owned())]);
        let missing = judged(schema(None, true), None);
        assert_eq!(missing[0].0, Verdict::Problem);
        assert_eq!(missing[0].1, "http://r has no tidegate.v1.Job");
        let other = judged(schema(None, false), None);
        assert!(other[0].1.ends_with("with what is registered: field gone"));
    }

    #[test]
    fn a_level_that_lets_go_is_a_warning() {
        for (level, count) in [(None, 1), (Some(LEVEL), 1), (Some("NONE"), 2)] {
            assert_eq!(
                judged(schema(Some(1), true), level).len(),
                count,
                "{level:?}"
            );
        }
    }

    #[test]
    fn a_registry_that_is_away_is_one_line() {
        let away = Err(RegistryError::Unavailable("refused".to_owned()));
        let findings = judge("http://r", &away, &Ok(Vec::new()));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].says, "http://r does not answer: refused");
    }
}
