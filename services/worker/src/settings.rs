//! The settings of a worker, as they stand under `[worker]` in the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::{Pool, Tier};

/// How a worker takes and runs jobs. Durations are texts such as `100ms`, sizes are bytes.
///
/// ```
/// use tidegate_worker::WorkerSettings;
///
/// let settings = WorkerSettings { concurrency: 0, ..WorkerSettings::default() };
/// let refused = settings.check().unwrap_err();
/// assert_eq!(refused.to_string(), "worker.concurrency must be from 1 to 10000");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// Where `healthz`, `readyz` and `metrics` are served; empty: nowhere.
    pub listen: String,
    /// The pools whose jobs it runs: types of other pools are none of its business.
    pub pools: Vec<Pool>,
    /// Handlers that run at once, over all pools and tiers.
    pub concurrency: usize,
    /// Records held ready per pool and tier; 0: twice the concurrency.
    pub look_ahead: usize,
    /// Bytes held ready per pool and tier.
    pub look_ahead_bytes: usize,
    /// Shares of the tiers while several have work.
    pub tier_weights: TierWeights,
    /// A job that runs longer than this is shown as `processing`.
    #[serde(with = "humantime_serde")]
    pub started_after: Duration,
    /// Progress of one job is sent no oftener than this; the latest wins.
    #[serde(with = "humantime_serde")]
    pub progress_every: Duration,
    /// How often finished offsets are committed.
    #[serde(with = "humantime_serde")]
    pub commit_every: Duration,
    /// Outcomes that wait for their acknowledgement, in bytes; while they are over it no slot becomes free.
    pub outcome_bytes: usize,
    /// The first pause before a job of a type unknown here is handed on; it doubles with each hand-over.
    #[serde(with = "humantime_serde")]
    pub hand_on_after: Duration,
    /// The longest such pause.
    #[serde(with = "humantime_serde")]
    pub hand_on_at_most: Duration,
    /// How long running jobs may go on after the signal to stop; outcomes are delivered within it too.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How often the broker is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
}

/// The share of each tier. Any ratio of numbers from 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TierWeights {
    /// Of tier `high`; 16 if nothing is said.
    pub high: u32,
    /// Of tier `normal`; 4 if nothing is said.
    pub normal: u32,
    /// Of tier `low`; 1 if nothing is said.
    pub low: u32,
}

impl Default for TierWeights {
    fn default() -> Self {
        Self {
            high: 16,
            normal: 4,
            low: 1,
        }
    }
}

impl TierWeights {
    /// The weight of a tier.
    pub const fn of(&self, tier: Tier) -> u32 {
        match tier {
            Tier::High => self.high,
            Tier::Normal => self.normal,
            Tier::Low => self.low,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8091".to_owned(),
            pools: vec![Pool::default()],
            concurrency: 64,
            look_ahead: 0,
            look_ahead_bytes: 16 << 20,
            tier_weights: TierWeights::default(),
            started_after: Duration::from_millis(100),
            progress_every: Duration::from_millis(100),
            commit_every: Duration::from_millis(200),
            outcome_bytes: 64 << 20,
            hand_on_after: Duration::from_secs(1),
            hand_on_at_most: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            probe_every: Duration::from_secs(2),
        }
    }
}

/// A setting that no worker can run with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("worker.{key} {allowed}")]
pub struct BadSetting {
    key: &'static str,
    allowed: &'static str,
}

impl WorkerSettings {
    /// Records held ready per pool and tier.
    pub fn look_ahead_records(&self) -> usize {
        match self.look_ahead {
            0 => self.concurrency.saturating_mul(2),
            records => records,
        }
    }

    /// Refuses what would leave the worker without work or without bounds.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |key, allowed| Err(BadSetting { key, allowed });
        let share = 1..=1000;
        if self.pools.is_empty() {
            return bad("pools", "must name at least one pool");
        }
        if !(1..=10_000).contains(&self.concurrency) {
            return bad("concurrency", "must be from 1 to 10000");
        }
        if self.look_ahead > 100_000 {
            return bad("look_ahead", "must be at most 100000");
        }
        if self.look_ahead_bytes < 1 << 16 {
            return bad("look_ahead_bytes", "must be at least 65536");
        }
        if !(1 << 16..=1 << 31).contains(&self.outcome_bytes) {
            return bad("outcome_bytes", "must be from 65536 to 2147483648");
        }
        for tier in Tier::ALL {
            if !share.contains(&self.tier_weights.of(tier)) {
                return bad("tier_weights", "must be numbers from 1 to 1000");
            }
        }
        for (key, value) in [
            ("commit_every", self.commit_every),
            ("hand_on_after", self.hand_on_after),
            ("hand_on_at_most", self.hand_on_at_most),
            ("probe_every", self.probe_every),
        ] {
            if value < Duration::from_millis(1) || value > Duration::from_secs(3600) {
                return bad(key, "must be from 1ms to 1h");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_what_cannot_run_is_refused_by_name() {
        assert_eq!(WorkerSettings::default().check(), Ok(()));
        assert_eq!(WorkerSettings::default().look_ahead_records(), 128);
        let mut settings = WorkerSettings::default();
        settings.tier_weights.low = 0;
        let refused = settings.check().unwrap_err().to_string();
        assert_eq!(
            refused,
            "worker.tier_weights must be numbers from 1 to 1000"
        );
        settings = WorkerSettings {
            pools: Vec::new(),
            ..WorkerSettings::default()
        };
        assert!(settings.check().is_err());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let read = serde_json::from_str::<WorkerSettings>(r#"{"concurency": 4}"#);
        assert!(read.unwrap_err().to_string().contains("concurency"));
        let read: WorkerSettings = serde_json::from_str(r#"{"started_after": "1s"}"#).unwrap();
        assert_eq!(read.started_after, Duration::from_secs(1));
    }
}
