//! What every role is as a process: a name, signals, logs and spans, and an end.

use std::time::Duration;

use tidegate_contract::JobTypes;
use tidegate_runtime::config::Loaded;
use tidegate_runtime::{Metrics, RecentSpans, Shutdown, Telemetry, instance, telemetry};

use crate::exit::Failure;
use crate::settings::{self, Settings};

/// Longest that the last spans may hold up the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// A role from its start to its end.
pub struct Process {
    /// The name in logs, traces, events and Kafka.
    pub instance: String,
    pub shutdown: Shutdown,
    telemetry: Telemetry,
}

impl Process {
    /// Names the process, listens to signals, and turns logs and spans on.
    ///
    /// # Errors
    /// With code 2 when a telemetry setting cannot be used.
    pub fn start(loaded: &Loaded<Settings>, role: &str, grace: Duration) -> Result<Self, Failure> {
        Self::start_keeping(loaded, role, grace, None)
    }

    /// The same, keeping the last spans in memory.
    ///
    /// # Errors
    /// As for [`Process::start`].
    pub fn start_keeping(
        loaded: &Loaded<Settings>,
        role: &str,
        grace: Duration,
        recent: Option<&RecentSpans>,
    ) -> Result<Self, Failure> {
        let instance = instance::name();
        let settings = &loaded.value.telemetry;
        let telemetry = telemetry::init_keeping(settings, role, &instance, recent)
            .map_err(|error| settings::refused(loaded, error))?;
        let shutdown = Shutdown::new(grace);
        shutdown
            .listen_to_signals()
            .map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
        Ok(Self {
            instance,
            shutdown,
            telemetry,
        })
    }

    /// Sends what spans are left: the last thing that a process does.
    pub async fn end(self) {
        let limit = self.shutdown.remaining();
        let limit = limit.clamp(Duration::from_millis(500), LAST_SPANS);
        self.telemetry.shutdown(limit).await;
    }
}

/// Metrics with a label for each type of the configuration.
pub fn metrics(types: &JobTypes) -> Metrics {
    Metrics::new(types.keys().map(|name| name.as_str()))
}
