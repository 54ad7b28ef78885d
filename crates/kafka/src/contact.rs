//! Whether a native client has lost its brokers for good.
//!
//! A broker that has just woken up may answer a metadata request with topics and no brokers. librdkafka (2.10 to 2.13
//! at least, its issue 5301) then forgets every broker that it knows, and looks for none any more: the client would
//! stay mute for ever. A client whose brokers are merely away goes on trying to connect, and that is how the two are
//! told apart, by the statistics that librdkafka gives of itself. A lost client has to be made anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// How often a client tells of its connections.
const EVERY: Duration = Duration::from_secs(3);

/// Without a connection, and without an attempt at one, a client is lost after this time. Attempts to reach a broker
/// that does not answer come every six seconds at the latest.
const LOST: Duration = Duration::from_secs(12);

/// The connections of one native client.
pub(crate) struct Contact {
    watch: Mutex<Watch>,
    lost: CancellationToken,
}

impl Contact {
    /// Of a client that is being made with these settings, which get what is needed.
    pub(crate) fn of(config: &mut ClientConfig) -> Self {
        config.set("statistics.interval.ms", EVERY.as_millis().to_string());
        Self {
            watch: Mutex::new(Watch::new(Instant::now())),
            lost: CancellationToken::new(),
        }
    }

    /// Takes the statistics as librdkafka gives them. Whether the client is lost.
    pub(crate) fn observe(&self, statistics: &[u8]) -> bool {
        // Statistics that cannot be read say nothing.
        if let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            if watch.observe(&statistics, Instant::now()) {
                self.lost.cancel();
            }
        }
        self.is_lost()
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns once the client is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// The little of librdkafka's statistics that is looked at.
#[derive(Debug, Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    /// `learned`, `configured`, `logical`, `internal`.
    source: String,
    state: String,
    /// Attempts to connect, whatever became of them.
    #[serde(default)]
    connects: i64,
}

/// Pure.
struct Watch {
    attempts: i64,
    since: Instant,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            attempts: -1,
            since: now,
        }
    }

    fn observe(&mut self, statistics: &Statistics, now: Instant) -> bool {
        let of = |source: &[&str]| {
            let brokers = statistics.brokers.values();
            brokers
                .filter(|broker| source.contains(&broker.source.as_str()))
                .collect::<Vec<_>>()
        };
        // A group's coordinator is an address of its own, which is tried again and again even when the brokers that
        // records come from are forgotten: its attempts say nothing. A connection to it does, metadata come over it.
        let attempts = of(&["learned", "configured"])
            .iter()
            .map(|broker| broker.connects)
            .sum();
        let up = of(&["learned", "configured", "logical"])
            .iter()
            .any(|broker| broker.state == "UP");
        if attempts != self.attempts || up {
            *self = Self {
                attempts,
                since: now,
            };
        }
        now.saturating_duration_since(self.since) >= LOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(brokers: &[(&str, &str, i64)]) -> Statistics {
        let brokers = brokers.iter().enumerate().map(|(number, (source, state, connects))| {
            let broker = serde_json::json!({ "source": source, "state": state, "connects": connects, "nodeid": 1 });
            (number.to_string(), broker)
        });
        let brokers: serde_json::Map<_, _> = brokers.collect();
        serde_json::from_value(serde_json::json!({ "brokers": brokers, "msg_cnt": 0 })).unwrap()
    }

    /// Whether it is lost after each of these, three seconds apart.
    fn course(steps: &[Statistics]) -> Vec<bool> {
        let mut now = Instant::now();
        let mut watch = Watch::new(now);
        let mut lost = Vec::new();
        for step in steps {
            now += EVERY;
            lost.push(watch.observe(step, now));
        }
        lost
    }

    #[test]
    fn a_client_that_does_not_even_try_is_lost() {
        let up = || told(&[("learned", "UP", 1), ("logical", "UP", 1)]);
        let gone = || {
            told(&[
                ("learned", "INIT", 1),
                ("logical", "TRY_CONNECT", 1),
                ("internal", "UP", 0),
            ])
        };
        let steps = [up(), up(), gone(), gone(), gone(), gone(), gone()];
        assert_eq!(
            course(&steps),
            [false, false, false, false, false, true, true]
        );
        let none = |n| told(&[("logical", "TRY_CONNECT", n)]);
        let none = [up(), none(1), none(4), none(7), none(10), none(13)];
        assert_eq!(course(&none).last(), Some(&true));
    }

    #[test]
    fn one_whose_broker_is_away_is_not_and_neither_is_one_that_rests() {
        let away: Vec<_> = (0..100)
            .map(|n| told(&[("configured", "DOWN", n)]))
            .collect();
        assert!(course(&away).iter().all(|lost| !lost));
        // An attempt every six seconds, at a broker that takes connections and says nothing.
        let mute: Vec<_> = (0..100)
            .map(|n| told(&[("learned", "APIVERSION_QUERY", n / 2)]))
            .collect();
        assert!(course(&mute).iter().all(|lost| !lost));
        let rests: Vec<_> = (0..100).map(|_| told(&[("learned", "UP", 1)])).collect();
        assert!(course(&rests).iter().all(|lost| !lost));
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        let mut config = ClientConfig::new();
        let contact = Contact::of(&mut config);
        assert!(!contact.observe(b"{") && !contact.observe(b"{}"));
        assert_eq!(config.get("statistics.interval.ms"), Some("3000"));
    }
}
