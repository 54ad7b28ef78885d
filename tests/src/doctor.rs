//! `tidegate doctor`, and what it says.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Stack;

/// Longest that an operator waits.
const LIMIT: Duration = Duration::from_secs(10);

/// What the doctor said.
pub struct Said {
    pub code: i32,
    object: Value,
    pub page: String,
}

impl Said {
    /// The sentences of one verdict on one subject, each with its mend.
    pub fn of(&self, verdict: &str, check: &str) -> Vec<String> {
        let findings = self.object["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|f| f["verdict"] == verdict && f["check"] == check);
        findings
            .map(|finding| {
                let says = finding["says"].as_str().unwrap();
                format!("{says}: {}", finding["mend"].as_str().unwrap_or("-"))
            })
            .collect()
    }

    /// Exactly one sentence of that verdict on that subject, which has these words in it.
    pub fn one(&self, verdict: &str, check: &str, words: &[&str]) {
        let found = self.of(verdict, check);
        let [only] = found.as_slice() else {
            panic!("{verdict} {check}: {found:#?}\n{}", self.page);
        };
        for word in words {
            assert!(only.contains(word), "`{word}` in `{only}`\n{}", self.page);
        }
    }

    /// The subject of each line.
    pub fn checks(&self) -> Vec<&str> {
        let findings = self.object["findings"].as_array().unwrap().iter();
        findings.map(|f| f["check"].as_str().unwrap()).collect()
    }

    /// What is wrong, by subject.
    pub fn problems(&self) -> Vec<&str> {
        let findings = self.object["findings"].as_array().unwrap().iter();
        let problems = findings.filter(|finding| finding["verdict"] == "problem");
        problems.map(|p| p["check"].as_str().unwrap()).collect()
    }
}

/// Runs it: in time, with nothing on standard error.
fn run(stack: &Stack, arguments: &[&str], more: &[&str]) -> (i32, String) {
    let begun = Instant::now();
    // Only roles that are named: others may listen on this machine.
    let mut command = stack.command(&["doctor"]);
    command.args(["--set", "gateway.listen=127.0.0.1:0"]);
    command.args(["--set", "worker.listen=127.0.0.1:0"]);
    command.args(["--set", "notifier.listen=127.0.0.1:0"]);
    let output = command.args(arguments).args(more).output().unwrap();
    let took = begun.elapsed();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "", "nothing but the page");
    assert!(took < LIMIT, "{took:?}");
    let (code, page) = (output.status.code(), output.stdout);
    let (code, page) = (code.unwrap(), String::from_utf8(page).unwrap());
    println!(
        "doctor: code {code} after {:.1} s\n{page}",
        took.as_secs_f64()
    );
    (code, page)
}

/// What it says as JSON.
pub fn as_json(stack: &Stack, arguments: &[&str]) -> Said {
    let (code, page) = run(stack, arguments, &["--json"]);
    let object: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(object["ok"], code == 0);
    Said { code, object, page }
}

/// What it says as a table and as JSON, which is the same.
pub fn doctor(stack: &Stack, arguments: &[&str]) -> Said {
    let (code, page) = run(stack, arguments, &[]);
    let said = as_json(stack, arguments);
    assert_eq!(code, said.code);
    let findings = said.object["findings"].as_array().unwrap().len();
    // A head, a line each, an empty one, the sum.
    assert_eq!(page.lines().count(), findings + 3, "one line each");
    Said { page, ..said }
}
