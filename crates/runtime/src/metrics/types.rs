//! Job types: which are in force, and which may be labels.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Counters1, Metrics, OTHER_TYPE, owned, register};

/// Names that become labels in the life of a process, however often its types change.
const MOST: usize = 1000;

pub(super) struct Types {
    /// Those in force and, since their jobs are not all done and their series stay, those that were.
    known: ArcSwap<BTreeSet<String>>,
    info: Counters1<Gauge>,
    /// The digest that `info` shows.
    shown: Mutex<Option<String>>,
    reloads: Counters1,
}

impl Types {
    pub(super) fn new(r: &mut Registry, types: impl Iterator<Item = String>) -> Self {
        Self {
            known: ArcSwap::from_pointee(types.collect()),
            info: register(
                r,
                "job_types_info",
                "1 for the digest of the job types in force; processes that differ in it have different types",
                Family::default(),
            ),
            shown: Mutex::default(),
            reloads: register(
                r,
                "job_types_reloads",
                "Changes of the file of job types, by result; a failed one left the types as they were",
                Family::default(),
            ),
        }
    }
}

impl Metrics {
    /// These types are in force, under this digest.
    pub fn job_types<'a>(&self, names: impl IntoIterator<Item = &'a str>, digest: &str) {
        let types = &self.all.types;
        let mut shown = types.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = BTreeSet::clone(&types.known.load());
        for name in names {
            if known.len() < MOST {
                known.insert(name.to_owned());
            }
        }
        types.known.store(known.into());
        let label = |digest: &str| [("digest", owned(digest))];
        types.info.get_or_create(&label(digest)).set(1);
        if let Some(before) = shown.replace(digest.to_owned())
            && before != digest
        {
            types.info.remove(&label(&before));
        }
    }

    /// The file of job types was changed. `result`: `ok`, `failed`.
    pub fn job_types_reloaded(&self, result: &'static str) {
        let labels = [("result", Cow::Borrowed(result))];
        self.all.types.reloads.get_or_create(&labels).inc();
    }

    /// The label of a job type.
    pub(super) fn type_label(&self, job_type: &str) -> Cow<'static, str> {
        match self.all.types.known.load().contains(job_type) {
            true => owned(job_type),
            false => Cow::Borrowed(OTHER_TYPE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_types_and_stay_bounded() {
        let metrics = Metrics::new(["a"]);
        assert_eq!(metrics.type_label("b"), OTHER_TYPE);
        metrics.job_types(["b"], "0123");
        assert_eq!(metrics.type_label("b"), "b");
        assert_eq!(metrics.type_label("a"), "a", "its jobs may still run");
        let many: Vec<_> = (0..2 * MOST).map(|n| format!("t{n}")).collect();
        metrics.job_types(many.iter().map(String::as_str), "4567");
        assert_eq!(metrics.all.types.known.load().len(), MOST);
        metrics.job_types_reloaded("ok");
        let text = metrics.encode();
        assert!(
            text.contains("tidegate_job_types_info{digest=\"4567\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("0123"), "{text}");
        assert!(
            text.contains("tidegate_job_types_reloads_total{result=\"ok\"} 1\n"),
            "{text}"
        );
    }
}
