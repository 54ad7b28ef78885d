//! What one batch of events makes of the rows that it touches, before anything is written.

use std::collections::{BTreeMap, HashMap};

use tidegate_contract::{JobEvent, JobId};

use crate::merge::fold;
use crate::types::{Applied, Batch, JobRow};

/// What the store knows of a job, as far as the projection needs it.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// It has not ended.
    Open(Box<JobRow>),
    Ended,
    /// It was purged.
    Buried,
    /// Its row does not read back, and why.
    Unreadable(String),
}

/// The rows to write, in the order of their ids, and the counts so far.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub rows: Vec<JobRow>,
    pub applied: Applied,
}

/// The jobs that a batch is about, in the order of their ids.
pub(crate) fn ids(batch: &Batch) -> Vec<JobId> {
    let mut ids: Vec<_> = batch.events.iter().map(|event| event.job_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(crate) fn plan(batch: &Batch, known: &mut HashMap<JobId, Known>) -> Plan {
    let mut by_job = BTreeMap::<JobId, Vec<&JobEvent>>::new();
    for event in &batch.events {
        by_job.entry(event.job_id).or_default().push(event);
    }
    let mut plan = Plan::default();
    for (id, events) in by_job {
        let row = match known.remove(&id) {
            None => None,
            Some(Known::Open(row)) => Some(*row),
            #[cfg(feature = "sabotage")]
            Some(Known::Ended)
                if tidegate_contract::sabotage::is_on("ignore-terminal")
                    && events.iter().any(|event| event.kind.is_terminal()) =>
            {
                None
            }
            Some(Known::Ended) => {
                let skipped = events.iter().filter(|event| is_unknown(event)).count() as u64;
                plan.applied.skipped += skipped;
                plan.applied.late += events.len() as u64 - skipped;
                continue;
            }
            Some(Known::Buried) => {
                plan.applied.buried += events.len() as u64;
                continue;
            }
            Some(Known::Unreadable(reason)) => {
                plan.applied.refused.push((id, reason));
                continue;
            }
        };
        let folded = fold(row, batch.partition, events);
        plan.applied.late += folded.late;
        plan.applied.skipped += folded.skipped;
        if folded.changed {
            plan.rows.extend(folded.row);
        }
    }
    plan
}

fn is_unknown(event: &JobEvent) -> bool {
    event.kind == tidegate_contract::EventKind::Unknown
}
