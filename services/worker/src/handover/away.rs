//! Records that are not begun because they may run where their partition comes from.

use std::time::Instant;

use tidegate_contract::JobMessage;
use tidegate_kafka::Record;

use super::heard::{Heard, Verdict};
use crate::park::Parked;

/// Those of one lane. They count in it as parked ones do.
#[derive(Default)]
pub(crate) struct Away {
    all: Vec<(Instant, Held)>,
}

/// A record, and where it lies.
pub(crate) struct Held {
    pub parked: Parked,
    pub record: Record,
    pub job: JobMessage,
}

impl Away {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Holds a record back.
    pub(crate) fn hold(&mut self, held: Held) {
        self.all.push((Instant::now(), held));
    }

    /// What is not ours any more is forgotten.
    pub(crate) fn forget(&mut self) {
        self.all.retain(|(_, held)| held.parked.place.is_current());
    }

    /// Notes what is done, and gives back what is ours to run, in the order in which it was read.
    pub(crate) fn review(&mut self, heard: &Heard) -> Vec<Held> {
        let now = Instant::now();
        let mut ours = Vec::new();
        let mut left = Vec::with_capacity(self.all.len());
        for (since, held) in self.all.drain(..) {
            let place = &held.parked.place;
            let at = (place.lane.topic.as_str(), place.partition, place.offset);
            match heard.verdict(at, since, now) {
                Verdict::Wait => left.push((since, held)),
                Verdict::Done => place.complete(),
                Verdict::Ours => ours.push(held),
            }
        }
        self.all = left;
        ours
    }
}
