//! The settings of the notifier's parts, and what they may be.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::email::EmailSettings;
use crate::schedule::Schedule;

/// A setting that no notifier can run with: the key within its table, and what is allowed.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key} {allowed}")]
pub struct BadSetting {
    /// The key.
    pub key: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
}

impl BadSetting {
    pub(crate) fn new<T>(key: &'static str, allowed: &'static str) -> Result<T, Self> {
        Err(Self { key, allowed })
    }
}

/// When an endpoint is paused or ended. Durations are texts such as `5days`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointSettings {
    /// Attempts that are open at once, at most.
    pub concurrency: usize,
    /// So many failures in a row pause it.
    pub failures: u32,
    /// How long the first pause is; each one after it is twice as long.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// No pause is longer.
    #[serde(with = "humantime_serde")]
    pub longest_pause: Duration,
    /// An endpoint that has failed for so long without a success is ended.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            concurrency: 8,
            failures: 5,
            pause: Duration::from_secs(30),
            longest_pause: Duration::from_secs(30 * 60),
            give_up_after: Duration::from_secs(5 * 24 * 3600),
        }
    }
}

impl EndpointSettings {
    /// Refuses what would call nobody, or call without bounds.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, by name.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = BadSetting::new;
        let (tick, day) = (Duration::from_millis(1), Duration::from_secs(24 * 3600));
        if !(1..=1000).contains(&self.concurrency) {
            return bad("concurrency", "must be from 1 to 1000");
        }
        if !(1..=1000).contains(&self.failures) {
            return bad("failures", "must be from 1 to 1000");
        }
        if !(tick..=self.longest_pause).contains(&self.pause) {
            return bad("pause", "must be at least 1ms and at most longest_pause");
        }
        if self.longest_pause > day {
            return bad("longest_pause", "must be at most 24h");
        }
        if !(self.longest_pause..=day * 366).contains(&self.give_up_after) {
            return bad(
                "give_up_after",
                "must be at least longest_pause and at most 366days",
            );
        }
        Ok(())
    }
}

/// How long an attempt may take. Durations are texts such as `20s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Until there is a connection, encrypted.
    #[serde(with = "humantime_serde")]
    pub connect: Duration,
    /// From the lookup of the name to the end of the answer. Standard Webhooks recommend 15 to 30 seconds.
    #[serde(with = "humantime_serde")]
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Refuses limits that no attempt can keep, and those that are none.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, by name.
    pub fn check(&self) -> Result<(), BadSetting> {
        const GOOD: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
        for (key, value) in [("connect", self.connect), ("total", self.total)] {
            if !GOOD.contains(&value) {
                return BadSetting::new(key, "must be from 1ms to 60s");
            }
        }
        Ok(())
    }
}

/// How callbacks are delivered, as it stands under `[notifier]` in the configuration. Durations are texts such as `500ms`,
/// sizes are bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifierSettings {
    /// Where `healthz`, `readyz` and `metrics` are served; empty: nowhere.
    pub listen: String,
    /// Attempts that are open at once, at most; half of them to one host.
    pub slots: usize,
    /// How often the store is asked for callbacks that are due.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// A JSON result up to this size stands in the message itself.
    pub inline_limit: usize,
    /// How long the end may take after the signal to stop.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Of one attempt.
    pub limits: Limits,
    /// Of each endpoint.
    pub endpoint: EndpointSettings,
    /// The pauses between the attempts of one message.
    pub schedule: Schedule,
    /// The server that takes e-mails.
    pub email: EmailSettings,
}

impl Default for NotifierSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8094".to_owned(),
            slots: 256,
            tick: Duration::from_millis(500),
            inline_limit: 64 << 10,
            grace: Duration::from_secs(25),
            limits: Limits::default(),
            endpoint: EndpointSettings::default(),
            schedule: Schedule::default(),
            email: EmailSettings::default(),
        }
    }
}

/// A setting under `[notifier]` that no notifier can run with.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("notifier.{table}{bad}")]
pub struct BadNotifierSetting {
    /// The table within `[notifier]`, with a full stop behind it.
    table: &'static str,
    bad: BadSetting,
}

impl NotifierSettings {
    /// Refuses what would leave a notifier without work or without bounds.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, by name.
    pub fn check(&self) -> Result<(), BadNotifierSetting> {
        let within = |table| move |bad| BadNotifierSetting { table, bad };
        self.own().map_err(within(""))?;
        self.limits.check().map_err(within("limits."))?;
        self.endpoint.check().map_err(within("endpoint."))?;
        self.schedule.check().map_err(within("schedule."))?;
        self.email.check().map_err(within("email."))
    }

    fn own(&self) -> Result<(), BadSetting> {
        let bad = BadSetting::new;
        if !(2..=10_000).contains(&self.slots) {
            return bad("slots", "must be from 2 to 10000");
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&self.tick) {
            return bad("tick", "must be from 1ms to 1h");
        }
        if self.inline_limit > 1 << 20 {
            return bad("inline_limit", "must be at most 1048576");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(EndpointSettings::default().check(), Ok(()));
        assert_eq!(Limits::default().check(), Ok(()));
        assert_eq!(NotifierSettings::default().check(), Ok(()));
    }

    #[test]
    fn a_refusal_names_the_setting_with_its_table() {
        let said = |change: fn(&mut NotifierSettings)| {
            let mut settings = NotifierSettings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert_eq!(
            said(|it| it.slots = 1),
            "notifier.slots must be from 2 to 10000"
        );
        assert_eq!(
            said(|it| it.limits.total = Duration::ZERO),
            "notifier.limits.total must be from 1ms to 60s"
        );
        assert_eq!(
            said(|it| it.endpoint.failures = 0),
            "notifier.endpoint.failures must be from 1 to 1000"
        );
        assert_eq!(
            said(|it| it.schedule.jitter = 2.0),
            "notifier.schedule.jitter is a share: 0 to 1"
        );
        assert_eq!(
            said(|it| it.email.connections = 0),
            "notifier.email.connections must be from 1 to 100"
        );
    }

    #[test]
    fn they_are_configured_with_texts() {
        let settings: EndpointSettings =
            serde_json::from_str(r#"{"give_up_after":"2days","pause":"1s"}"#).unwrap();
        assert_eq!(settings.give_up_after, Duration::from_secs(2 * 24 * 3600));
        assert_eq!(settings.concurrency, 8);
        let limits: Limits = serde_json::from_str(r#"{"total":"7s"}"#).unwrap();
        assert_eq!(limits.total, Duration::from_secs(7));
        assert!(serde_json::from_str::<Limits>(r#"{"totl":"7s"}"#).is_err());
    }

    #[test]
    fn what_cannot_run_is_refused_by_name() {
        let hour = Duration::from_secs(3600);
        let key = |change: &dyn Fn(&mut EndpointSettings)| {
            let mut settings = EndpointSettings::default();
            change(&mut settings);
            settings.check().unwrap_err().key
        };
        assert_eq!(key(&|it| it.concurrency = 0), "concurrency");
        assert_eq!(key(&|it| it.failures = 0), "failures");
        assert_eq!(key(&|it| it.pause = Duration::ZERO), "pause");
        assert_eq!(key(&|it| it.pause = hour), "pause");
        assert_eq!(key(&|it| it.longest_pause = hour * 25), "longest_pause");
        assert_eq!(
            key(&|it| it.give_up_after = Duration::ZERO),
            "give_up_after"
        );
        let limits = Limits {
            total: hour,
            ..Limits::default()
        };
        assert_eq!(
            limits.check().unwrap_err().to_string(),
            "total must be from 1ms to 60s"
        );
    }
}
