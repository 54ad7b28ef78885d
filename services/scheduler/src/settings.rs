//! The settings of a scheduler, as they stand under `[scheduler]` in the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a scheduler moves records. Durations are texts such as `100ms`, sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerSettings {
    /// Where `healthz`, `readyz` and `metrics` are served; empty: nowhere.
    pub listen: String,
    /// Records of one rung that are held in memory or on their way, at most.
    pub hold_records: usize,
    /// The same in bytes.
    pub hold_bytes: usize,
    /// How often offsets of moved records are committed.
    #[serde(with = "humantime_serde")]
    pub commit_every: Duration,
    /// How long the end may take after the signal to stop.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How often the broker is asked whether it is there.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8093".to_owned(),
            hold_records: 4096,
            hold_bytes: 8 << 20,
            commit_every: Duration::from_millis(200),
            grace: Duration::from_secs(10),
            probe_every: Duration::from_secs(2),
        }
    }
}

/// A setting that no scheduler can run with.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("scheduler.{key} {allowed}")]
pub struct BadSetting {
    key: &'static str,
    allowed: &'static str,
}

impl SchedulerSettings {
    /// Refuses what would leave the scheduler without work or without bounds.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, by name.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |key, allowed| Err(BadSetting { key, allowed });
        if !(1..=1_000_000).contains(&self.hold_records) {
            return bad("hold_records", "must be from 1 to 1000000");
        }
        if !(1 << 16..=1 << 31).contains(&self.hold_bytes) {
            return bad("hold_bytes", "must be from 65536 to 2147483648");
        }
        for (key, value) in [
            ("commit_every", self.commit_every),
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
        assert_eq!(SchedulerSettings::default().check(), Ok(()));
        let refused = SchedulerSettings {
            hold_records: 0,
            ..SchedulerSettings::default()
        };
        assert_eq!(
            refused.check().unwrap_err().to_string(),
            "scheduler.hold_records must be from 1 to 1000000"
        );
    }
}
