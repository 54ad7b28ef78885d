//! From what was seen to a verdict. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidegate_contract::{Millis, Status, Tier};
use uuid::Uuid;

use super::callbacks::Callbacks;
use super::facts::{Facts, Row, Run, Said, Told};
use super::mix::Kind;

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Accepted, and no end came into the log, or not from there into the store.
    Lost,
    /// An answer or a status had something of another job.
    Misrouted,
    /// An end did not stay what it was, or is not the first one of the log.
    Changed,
    /// A job that nobody was promised was begun and never ended.
    Stuck,
    /// Jobs of one serial key ran out of order, or at the same time.
    Serial,
    /// One idempotency key made two jobs.
    Doubled,
    /// The projection's position went back, or does not reach the end of the log.
    Position,
    /// A job that asked for a callback has ended, and its message was never taken.
    Untold,
    /// A callback with a wrong signature, of another job, or with another end than the job's.
    Callback,
    /// Something could not be looked at.
    Unread,
}

impl Fault {
    pub const ALL: [Fault; 10] = [
        Fault::Lost,
        Fault::Misrouted,
        Fault::Changed,
        Fault::Stuck,
        Fault::Serial,
        Fault::Doubled,
        Fault::Position,
        Fault::Untold,
        Fault::Callback,
        Fault::Unread,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Lost => "lost",
            Fault::Misrouted => "misrouted",
            Fault::Changed => "changed after terminal",
            Fault::Stuck => "stuck",
            Fault::Serial => "serial order broken",
            Fault::Doubled => "two jobs under one key",
            Fault::Position => "position of the projection",
            Fault::Untold => "not called back",
            Fault::Callback => "wrong callback",
            Fault::Unread => "could not be looked at",
        }
    }
}

/// One of those, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub fault: Fault,
    pub job: Option<Uuid>,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.job {
            Some(job) => write!(f, "{}: job {job}: {}", self.fault.as_str(), self.text),
            None => write!(f, "{}: {}", self.fault.as_str(), self.text),
        }
    }
}

/// What a storm came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub accepted: usize,
    pub refused: usize,
    pub unknown: usize,
    /// By the status in the store.
    pub ended: BTreeMap<&'static str, usize>,
    pub late: usize,
    /// Attempts that ran more than once, by why.
    pub repeats: BTreeMap<String, usize>,
    /// Those of them that nothing which was done explains.
    pub unexplained: Vec<String>,
    /// From the submit to the first run of a job that was not to wait; by tier.
    pub worst_wait: BTreeMap<&'static str, Wait>,
    pub serial_jobs: usize,
    pub callbacks: Callbacks,
    pub memory: BTreeMap<&'static str, u64>,
    pub violations: Vec<Violation>,
}

/// How long a job waited for its first run, and how long after the first job of all it was asked for. In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    pub time: Millis,
    pub asked_after: Millis,
}

impl Verdict {
    pub fn count(&self, fault: Fault) -> usize {
        let of = self.violations.iter().filter(|one| one.fault == fault);
        of.count()
    }
}

/// Judges.
pub fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict {
        late: facts.late,
        memory: facts.memory.clone(),
        ..Verdict::default()
    };
    for told in &facts.told {
        match told.said {
            Said::Accepted | Said::Ended(_) => verdict.accepted += 1,
            Said::Refused => verdict.refused += 1,
            Said::Unknown => verdict.unknown += 1,
        }
    }
    for row in facts.rows.values().filter(|row| row.ended_at.is_some()) {
        *verdict.ended.entry(row.status.as_str()).or_default() += 1;
    }
    let violations = &mut verdict.violations;
    unfinished(facts, violations);
    answers(facts, violations);
    ends(facts, violations);
    let texts = [
        (Fault::Position, &facts.set_back),
        (Fault::Position, &facts.behind),
        (Fault::Unread, &facts.unread),
    ];
    for (fault, texts) in texts {
        violations.extend(texts.iter().map(|text| Violation {
            fault,
            job: None,
            text: text.clone(),
        }));
    }
    let runs = by_job(&facts.runs);
    for (before, again) in repeats::repeats(&runs) {
        let why = repeats::why(before, again, facts);
        if why.is_none() {
            let text = repeats::unexplained(before, again, &facts.incidents);
            verdict.unexplained.push(text);
        }
        let why = why.unwrap_or_else(|| "unexplained".to_owned());
        *verdict.repeats.entry(why).or_default() += 1;
    }
    verdict.worst_wait = worst_wait(&facts.told, &runs);
    let (jobs, broken) = super::serial::judge(&facts.told, &runs, &facts.incidents);
    verdict.serial_jobs = jobs;
    verdict.violations.extend(broken);
    let (callbacks, broken) = super::callbacks::judge(facts);
    verdict.callbacks = callbacks;
    verdict.violations.extend(broken);
    verdict
}

/// The runs of each job, in the order of their starts.
pub(super) type Runs<'a> = BTreeMap<Uuid, Vec<&'a Run>>;

fn by_job(runs: &[Run]) -> Runs<'_> {
    let mut by_job = Runs::new();
    for run in runs {
        by_job.entry(run.job).or_default().push(run);
    }
    for runs in by_job.values_mut() {
        runs.sort_by_key(|run| run.start);
    }
    by_job
}

fn is_ended(row: Option<&Row>) -> bool {
    row.is_some_and(|row| row.ended_at.is_some())
}

/// Every accepted job has an end in log and store, and whatever else was written ends as well.
fn unfinished(facts: &Facts, violations: &mut Vec<Violation>) {
    let mut promised = BTreeSet::new();
    for told in &facts.told {
        let Some(job) = told.accepted() else { continue };
        // Several requests under one key are one job.
        if !promised.insert(job) {
            continue;
        }
        let row = facts.rows.get(&job);
        let text = match (facts.ends.get(&job), row) {
            (None, row) => format!(
                "{} {} has no end in the log; {}, {}",
                told.kind.as_str(),
                told.number,
                row_text(row),
                match facts.written.contains(&job) {
                    true => "its record was written",
                    false => "no record of it",
                }
            ),
            (Some(end), row) if !is_ended(row) => format!(
                "{} {} ended as {} in the log; {}",
                told.kind.as_str(),
                told.number,
                end.status,
                row_text(row)
            ),
            _ => continue,
        };
        violations.push(Violation {
            fault: Fault::Lost,
            job: Some(job),
            text,
        });
    }
    let begun: BTreeSet<Uuid> = facts
        .written
        .iter()
        .chain(facts.rows.keys())
        .copied()
        .collect();
    for job in begun.difference(&promised) {
        let row = facts.rows.get(job);
        if !facts.ends.contains_key(job) || !is_ended(row) {
            violations.push(Violation {
                fault: Fault::Stuck,
                job: Some(*job),
                text: format!(
                    "{}, {}",
                    row_text(row),
                    match facts.ends.get(job) {
                        Some(end) => format!("{} in the log", end.status),
                        None => "no end in the log".to_owned(),
                    }
                ),
            });
        }
    }
}

fn row_text(row: Option<&Row>) -> String {
    match row {
        None => "no row".to_owned(),
        Some(row) => format!("its row is {}", row.status),
    }
}

/// What clients saw.
fn answers(facts: &Facts, violations: &mut Vec<Violation>) {
    for told in &facts.told {
        let job = told.jobs.last().copied();
        violations.extend(told.foreign.iter().map(|text| Violation {
            fault: Fault::Misrouted,
            job,
            text: text.clone(),
        }));
        let mut jobs = told.jobs.clone();
        jobs.sort_unstable();
        jobs.dedup();
        if jobs.len() > 1 {
            violations.push(Violation {
                fault: Fault::Doubled,
                job,
                text: format!("{} {}: {jobs:?}", told.kind.as_str(), told.number),
            });
        }
        let row = job
            .and_then(|job| facts.rows.get(&job))
            .filter(|row| row.ended_at.is_some());
        let ends = told.ends.iter().copied().chain(row.map(|row| row.status));
        let mut ends: Vec<Status> = ends.collect();
        ends.dedup();
        if ends.len() > 1 {
            let ends: Vec<_> = ends.iter().map(|status| status.as_str()).collect();
            violations.push(Violation {
                fault: Fault::Changed,
                job,
                text: format!("its client saw {}", ends.join(", then ")),
            });
        }
    }
}

/// The end of a row is the first end of the log, and stays.
fn ends(facts: &Facts, violations: &mut Vec<Violation>) {
    violations.extend(facts.changed.iter().map(|(job, text)| Violation {
        fault: Fault::Changed,
        job: Some(*job),
        text: format!("the end in its row was changed: {text}"),
    }));
    for (job, row) in &facts.rows {
        let Some(ended_at) = row.ended_at else {
            continue;
        };
        let text = match facts.ends.get(job) {
            None => format!("its row is {}, and there is no end in the log", row.status),
            Some(end)
                if (end.status, end.at) != (row.status, ended_at) || row.attempt < end.attempt =>
            {
                format!(
                    "its row is {} (attempt {}, {ended_at}), the first end in the log is {} (attempt {}, {})",
                    row.status, row.attempt, end.status, end.attempt, end.at
                )
            }
            Some(_) => continue,
        };
        violations.push(Violation {
            fault: Fault::Changed,
            job: Some(*job),
            text,
        });
    }
}

fn worst_wait(told: &[Told], runs: &Runs<'_>) -> BTreeMap<&'static str, Wait> {
    let mut worst: BTreeMap<&'static str, Wait> = BTreeMap::new();
    let first = told.iter().map(|told| told.asked_at).min().unwrap_or(0);
    for told in told {
        if matches!(told.kind, Kind::Delayed | Kind::Serial) {
            continue;
        }
        let run = told.accepted().and_then(|job| runs.get(&job)?.first());
        if let Some(run) = run {
            let wait = Wait {
                time: run.start.saturating_sub(told.asked_at),
                asked_after: told.asked_at.saturating_sub(first),
            };
            let worst = worst.entry(tier_text(told.tier)).or_default();
            *worst = wait.max(*worst);
        }
    }
    worst
}

fn tier_text(tier: Tier) -> &'static str {
    match tier {
        Tier::High => "high",
        Tier::Normal => "normal",
        Tier::Low => "low",
    }
}

mod repeats;
#[cfg(test)]
mod tests;
