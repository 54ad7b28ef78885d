//! The job types here and in the roles that run: all of one version must work by the same.

use serde::Deserialize;

use super::{Finding, many};

const TYPES: &str = "types";
const ROLES: &str = "roles";

/// The job types of this configuration.
#[derive(Clone, Debug)]
pub struct Own {
    pub digest: String,
    pub count: usize,
    /// The file that some or all of them come from.
    pub file: Option<String>,
    /// Why that file cannot be used, a line each; the digest is then of the others.
    pub problems: Option<String>,
}

/// A role that runs, as its `/readyz` and `/metrics` tell.
#[derive(Clone, Debug, Deserialize)]
pub struct Running {
    ready: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    notes: Vec<String>,
    types: Option<Types>,
    #[serde(skip)]
    version: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    name: String,
    ok: bool,
    reason: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Types {
    digest: String,
    loaded_at: String,
    error: Option<String>,
}

impl Running {
    /// `None` if that is not what a role answers.
    pub fn read(readiness: &str, metrics: &str) -> Option<Self> {
        let mut running: Self = serde_json::from_str(readiness).ok()?;
        let mut lines = metrics.lines();
        let build = lines.find(|line| line.starts_with("tidegate_build_info{"));
        running.version = build.and_then(|line| {
            let (_, rest) = line.split_once("version=\"")?;
            Some(rest.split('"').next()?.to_owned())
        });
        Some(running)
    }
}

/// Somebody who was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub url: String,
    /// Or why there was no answer.
    pub answer: Result<Running, String>,
    /// Only because the configuration has the address: nobody may be there.
    pub guessed: bool,
}

/// The types here, then the roles.
pub fn judge(own: &Own, asked: &[Asked], version: &str) -> Vec<Finding> {
    let mut findings = vec![types(own)];
    let found: Vec<_> = asked
        .iter()
        .filter(|a| a.answer.is_ok() || !a.guessed)
        .collect();
    if found.is_empty() {
        let says =
            "none was named, and none answers where this configuration listens: give --role URL";
        findings.push(Finding::not_checked(ROLES, says));
    }
    // A broken file here has no digest to compare with: then the roles are compared among themselves.
    let mut reference = match own.problems {
        None => Some((
            "this configuration".to_owned(),
            own.digest.clone(),
            version.to_owned(),
        )),
        Some(_) => None,
    };
    for role in found {
        let running = match &role.answer {
            Ok(running) => running,
            Err(reason) => {
                findings.push(Finding::problem(
                    ROLES,
                    reason,
                    "start it, or correct --role",
                ));
                continue;
            }
        };
        let before = findings.len();
        one(&role.url, running, reference.as_ref(), &mut findings);
        if let (None, Some(types)) = (&reference, &running.types) {
            let version = running.version.clone().unwrap_or_default();
            reference = Some((role.url.clone(), types.digest.clone(), version));
        }
        if findings.len() == before {
            findings.push(Finding::ok(ROLES, healthy(&role.url, running)));
        }
    }
    findings
}

fn types(own: &Own) -> Finding {
    let file = own.file.as_deref().unwrap_or("the configuration");
    match &own.problems {
        Some(problems) => {
            let mut lines = problems.lines();
            let first = lines.next().unwrap_or_default();
            let more = match lines.count() {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            let says = format!("{first}{more}");
            Finding::problem(TYPES, says, "mend it; roles keep the types that they have")
        }
        None if own.count == 0 => Finding::warning(
            TYPES,
            format!("{file} has no job types"),
            "add one, [types.NAME]",
        ),
        None => Finding::ok(
            TYPES,
            format!(
                "{} from {file}, digest {}",
                many(own.count, "job type"),
                own.digest
            ),
        ),
    }
}

fn one(
    url: &str,
    running: &Running,
    reference: Option<&(String, String, String)>,
    findings: &mut Vec<Finding>,
) {
    if !running.ready {
        let unmet = running.conditions.iter().filter(|condition| !condition.ok);
        let unmet = unmet.map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or("unknown");
            format!("{}: {reason}", condition.name)
        });
        let says = format!(
            "{url} is not ready: {}",
            unmet.collect::<Vec<_>>().join("; ")
        );
        findings.push(Finding::problem(ROLES, says, "see its reason"));
    }
    let Some(types) = &running.types else {
        return;
    };
    if let Some(error) = &types.error {
        let says = format!(
            "{url} holds on to the job types of {}, since its file cannot be used: {error}",
            types.loaded_at
        );
        findings.push(Finding::problem(ROLES, says, "mend the file"));
    }
    let Some((other, digest, version)) = reference else {
        return;
    };
    if *digest == types.digest {
        return;
    }
    let of = running.version.as_deref().unwrap_or_default();
    let says = format!(
        "{url} has job types of digest {} and {other} of {digest}",
        types.digest
    );
    findings.push(match of == version.as_str() {
        true => Finding::problem(ROLES, says, "give both the same file"),
        // Another version may know more settings.
        false => Finding::warning(
            ROLES,
            format!("{says}, which says little as one is {of} and one {version}"),
            "compare again when both are of one version",
        ),
    });
}

fn healthy(url: &str, running: &Running) -> String {
    let version = running
        .version
        .as_deref()
        .unwrap_or("of an unknown version");
    let types = match &running.types {
        Some(types) => format!("job types {}", types.digest),
        None => "no job types told".to_owned(),
    };
    let notes = running.notes.iter().map(|note| format!("; note: {note}"));
    format!(
        "{url} is ready, {version}, {types}{}",
        notes.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use serde_json::json;

    const METRICS: &str = "# HELP x\ntidegate_build_info{version=\"0.1.0\"} 1\n";

    fn own() -> Own {
        Own {
            digest: "aaa".to_owned(),
            count: 2,
            file: Some("types.toml".to_owned()),
            problems: None,
        }
    }

    fn role(url: &str, digest: &str, error: Option<&str>) -> Asked {
        let readiness = json!({
            "ready": true,
            "conditions": [{"name": "broker", "ok": true, "since": "then"}],
            "notes": ["single-broker"],
            "types": {"digest": digest, "count": 2, "file": null, "loadedAt": "noon", "error": error},
        });
        Asked {
            url: url.to_owned(),
            answer: Ok(Running::read(&readiness.to_string(), METRICS).unwrap()),
            guessed: false,
        }
    }

    fn said(own: &Own, asked: &[Asked]) -> Vec<(Verdict, String)> {
        let findings = judge(own, asked, "0.1.0").into_iter();
        findings
            .map(|finding| (finding.verdict, finding.says))
            .collect()
    }

    #[test]
    fn roles_with_the_same_types_are_a_line_each() {
        assert_eq!(
            said(&own(), &[role("http://g", "aaa", None)]),
            [
                (
                    Verdict::Ok,
                    "2 job types from types.toml, digest aaa".to_owned()
                ),
                (
                    Verdict::Ok,
                    "http://g is ready, 0.1.0, job types aaa; note: single-broker".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn drift_and_a_file_that_is_held_against_are_problems() {
        let said = said(
            &own(),
            &[
                role("http://g", "aaa", Some("line 3: no")),
                role("http://w", "bbb", None),
            ],
        );
        let expected = [
            "http://g holds on to the job types of noon, since its file cannot be used: line 3: no",
            "http://w has job types of digest bbb and this configuration of aaa",
        ];
        assert_eq!(said.len(), 3);
        for ((verdict, says), expected) in said[1..].iter().zip(expected) {
            assert_eq!((*verdict, says.as_str()), (Verdict::Problem, expected));
        }
    }

    #[test]
    fn a_broken_file_here_leaves_the_roles_to_be_compared() {
        let mut own = own();
        own.problems = Some("file types.toml: line 3: no\nfile types.toml: line 4: no".to_owned());
        let said = said(
            &own,
            &[role("http://g", "bbb", None), role("http://w", "ccc", None)],
        );
        assert_eq!(said[0].1, "file types.toml: line 3: no (and 1 more)");
        assert_eq!(said[1].0, Verdict::Ok);
        assert_eq!(
            said[2].1,
            "http://w has job types of digest ccc and http://g of bbb"
        );
    }

    #[test]
    fn nobody_where_somebody_was_only_guessed_is_no_problem() {
        let away = |guessed| Asked {
            url: "http://g".to_owned(),
            answer: Err("cannot reach http://g".to_owned()),
            guessed,
        };
        assert_eq!(said(&own(), &[away(true)])[1].0, Verdict::NotChecked);
        assert_eq!(said(&own(), &[away(false)])[1].0, Verdict::Problem);
    }

    #[test]
    fn another_version_may_differ() {
        let mut other = role("http://g", "bbb", None);
        if let Ok(running) = &mut other.answer {
            running.version = Some("0.2.0".to_owned());
        }
        assert_eq!(said(&own(), &[other])[1].0, Verdict::Warning);
        assert!(Running::read("<html>", "").is_none());
    }
}
