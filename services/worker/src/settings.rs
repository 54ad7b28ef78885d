//! The settings of a worker, as they stand under `[worker]` in the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::fair::TierSlots;
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
    /// Records held ready per pool and tier; 0: 64 a slot.
    pub look_ahead: usize,
    /// Bytes held ready per pool and tier.
    pub look_ahead_bytes: usize,
    /// Shares of the tiers in the slots that are not reserved, while several have work.
    pub tier_weights: TierWeights,
    /// Slots that are kept for a tier.
    pub reserved: ReservedSlots,
    /// Jobs of one tenant that run at once in this worker; 0: as many as there are slots.
    pub max_running_per_tenant: usize,
    /// A job that runs longer than this is shown as `processing`.
    #[serde(with = "humantime_serde")]
    pub started_after: Duration,
    /// Progress of one job is sent no oftener than this; the latest wins.
    #[serde(with = "humantime_serde")]
    pub progress_every: Duration,
    /// How often finished offsets are committed; sooner whenever 50 jobs of a tier are done.
    #[serde(with = "humantime_serde")]
    pub commit_every: Duration,
    /// Outcomes that wait for their acknowledgement, in bytes; while they are over it no slot becomes free.
    pub outcome_bytes: usize,
    /// The first pause of a job that is parked, because its type is unknown here or paused, or its target down; it
    /// doubles each time.
    #[serde(with = "humantime_serde")]
    pub park_after: Duration,
    /// The longest such pause.
    #[serde(with = "humantime_serde")]
    pub park_at_most: Duration,
    /// How often a worker says of its jobs that they go on, where their partition has gone to another one. Who says nothing
    /// for five times as long is taken for gone, and they run again.
    #[serde(with = "humantime_serde")]
    pub beat_every: Duration,
    /// How long running jobs may go on after the signal to stop; outcomes are delivered within it too.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How often the broker is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
}

/// The most records that a lane may hold ready.
const MOST_AHEAD: usize = 100_000;

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

/// How many slots are kept for each tier. Unless it is said, one in a worker of 16 slots or more, else none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReservedSlots {
    /// For tier `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<usize>,
    /// For tier `normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal: Option<usize>,
    /// For tier `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<usize>,
}

/// The slots from which on each tier has one of its own, if nothing else is said.
const SLOTS_TO_RESERVE: usize = 16;

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
            reserved: ReservedSlots::default(),
            max_running_per_tenant: 0,
            started_after: Duration::from_millis(100),
            progress_every: Duration::from_millis(100),
            commit_every: Duration::from_millis(200),
            outcome_bytes: 64 << 20,
            park_after: Duration::from_secs(5),
            park_at_most: Duration::from_secs(60),
            beat_every: Duration::from_secs(2),
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
            0 => self.concurrency.saturating_mul(64).min(MOST_AHEAD),
            records => records,
        }
    }

    /// Slots that are kept for each tier.
    pub fn reserved_slots(&self) -> TierSlots {
        let unsaid = usize::from(self.concurrency >= SLOTS_TO_RESERVE);
        let ReservedSlots { high, normal, low } = self.reserved;
        TierSlots {
            high: high.unwrap_or(unsaid),
            normal: normal.unwrap_or(unsaid),
            low: low.unwrap_or(unsaid),
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
        if self.look_ahead > MOST_AHEAD {
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
        let TierSlots { high, normal, low } = self.reserved_slots();
        if high.saturating_add(normal).saturating_add(low) >= self.concurrency {
            return bad(
                "reserved",
                "must be fewer slots together than worker.concurrency: the rest is for all tiers",
            );
        }
        for (key, value) in [
            ("beat_every", self.beat_every),
            ("commit_every", self.commit_every),
            ("park_after", self.park_after),
            ("park_at_most", self.park_at_most),
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
        assert_eq!(WorkerSettings::default().look_ahead_records(), 4096);
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
    fn small_workers_reserve_nothing_unless_told_and_never_everything() {
        let mut settings = WorkerSettings {
            concurrency: 15,
            ..WorkerSettings::default()
        };
        assert_eq!(settings.reserved_slots().sum(), 0);
        settings.concurrency = 16;
        assert_eq!(settings.reserved_slots().sum(), 3);
        settings.reserved.low = Some(13);
        assert_eq!(settings.check(), Ok(()));
        settings.reserved.low = Some(14);
        let refused = settings.check().unwrap_err().to_string();
        assert!(
            refused.starts_with("worker.reserved must be fewer slots"),
            "{refused}"
        );
        settings.reserved.low = Some(usize::MAX);
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
