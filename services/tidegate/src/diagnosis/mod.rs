//! What `tidegate doctor` makes of what it has found. Pure: facts come in, findings go out, and a page of them.
//!
//! A file a subject. Each takes what was asked, or why there was no answer, and says in a sentence each what is right and
//! what is wrong; what is wrong has a mend. Nothing here asks anybody anything, see `commands/doctor`.

pub mod broker;
pub mod clocks;
pub mod groups;
pub mod notifier;
pub mod registry;
pub mod rights;
pub mod roles;
pub mod store;
pub mod topics;

use serde_json::{Value, json};

use crate::output;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work, or will not.
    Problem,
    /// What it takes to look is not there; why not is a finding of its own.
    NotChecked,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
            Verdict::NotChecked => "not checked",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    pub says: String,
    /// Of warnings and problems.
    pub mend: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, says, None)
    }

    pub fn warning(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, says, Some(mend.into()))
    }

    pub fn problem(check: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, says, Some(mend.into()))
    }

    pub fn not_checked(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotChecked, why, None)
    }

    fn new(
        check: &'static str,
        verdict: Verdict,
        says: impl Into<String>,
        mend: Option<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            says: says.into(),
            mend,
        }
    }

    /// What it says and the mend, in one line.
    fn sentence(&self) -> String {
        let says: Vec<_> = self.says.split_whitespace().collect();
        match &self.mend {
            Some(mend) => format!("{}: {mend}", says.join(" ")),
            None => says.join(" "),
        }
    }
}

/// How many findings have that verdict.
pub fn count(findings: &[Finding], verdict: Verdict) -> usize {
    let with = findings.iter().filter(|finding| finding.verdict == verdict);
    with.count()
}

/// A table, and what it comes to.
pub fn page(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let verdict = finding.verdict.as_str().to_owned();
            vec![verdict, finding.check.to_owned(), finding.sentence()]
        })
        .collect();
    let table = output::table(&["verdict", "check", "finding"], &rows);
    format!("{table}\n\n{}", sum(findings))
}

fn sum(findings: &[Finding]) -> String {
    let some = |verdict, one: &str, many: &str| match count(findings, verdict) {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let mut parts = vec![
        some(Verdict::Problem, "problem", "problems"),
        some(Verdict::Warning, "warning", "warnings"),
        some(Verdict::Ok, "ok", "ok"),
    ];
    if count(findings, Verdict::NotChecked) > 0 {
        parts.push(some(Verdict::NotChecked, "not checked", "not checked"));
    }
    parts.join(", ")
}

/// The same for programs.
pub fn object(findings: &[Finding]) -> Value {
    let list = findings.iter().map(|finding| {
        json!({
            "check": finding.check,
            "verdict": finding.verdict.as_str(),
            "says": finding.says,
            "mend": finding.mend,
        })
    });
    json!({
        "ok": count(findings, Verdict::Problem) == 0,
        "problems": count(findings, Verdict::Problem),
        "warnings": count(findings, Verdict::Warning),
        "notChecked": count(findings, Verdict::NotChecked),
        "findings": list.collect::<Vec<_>>(),
    })
}

/// `1 topic`, `2 topics`.
fn many(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("broker", "3 brokers"),
            Finding::problem("topics", "topic a\nis missing", "make it"),
            Finding::warning("clocks", "fast", "slow it"),
            Finding::not_checked("rights", "no topics"),
        ]
    }

    #[test]
    fn a_finding_is_a_line() {
        assert_eq!(
            page(&findings()),
            "verdict      check   finding\n\
             ok           broker  3 brokers\n\
             problem      topics  topic a is missing: make it\n\
             warning      clocks  fast: slow it\n\
             not checked  rights  no topics\n\
             \n\
             1 problem, 1 warning, 1 ok, 1 not checked"
        );
        assert!(page(&findings()[..1]).ends_with("\n0 problems, 0 warnings, 1 ok"));
    }

    #[test]
    fn programs_get_the_same() {
        let object = object(&findings());
        assert_eq!(object["ok"], false);
        assert_eq!(object["findings"][1]["mend"], "make it");
        assert_eq!(object["findings"][3]["verdict"], "not checked");
        assert_eq!(object["findings"][0]["mend"], Value::Null);
    }
}
