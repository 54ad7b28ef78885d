//! The servers that http handlers post to.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Counters1, Metrics, owned, register};

pub(super) struct Targets {
    down: Counters1<Gauge>,
    downs: Counters1<Counter>,
    /// Those of the types in force: the only ones that have series.
    shown: Mutex<BTreeSet<String>>,
}

impl Targets {
    pub(super) fn new(r: &mut Registry) -> Self {
        Self {
            down: register(
                r,
                "http_target_down",
                "1 while the breaker of an http target is open, so that its jobs are parked",
                Family::default(),
            ),
            downs: register(
                r,
                "http_target_downs",
                "How often the breaker of an http target has opened",
                Family::default(),
            ),
            shown: Mutex::default(),
        }
    }
}

impl Metrics {
    /// These are the targets, as in `http://reports.internal:8000`; of others nothing is shown any more.
    pub fn http_targets<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let targets = &self.all.targets;
        let names: BTreeSet<_> = names.into_iter().map(str::to_owned).collect();
        let mut shown = targets.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&names) {
            let labels = [("target", owned(gone))];
            targets.down.remove(&labels);
            targets.downs.remove(&labels);
        }
        for new in names.difference(&shown) {
            let labels = [("target", owned(new))];
            targets.down.get_or_create(&labels).set(0);
            targets.downs.get_or_create(&labels).inc_by(0);
        }
        *shown = names;
    }

    /// A target counts as down from now on.
    pub fn target_down(&self, name: &str) {
        self.target(name, |targets, labels| {
            targets.down.get_or_create(labels).set(1);
            targets.downs.get_or_create(labels).inc();
        });
    }

    /// A target counts as up again.
    pub fn target_up(&self, name: &str) {
        self.target(name, |targets, labels| {
            targets.down.get_or_create(labels).set(0);
        });
    }

    /// An attempt may end after its type went: it must not bring the target back.
    fn target(&self, name: &str, note: impl FnOnce(&Targets, &super::Labels<1>)) {
        let targets = &self.all.targets;
        let shown = targets.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.contains(name) {
            note(targets, &[("target", owned(name))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_targets_of_the_types_in_force_are_shown() {
        let metrics = Metrics::new([""; 0]);
        metrics.http_targets(["http://a", "http://b"]);
        metrics.target_down("http://a");
        metrics.target_down("http://b");
        metrics.target_up("http://b");
        let shown = metrics.encode();
        for line in [
            r#"tidegate_http_target_down{target="http://a"} 1"#,
            r#"tidegate_http_target_down{target="http://b"} 0"#,
            r#"tidegate_http_target_downs_total{target="http://b"} 1"#,
        ] {
            assert!(shown.contains(line), "{line}");
        }
        metrics.http_targets(["http://a"]);
        metrics.target_down("http://b");
        let shown = metrics.encode();
        assert!(!shown.contains("http://b"));
        assert!(shown.contains(r#"down{target="http://a"} 1"#), "it stays");
    }
}
