//! What became of the requests: latencies in a histogram, failures by kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Three significant digits.
const DIGITS: u8 = 3;
/// What takes longer counts as this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Takers that share one lock.
const SHARDS: usize = 8;

/// The requests of one run, or of a part of it.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Microseconds of those that were answered as asked.
    latencies: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        // Three digits are allowed: this is the one thing that could be refused.
        let latencies = Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!());
        Self {
            latencies,
            failures: BTreeMap::new(),
        }
    }
}

impl Tally {
    pub fn answered(&mut self, took: Duration) {
        let micros = u64::try_from(took.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
        // It grows with what it is given.
        let _ = self.latencies.record(micros.max(1));
    }

    pub fn failed(&mut self, kind: &str) {
        match self.failures.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.failures.insert(kind.to_owned(), 1);
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        // Both grow as they need.
        let _ = self.latencies.add(&other.latencies);
        for (kind, count) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += count;
        }
    }

    /// How many were answered as asked.
    pub fn count(&self) -> u64 {
        self.latencies.len()
    }

    pub fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }

    /// How many were not.
    pub fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn latency(&self) -> Latency {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| ms(self.latencies.value_at_quantile(quantile));
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.latencies.max()),
            mean: self.latencies.mean() / 1000.0,
        }
    }
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

/// A tally that many write to.
#[derive(Default)]
pub struct Shared {
    shards: [Mutex<Tally>; SHARDS],
}

impl Shared {
    pub fn note(&self, taker: usize, note: impl FnOnce(&mut Tally)) {
        let shard = &self.shards[taker % SHARDS];
        note(&mut shard.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of it so far.
    pub fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for shard in &self.shards {
            sum.add(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_parts_are_the_whole() {
        let shared = Shared::default();
        for n in 1..=1000u64 {
            shared.note(n as usize, |tally| {
                tally.answered(Duration::from_micros(n * 10))
            });
        }
        shared.note(3, |tally| tally.failed("503 broker-unavailable"));
        shared.note(4, |tally| tally.failed("503 broker-unavailable"));
        let sum = shared.sum();
        assert_eq!((sum.count(), sum.failure_count()), (1000, 2));
        assert_eq!(sum.failures()["503 broker-unavailable"], 2);
        let latency = sum.latency();
        assert!((latency.p50 - 5.0).abs() < 0.01, "{latency:?}");
        assert!((latency.p99 - 9.9).abs() < 0.02, "{latency:?}");
        assert!((latency.max - 10.0).abs() < 0.02, "{latency:?}");
    }

    #[test]
    fn what_takes_for_ever_is_still_counted() {
        let mut tally = Tally::default();
        tally.answered(Duration::ZERO);
        tally.answered(Duration::from_secs(u64::MAX / 2_000_000));
        assert_eq!(tally.count(), 2);
    }
}
