//! Whether jobs of one serial key ran one at a time, in the order in which they were accepted. Pure.

use std::collections::BTreeMap;

use tidegate_contract::Millis;
use uuid::Uuid;

use super::facts::{Incident, Run, Told};
use super::judge::{Fault, Runs, Violation};

/// A worker that stood still finishes what it had begun when it goes on; for so long after that, a run of its own beside
/// another one is what at-least-once means.
const AFTER_PAUSE: Millis = 10_000;

/// How many jobs with serial keys ran, and what was wrong.
pub(super) fn judge(
    told: &[Told],
    runs: &Runs<'_>,
    incidents: &[Incident],
) -> (usize, Vec<Violation>) {
    let mut keys: BTreeMap<u64, Vec<(u64, Uuid)>> = BTreeMap::new();
    for told in told {
        // The client of a key waits for each answer before it asks again, so the numbers are the order.
        if let (Some(key), Some(job)) = (told.serial_key, told.accepted()) {
            keys.entry(key).or_default().push((told.number, job));
        }
    }
    let (mut count, mut broken) = (0, Vec::new());
    for (key, mut jobs) in keys {
        jobs.sort_unstable();
        let mut last: Option<(Millis, Uuid)> = None;
        let mut all: Vec<&Run> = Vec::new();
        for (_, job) in jobs {
            let Some(runs) = runs.get(&job) else { continue };
            count += 1;
            all.extend(runs);
            let Some(first) = runs.first() else { continue };
            if let Some((start, before)) = last
                && first.start < start
            {
                broken.push(violation(
                    job,
                    format!("key {key}: it began before {before}, which was accepted earlier"),
                ));
            }
            last = last.max(Some((first.start, job)));
        }
        overlaps(key, all, incidents, &mut broken);
    }
    (count, broken)
}

fn overlaps(key: u64, mut runs: Vec<&Run>, incidents: &[Incident], broken: &mut Vec<Violation>) {
    runs.sort_by_key(|run| run.start);
    let mut running: Option<&Run> = None;
    for run in runs {
        if let Some(other) = running
            && other.job != run.job
            && other.end.is_none_or(|end| end > run.start)
            && !stood_still(other, incidents)
            && !stood_still(run, incidents)
        {
            broken.push(violation(
                run.job,
                format!("key {key}: it ran beside {}", other.job),
            ));
        }
        let end = |run: &Run| run.end.unwrap_or(Millis::MAX);
        if running.is_none_or(|other| end(other) < end(run)) {
            running = Some(run);
        }
    }
}

fn stood_still(run: &Run, incidents: &[Incident]) -> bool {
    incidents.iter().any(|incident| {
        incident.who == run.worker
            && incident.from <= run.end.unwrap_or(Millis::MAX)
            && incident.until + AFTER_PAUSE >= run.start
    })
}

fn violation(job: Uuid, text: String) -> Violation {
    Violation {
        fault: Fault::Serial,
        job: Some(job),
        text,
    }
}
