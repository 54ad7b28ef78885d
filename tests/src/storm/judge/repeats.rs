//! Attempts that ran more than once, and why. Pure.

use tidegate_contract::Millis;

use super::Runs;
use crate::storm::facts::{Facts, Incident, Run};

/// After an incident that makes its group share its work out anew, runs may be repeated for so long.
const AFTERMATH: Millis = 12_000;

/// Attempts that ran more than once: the run before, and the one again.
pub(super) fn repeats<'a>(runs: &Runs<'a>) -> Vec<(&'a Run, &'a Run)> {
    let mut repeats = Vec::new();
    for runs in runs.values() {
        for (number, run) in runs.iter().enumerate() {
            let before = runs[..number]
                .iter()
                .rev()
                .find(|before| before.attempt == run.attempt);
            repeats.extend(before.map(|before| (*before, *run)));
        }
    }
    repeats
}

/// What there is to say of a run that was repeated for no reason that is known.
pub(super) fn unexplained(before: &Run, again: &Run, incidents: &[Incident]) -> String {
    let seconds = |from: Millis, to: Millis| to.saturating_sub(from) as f64 / 1000.0;
    let ran = match before.end {
        Some(end) => format!("for {:.1} s", seconds(before.start, end)),
        None => "to the end of the storm".to_owned(),
    };
    let last = incidents
        .iter()
        .filter(|incident| incident.from <= again.start)
        .max_by_key(|incident| incident.until)
        .map_or_else(String::new, |incident| {
            let ago = seconds(incident.until, again.start);
            format!(
                "; {} {} {ago:.1} s before that",
                incident.who, incident.what
            )
        });
    format!(
        "job {} attempt {}: at {} it ran {ran}, at {} again {:.1} s after it had begun{last}",
        again.job,
        again.attempt,
        before.worker,
        again.worker,
        seconds(before.start, again.start)
    )
}

/// Why a job ran `again` when it had run `before`, in words of the report; `None` if nothing that is known explains it.
pub(super) fn why(before: &Run, again: &Run, facts: &Facts) -> Option<String> {
    let incidents = &facts.incidents;
    let between = |incident: &&Incident, slack: Millis| {
        incident.from <= again.start && incident.until + slack >= before.start
    };
    let mut own = incidents
        .iter()
        .filter(|incident| incident.who == before.worker);
    if let Some(incident) = own.find(|incident| between(incident, 2_000)) {
        return Some(format!("its worker {}", incident.what));
    }
    let mut groups = incidents
        .iter()
        .filter(|incident| incident.who.starts_with("worker"));
    if groups.any(|incident| between(&incident, AFTERMATH)) {
        return Some("another worker came or went".to_owned());
    }
    let mut brokers = incidents
        .iter()
        .filter(|incident| incident.who.starts_with("broker"));
    if brokers.any(|incident| between(&incident, AFTERMATH)) {
        return Some("a broker was away".to_owned());
    }
    // By a gateway or a scheduler that did not learn what became of the first one; or because it was parked.
    let copies = facts.copies.get(&(again.job, again.attempt));
    (copies.copied().unwrap_or(0) > 1).then(|| "its record was written again".to_owned())
}
