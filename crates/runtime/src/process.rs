//! What every role is as a process: a name, signals, logs and spans, and an end.

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::JobTypes;

use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, RecentSpans, Telemetry, TelemetryError, TelemetrySettings};
use crate::types::{Follower, TakesTypes, TypesFile, announce};

/// Longest that the last spans may hold up the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// A role from its start to its end.
pub struct Process {
    /// The name in logs, traces, events and Kafka.
    pub instance: String,
    /// Triggered by SIGTERM and Ctrl-C.
    pub shutdown: Shutdown,
    telemetry: Telemetry,
}

/// Why a process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A telemetry setting cannot be used.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The system refuses signal handlers.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
}

impl Process {
    /// Names the process, listens to signals, and turns logs and spans on. `grace` is the time from a signal to the
    /// end.
    ///
    /// # Errors
    /// When a telemetry setting cannot be used, or signals cannot be listened to.
    pub fn start(
        settings: &TelemetrySettings,
        role: &str,
        grace: Duration,
    ) -> Result<Self, ProcessError> {
        Self::start_keeping(settings, role, grace, None)
    }

    /// The same, keeping the last spans in memory.
    ///
    /// # Errors
    /// As for [`Process::start`].
    pub fn start_keeping(
        settings: &TelemetrySettings,
        role: &str,
        grace: Duration,
        recent: Option<&RecentSpans>,
    ) -> Result<Self, ProcessError> {
        let instance = crate::instance::name();
        let telemetry = telemetry::init_keeping(settings, role, &instance, recent)?;
        let shutdown = Shutdown::new(grace);
        shutdown
            .listen_to_signals()
            .map_err(ProcessError::Signals)?;
        Ok(Self {
            instance,
            shutdown,
            telemetry,
        })
    }

    /// Says which job types are in force and, if they have a file, follows it until the process is told to stop.
    pub fn follow_types(
        &self,
        types: &JobTypes,
        file: Option<TypesFile>,
        roles: Vec<Arc<dyn TakesTypes>>,
        readiness: Vec<Readiness>,
        metrics: &Metrics,
    ) {
        let path = file.as_ref().map(|file| file.path.display().to_string());
        announce(types, path.as_deref(), &readiness, metrics);
        if let Some(file) = file {
            let follower = Follower {
                file,
                types: types.clone(),
                roles,
                readiness,
                metrics: metrics.clone(),
            };
            tokio::spawn(follower.run(self.shutdown.token()));
        }
    }

    /// Sends what spans are left: the last thing that a process does.
    pub async fn end(self) {
        let limit = self.shutdown.remaining();
        let limit = limit.clamp(Duration::from_millis(500), LAST_SPANS);
        self.telemetry.shutdown(limit).await;
    }
}
