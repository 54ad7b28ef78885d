//! Clocks against the one of this machine. Deadlines and times of events are compared between machines.

use tidegate_contract::Millis;

use super::{Finding, many};

const CHECK: &str = "clocks";
/// More than this is a problem.
const TOLERANCE: Millis = 2_000;

/// What a clock said between two moments of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub asked: Millis,
    /// It was this time there, or up to `step` later.
    pub theirs: Millis,
    pub step: Millis,
    pub answered: Millis,
}

impl Sample {
    /// Of a header that counts in seconds.
    pub const SECONDS: Millis = 1_000;

    /// By how much that clock is ahead of ours, at least in that direction: what may come from the way there and from
    /// the step is given the benefit of the doubt.
    fn ahead(self) -> Millis {
        let earliest = self.theirs - self.answered;
        let latest = self.theirs + self.step - self.asked;
        if earliest > 0 {
            earliest
        } else {
            latest.min(0)
        }
    }
}

/// Clocks by the names of those whose they are; `silent` do not tell theirs.
pub fn judge(clocks: &[(String, Sample)], silent: &[String]) -> Vec<Finding> {
    let (mut findings, mut agree) = (Vec::new(), Vec::new());
    for (name, sample) in clocks {
        let ahead = sample.ahead();
        if ahead.abs() <= TOLERANCE {
            agree.push(name.as_str());
            continue;
        }
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let seconds = ahead.abs() as f64 / 1000.0;
        findings.push(Finding::problem(
            CHECK,
            format!("the clock of {name} is {seconds:.1} s {way} this machine's"),
            "let a time service set both",
        ));
    }
    // Kafka tells its time only in records, and nothing is written here.
    let mut silent: Vec<_> = silent.iter().map(String::as_str).collect();
    silent.push("brokers");
    if agree.is_empty() {
        if findings.is_empty() {
            findings.push(Finding::not_checked(CHECK, "nobody told the time"));
        }
        return findings;
    }
    let says = format!(
        "{} with this machine to {} s: {} ({} not asked or silent)",
        match agree.len() {
            1 => "1 clock agrees".to_owned(),
            n => format!("{} agree", many(n, "clock")),
        },
        TOLERANCE / 1000,
        agree.join(", "),
        silent.join(", ")
    );
    findings.push(Finding::ok(CHECK, says));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn ahead(theirs: Millis, step: Millis) -> Millis {
        Sample {
            asked: 10_000,
            theirs,
            step,
            answered: 10_100,
        }
        .ahead()
    }

    #[test]
    fn doubt_is_not_held_against_a_clock() {
        assert_eq!(ahead(10_050, 0), 0);
        assert_eq!(ahead(15_100, 0), 5_000);
        assert_eq!(ahead(5_000, 0), -5_000);
        // `10:00:09` may be almost `10:00:10`.
        assert_eq!(ahead(9_000, Sample::SECONDS), 0);
        assert_eq!(ahead(6_000, Sample::SECONDS), -3_000);
    }

    #[test]
    fn only_more_than_two_seconds_are_a_problem() {
        let clock = |theirs| Sample {
            asked: 0,
            theirs,
            step: 0,
            answered: 0,
        };
        let clocks = [
            ("store".to_owned(), clock(2_000)),
            ("registry".to_owned(), clock(-2_001)),
            ("http://g".to_owned(), clock(12_340)),
        ];
        let findings = judge(&clocks, &[]);
        let says: Vec<_> = findings.iter().map(|f| (f.verdict, &*f.says)).collect();
        assert_eq!(
            says,
            [
                (
                    Verdict::Problem,
                    "the clock of registry is 2.0 s behind this machine's"
                ),
                (
                    Verdict::Problem,
                    "the clock of http://g is 12.3 s ahead of this machine's"
                ),
                (
                    Verdict::Ok,
                    "1 clock agrees with this machine to 2 s: store (brokers not asked or silent)"
                ),
            ]
        );
        assert_eq!(judge(&[], &[])[0].verdict, Verdict::NotChecked);
    }
}
