//! The servers that http handlers post to, each with its breaker, which all types with that server share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use tidegate_contract::{BreakerPolicy, HandlerSpec};
use tidegate_runtime::Metrics;

use super::breaker::{Breaker, Change, Pass, Said};
use crate::events::What;

/// The targets of the types in force, by their names.
#[derive(Default)]
pub(crate) struct Targets(BTreeMap<String, Arc<Target>>);

/// One server.
struct Target {
    /// Scheme, host and port; nothing of a URL that may be secret.
    name: String,
    breaker: Mutex<Breaker>,
    /// The breaker's time counts from then.
    begun: Instant,
}

/// What the jobs of one type pass on their way to their target.
#[derive(Clone)]
pub(crate) struct Gate {
    target: Arc<Target>,
    policy: BreakerPolicy,
}

/// An attempt that was let in. Dropped without [`ended`](Self::ended) it makes room for another one.
#[must_use]
pub(crate) struct Entered {
    gate: Gate,
    pass: Option<Pass>,
}

impl Targets {
    /// The gate of a type; `None` where it has no breaker. A target that was there `before` keeps what it knows.
    pub(super) fn gate(&mut self, handler: &HandlerSpec, before: Option<&Self>) -> Option<Gate> {
        let HandlerSpec::Http { url, breaker, .. } = handler else {
            return None;
        };
        if breaker.failures == 0 {
            return None;
        }
        let name = Url::parse(url).ok()?.origin().ascii_serialization();
        let target = self.0.entry(name).or_insert_with_key(|name| {
            let kept = before.and_then(|before| before.0.get(name));
            kept.cloned().unwrap_or_else(|| Arc::new(Target::new(name)))
        });
        Some(Gate {
            target: Arc::clone(target),
            policy: *breaker,
        })
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Target {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            breaker: Mutex::new(Breaker::new()),
            begun: Instant::now(),
        }
    }

    /// The breaker and its time.
    fn now(&self) -> (MutexGuard<'_, Breaker>, Duration) {
        // Nothing under the lock can panic half-way through a change.
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        (breaker, self.begun.elapsed())
    }
}

impl Gate {
    /// Whether an attempt would be let in now.
    pub(crate) fn lets_in(&self) -> bool {
        let (breaker, now) = self.target.now();
        breaker.lets_in(now)
    }

    /// Lets an attempt in that begins now, if it may.
    pub(crate) fn enter(&self) -> Option<Entered> {
        let (mut breaker, now) = self.target.now();
        let pass = breaker.enter(now)?;
        Some(Entered {
            gate: self.clone(),
            pass: Some(pass),
        })
    }
}

impl Entered {
    /// The attempt has ended like this.
    pub(crate) fn ended(mut self, what: &What, metrics: &Metrics) {
        let change = self.leave(said(what));
        let target = self.gate.target.name.as_str();
        match change {
            Some(Change::Opened(pause)) => {
                metrics.target_down(target);
                tracing::warn!(
                    target,
                    pause_ms = pause.as_millis(),
                    "an http target is down: its jobs are parked until a probe comes through"
                );
            }
            Some(Change::StillDown(pause)) => {
                tracing::debug!(target, pause_ms = pause.as_millis(), "a probe failed");
            }
            Some(Change::Closed(after)) => {
                metrics.target_up(target);
                let after_ms = after.as_millis();
                tracing::info!(target, after_ms, "an http target is back: its jobs go on");
            }
            None => {}
        }
    }

    fn leave(&mut self, said: Said) -> Option<Change> {
        let pass = self.pass.take()?;
        let (mut breaker, now) = self.gate.target.now();
        breaker.leave(pass, said, &self.gate.policy, now, rand::random())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.leave(Said::Nothing);
    }
}

/// What the end of an attempt of the http handler tells of its target.
pub(super) fn said(what: &What) -> Said {
    let failure = match what {
        What::Completed(..) => return Said::Up,
        What::Failed(failure, _) => failure,
        What::Expired(..) => return Said::NoAnswer,
        _ => return Said::Nothing,
    };
    let status = failure.details.as_ref().and_then(|d| d["status"].as_u64());
    match (failure.code.as_str(), status) {
        ("http-connect" | "http-reset", _) => Said::Down,
        // A proxy that has nobody behind it, or a server that says so of itself.
        (_, Some(502..=504)) => Said::Down,
        (_, Some(_)) => Said::Up,
        ("timeout", _) => Said::NoAnswer,
        _ => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::JobFailure;

    fn http(url: &str, failures: u32) -> HandlerSpec {
        HandlerSpec::Http {
            url: url.to_owned(),
            max_answer_bytes: 1,
            breaker: BreakerPolicy {
                failures,
                pause: Duration::from_millis(1),
                ..BreakerPolicy::default()
            },
        }
    }

    fn refused() -> What {
        What::Failed(JobFailure::retryable("http-connect", ""), None)
    }

    fn fail(gate: &Gate, metrics: &Metrics) {
        gate.enter().unwrap().ended(&refused(), metrics);
    }

    #[test]
    fn types_share_the_breaker_of_a_server_whatever_else_is_in_their_urls() {
        let (mut targets, metrics) = (Targets::default(), Metrics::new([""; 0]));
        let mut gate = |url, failures| targets.gate(&http(url, failures), None);
        let one = gate("http://u:p@a.example/x?token=1", 2).unwrap();
        let same = gate("http://a.example:80/y", 2).unwrap();
        let others = ["https://a.example/x", "http://a.example:81/x", "http://b/x"];
        let others = others.map(|url| gate(url, 2).unwrap());
        assert!(gate("http://a.example/z", 0).is_none());
        assert!(targets.gate(&HandlerSpec::Echo, None).is_none());
        metrics.http_targets(targets.names());
        // One failure of each makes two.
        fail(&one, &metrics);
        fail(&same, &metrics);
        assert!(others.iter().all(Gate::lets_in));
        let shown = metrics.encode();
        assert!(!shown.contains("token") && !shown.contains("u:p"));
        assert!(shown.contains(r#"http_target_down{target="http://a.example"} 1"#));
        assert!(shown.contains(r#"http_target_down{target="http://b"} 0"#));
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_the_targets_that_stay_and_forgets_the_others() {
        let metrics = Metrics::new([""; 0]);
        let mut before = Targets::default();
        let stays = before.gate(&http("http://stays/1", 1), None).unwrap();
        let goes = before.gate(&http("http://goes/", 1), None).unwrap();
        metrics.http_targets(before.names());
        fail(&stays, &metrics);
        fail(&goes, &metrics);
        let mut after = Targets::default();
        let kept = after.gate(&http("http://stays/2", 7), Some(&before));
        metrics.http_targets(after.names());
        assert!(Arc::ptr_eq(&kept.unwrap().target, &stays.target));
        assert_eq!(after.names().collect::<Vec<_>>(), ["http://stays"]);
        let shown = metrics.encode();
        assert!(shown.contains(r#"http_target_down{target="http://stays"} 1"#));
        assert!(!shown.contains("http://goes"));
    }

    #[test]
    fn a_probe_that_is_cut_off_leaves_room_for_another_and_a_success_tells_of_it() {
        let (mut targets, metrics) = (Targets::default(), Metrics::new([""; 0]));
        let gate = targets.gate(&http("http://a", 1), None).unwrap();
        metrics.http_targets(targets.names());
        fail(&gate, &metrics);
        let probe = loop {
            match gate.enter() {
                Some(probe) => break probe,
                None => std::thread::yield_now(),
            }
        };
        assert!(gate.enter().is_none() && !gate.lets_in());
        drop(probe);
        let probe = gate.enter().unwrap();
        let down = r#"http_target_down{target="http://a"} 1"#;
        assert!(metrics.encode().contains(down));
        let outcome = crate::handler::outcome(200, "a/b", "");
        probe.ended(&What::Completed(outcome, Default::default()), &metrics);
        let up = r#"http_target_down{target="http://a"} 0"#;
        assert!(metrics.encode().contains(up));
        let once = r#"http_target_downs_total{target="http://a"} 1"#;
        assert!(metrics.encode().contains(once));
        assert!(gate.enter().is_some() && gate.enter().is_some());
    }
}
