//! What every role of Tidegate stands on: settings in, signals in, logs, spans, metrics and readiness out.
//!
//! Data flows through these modules in the order of a process's life. [`args`] is the command line, [`config`] merges defaults, file, command line
//! and environment into one typed value and remembers where each part came from. [`telemetry`] turns logs and spans on,
//! under the name that [`instance`] makes. Each dependency of a role is a [`readiness::Condition`] that
//! [`backoff::retry_forever`] brings up, and that says why it is not up yet. Work is counted in [`metrics`], the one
//! place with metric names. [`ops`] serves `/healthz`, `/readyz` and `/metrics` from the two. [`shutdown`] ends it all
//! in one order: stop intake, drain, flush the producer, commit, leave the group, flush traces. [`types`] follows the file
//! of job types while the process lives.
//!
//! Nothing here is global but what tracing and OpenTelemetry themselves keep per process.

pub mod args;
pub mod backoff;
pub mod config;
pub mod instance;
pub mod metrics;
pub mod ops;
pub mod process;
pub mod readiness;
pub mod shutdown;
pub mod telemetry;
pub mod types;

pub use backoff::{Backoff, retry_forever};
pub use config::{ConfigError, ConfigOptions, Loaded};
pub use metrics::Metrics;
pub use ops::OpsState;
pub use process::{Process, ProcessError};
pub use readiness::{Condition, Readiness};
pub use shutdown::{Shutdown, Stage};
pub use telemetry::{RecentSpans, Telemetry, TelemetrySettings};
pub use types::{LiveTypes, TakesTypes};
