//! Which partitions hold their place while the registry is away, as a note beside readiness: the others go on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_runtime::Condition;

/// The partitions that stand still. Clones share.
#[derive(Clone)]
pub(crate) struct Held {
    registry: Condition,
    places: Arc<Mutex<BTreeSet<(String, i32)>>>,
}

impl Held {
    /// None; `registry` is the condition that carries the note.
    pub(crate) fn new(registry: Condition) -> Self {
        Self {
            registry,
            places: Arc::default(),
        }
    }

    /// A partition holds its place. Said once.
    pub(crate) fn hold(&self, topic: &str, partition: i32, problem: &str) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.insert((topic.to_owned(), partition)) {
            tracing::warn!(
                topic,
                partition,
                problem,
                "a schema is new and the registry away: the partition waits"
            );
            self.note(&places);
        }
    }

    /// It goes on, or is not ours any more.
    pub(crate) fn release(&self, topic: &str, partition: i32) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.remove(&(topic.to_owned(), partition)) {
            tracing::info!(topic, partition, "the partition goes on");
            self.note(&places);
        }
    }

    fn note(&self, places: &BTreeSet<(String, i32)>) {
        if places.is_empty() {
            self.registry.ok();
            return;
        }
        let names: Vec<_> = places
            .iter()
            .map(|(topic, partition)| format!("{topic}[{partition}]"))
            .collect();
        let names = names.join(", ");
        self.registry.ok_with(format!(
            "the registry is away and a schema is new: {names} wait, the others go on"
        ));
    }
}
