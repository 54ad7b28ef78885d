//! Whether everybody who asked for a callback was called, with nothing but the truth. Pure.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::facts::{Facts, Message, Told};
use super::judge::{Fault, Violation};

/// What came of the callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// Jobs that were accepted, have ended and asked for one.
    pub asked: usize,
    /// Of those, the ones whose message was taken.
    pub delivered: usize,
    /// Messages that came again after they had been taken.
    pub again: usize,
}

/// Judges the messages.
pub(super) fn judge(facts: &Facts) -> (Callbacks, Vec<Violation>) {
    let told: BTreeMap<u64, &Told> = facts.told.iter().map(|told| (told.number, told)).collect();
    let mut violations = Vec::new();
    let (mut taken, mut again) = (BTreeSet::new(), 0);
    for message in &facts.messages {
        let text = wrong(facts, told.get(&message.number).copied(), message);
        violations.extend(text.map(|text| Violation {
            fault: Fault::Callback,
            job: message.job,
            text: format!("message {} to job {}: {text}", message.id, message.number),
        }));
        if let (true, Some(job)) = (message.taken, message.job)
            && !taken.insert(job)
        {
            again += 1;
        }
    }
    let mut callbacks = Callbacks {
        again,
        ..Callbacks::default()
    };
    let mut seen = BTreeSet::new();
    for told in facts.told.iter().filter(|told| told.callback) {
        let ended = |job: &Uuid| {
            facts
                .rows
                .get(job)
                .is_some_and(|row| row.ended_at.is_some())
        };
        // One that has not ended is lost, which is another fault.
        let Some(job) = told.accepted().filter(ended) else {
            continue;
        };
        if !seen.insert(job) {
            continue;
        }
        callbacks.asked += 1;
        match taken.contains(&job) {
            true => callbacks.delivered += 1,
            false => violations.push(Violation {
                fault: Fault::Untold,
                job: Some(job),
                text: format!("{} {}", told.kind.as_str(), told.number),
            }),
        }
    }
    (callbacks, violations)
}

/// What is wrong with a message.
fn wrong(facts: &Facts, told: Option<&Told>, message: &Message) -> Option<String> {
    if !message.signed {
        return Some("its signature is wrong".to_owned());
    }
    let Some(job) = message.job else {
        return Some("it names no job".to_owned());
    };
    let Some(told) = told.filter(|told| told.callback) else {
        return Some("that job asked for none".to_owned());
    };
    // Whoever got no answer does not know the job's id.
    if told.accepted().is_some() && !told.jobs.contains(&job) {
        return Some(format!("it is about {job}"));
    }
    let nonce = format!("{}-{}", told.kind.as_str(), told.number);
    if message.nonce.as_ref().is_some_and(|mark| *mark != nonce) {
        return Some(format!("it has the result of {:?}", message.nonce));
    }
    match facts.rows.get(&job) {
        Some(row) if row.ended_at.is_some() && Some(row.status) == message.status => None,
        Some(row) => Some(format!(
            "it says {:?}, the row {}",
            message.status, row.status
        )),
        None => Some("its job has no row".to_owned()),
    }
}
