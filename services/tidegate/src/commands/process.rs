//! How a role becomes a process.

use std::time::Duration;

use tidegate_contract::JobTypes;
use tidegate_runtime::config::Loaded;
use tidegate_runtime::{Metrics, Process, ProcessError, RecentSpans};

use crate::exit::Failure;
use crate::settings::{self, Settings};

/// Names the process, listens to signals, and turns logs and spans on.
///
/// # Errors
/// With code 2 when a telemetry setting cannot be used.
pub fn start(loaded: &Loaded<Settings>, role: &str, grace: Duration) -> Result<Process, Failure> {
    start_keeping(loaded, role, grace, None)
}

/// The same, keeping the last spans in memory.
///
/// # Errors
/// As for [`start`].
pub fn start_keeping(
    loaded: &Loaded<Settings>,
    role: &str,
    grace: Duration,
    recent: Option<&RecentSpans>,
) -> Result<Process, Failure> {
    let settings = &loaded.value.telemetry;
    Process::start_keeping(settings, role, grace, recent).map_err(|error| match error {
        ProcessError::Telemetry(error) => settings::refused(loaded, error),
        other @ ProcessError::Signals(_) => Failure::failed(other),
    })
}

/// Metrics with a label for each type of the configuration.
pub fn metrics(types: &JobTypes) -> Metrics {
    Metrics::new(types.keys().map(|name| name.as_str()))
}
