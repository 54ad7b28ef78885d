//! The verdict as text.

use std::fmt::Write;

use tidegate_contract::Millis;

use super::judge::{Fault, Verdict};

/// Violations of one sort, and repeats without a reason, that are told in full.
const TOLD: usize = 10;

/// What is printed at the end of a storm.
pub fn report(verdict: &Verdict) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<24} {what}");
    };
    line(
        "accepted",
        format!(
            "{} ({} refused, {} unknown)",
            verdict.accepted, verdict.refused, verdict.unknown
        ),
    );
    for (status, count) in &verdict.ended {
        line(&format!("ended {status}"), count.to_string());
    }
    for fault in Fault::ALL {
        if !matches!(fault, Fault::Unread) || verdict.count(fault) > 0 {
            line(fault.as_str(), verdict.count(fault).to_string());
        }
    }
    line("jobs with serial keys", verdict.serial_jobs.to_string());
    let callbacks = verdict.callbacks;
    line(
        "called back",
        format!(
            "{} of {} who asked, {} messages again",
            callbacks.delivered, callbacks.asked, callbacks.again
        ),
    );
    line("ends that came too late", verdict.late.to_string());
    let repeats: usize = verdict.repeats.values().sum();
    line("attempts run again", repeats.to_string());
    for (why, count) in &verdict.repeats {
        line(&format!("  {why}"), count.to_string());
    }
    for text in verdict.unexplained.iter().take(TOLD) {
        line("  unexplained:", text.clone());
    }
    for (tier, wait) in &verdict.worst_wait {
        let seconds = |time: Millis| time as f64 / 1000.0;
        let (time, after) = (seconds(wait.time), seconds(wait.asked_after));
        line(
            &format!("worst wait, {tier}"),
            format!("{time:.1} s, of a job asked for {after:.1} s after the first"),
        );
    }
    for (role, kib) in &verdict.memory {
        line(
            &format!("memory peak, {role}"),
            format!("{} MiB", kib / 1024),
        );
    }
    for fault in Fault::ALL {
        let of = verdict.violations.iter().filter(|one| one.fault == fault);
        for violation in of.take(TOLD) {
            let _ = writeln!(text, "VIOLATION {violation}");
        }
        if let Some(more) = verdict
            .count(fault)
            .checked_sub(TOLD)
            .filter(|more| *more > 0)
        {
            let _ = writeln!(text, "VIOLATION {}: {more} more", fault.as_str());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::judge::Violation;
    use super::*;

    #[test]
    fn every_fault_is_counted_and_the_first_ones_are_told() {
        let violation = |number: usize| Violation {
            fault: Fault::Lost,
            job: None,
            text: format!("number {number}"),
        };
        let verdict = Verdict {
            violations: (0..12).map(violation).collect(),
            ..Verdict::default()
        };
        let text = report(&verdict);
        assert!(text.contains("lost                     12\n"), "{text}");
        assert!(text.contains("misrouted                0\n"));
        assert!(text.contains("VIOLATION lost: number 9\nVIOLATION lost: 2 more\n"));
    }
}
