//! A worker as a program: one call from the command line to the exit code.
//!
//! [`App::main`] reads the command line, merges the configuration ([`load_followed`]) and gives both to [`serve`], which is what
//! `tidegate worker` runs too: signals, logs, spans and the operations endpoint are the same in every worker.

mod settings;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_contract::{HandlerSpec, JobTypeSpec};
use tidegate_kafka::Cluster;
use tidegate_runtime::args::RoleArgs;
use tidegate_runtime::{Loaded, Metrics, Process, ProcessError};

use crate::context::JobContext;
use crate::handler::{Handler, Handlers, JobFailure};
use crate::typed::typed;
use crate::worker::{Worker, WorkerConfig, WorkerError};

pub use settings::{AppSettings, load, load_followed};
pub use tidegate_runtime::types::TypesFile;

/// How long calls that still block at the end are waited for.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// A worker program: its name and its handlers.
///
/// ```no_run
/// use std::process::ExitCode;
/// use tidegate_worker::{App, JobContext, JobFailure};
///
/// async fn sum(numbers: Vec<f64>, _cx: JobContext) -> Result<f64, JobFailure> {
///     Ok(numbers.iter().sum())
/// }
///
/// fn main() -> ExitCode {
///     App::new("sum-worker").typed("sum", sum).main()
/// }
/// ```
///
/// A type of the configuration with `handler = { kind = "custom", name = "sum" }` runs it. The program takes `--config
/// FILE`, `--set section.key=value`, `--listen ADDR` and `TIDEGATE__SECTION__KEY`, all as `tidegate worker` does.
#[derive(Clone)]
pub struct App {
    name: &'static str,
    handlers: Handlers,
}

/// Why a worker program ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration cannot be used: one or more lines that name source, key and mend. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The configuration is fine, and it did not work: the address is taken, for instance. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl AppError {
    /// The code that a program ends with: 1 or 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    fn usage(error: impl fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// Why there is no worker, with the source of the setting that is to blame.
    pub fn of<T>(loaded: &Loaded<T>, error: WorkerError) -> Self {
        match error {
            WorkerError::Listen { .. } => {
                Self::Failed(format!("{error}: give another address with `--listen`"))
            }
            other => Self::usage(loaded.explain(other)),
        }
    }
}

impl App {
    /// A program of that name without handlers. The name stands in its help and before its complaints.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            handlers: Handlers::new(),
        }
    }

    /// Adds a handler for the types that ask for `name`; one of the same name is replaced.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers = self.handlers.custom(name, handler);
        self
    }

    /// Adds an async function from JSON to JSON as a handler; see [`typed`](crate::typed()).
    #[must_use]
    pub fn typed<I, O, F, Fut>(self, name: impl Into<String>, run: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        F: Fn(I, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobFailure>> + Send + 'static,
    {
        self.handler(name, typed(run))
    }

    /// The whole program: reads the command line and the configuration, works until SIGTERM or Ctrl-C, and gives the
    /// exit code: 0 after a clean stop, 2 when the command line or the configuration is wrong, 1 for anything else.
    /// Problems are printed on standard error.
    pub fn main(self) -> ExitCode {
        let command = RoleArgs::augment_args(clap::Command::new(self.name))
            .about("A worker of Tidegate: runs jobs from Kafka until it is told to stop");
        let matches = command.get_matches();
        let ended = RoleArgs::from_arg_matches(&matches)
            .map_err(AppError::usage)
            .and_then(|args| self.block_on(args));
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let mut out = std::io::stderr().lock();
                for line in error.to_string().lines() {
                    let _ = writeln!(out, "{}: {line}", self.name);
                }
                ExitCode::from(error.exit_code())
            }
        }
    }

    fn block_on(&self, args: RoleArgs) -> Result<(), AppError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(AppError::failed)?;
        let ended = runtime.block_on(self.run(args));
        // A call that is still blocked somewhere, in a client of an absent server for instance, does not hold up the end.
        runtime.shutdown_timeout(LAST_CALLS);
        ended
    }

    /// The same on a runtime of the caller's, with arguments of the caller's. When it has returned, a call into the client
    /// of an absent broker may still be blocked: a runtime that is ended by
    /// [`shutdown_timeout`](tokio::runtime::Runtime::shutdown_timeout), not by being dropped, does not wait for it.
    ///
    /// # Errors
    /// Before the start, when the configuration cannot be used or names none of the handlers; see [`AppError`].
    pub async fn run(&self, args: RoleArgs) -> Result<(), AppError> {
        let options = args.with_listen("worker.listen").options();
        let (loaded, types) = load_followed(&options).map_err(AppError::usage)?;
        self.is_of_use(&loaded)?;
        serve(&loaded, types, self.handlers.clone()).await
    }

    /// A worker of one's own that no type asks for would look healthy and do nothing.
    fn is_of_use(&self, loaded: &Loaded<AppSettings>) -> Result<(), AppError> {
        let settings = &loaded.value;
        let asks = |spec: &JobTypeSpec, name: &str| {
            settings.worker.pools.contains(&spec.pool)
                && matches!(&spec.handler, HandlerSpec::Custom { name: wanted } if wanted == name)
        };
        let names = self.handlers.names();
        let unused = |name: &&&str| !settings.types.values().any(|spec| asks(spec, name));
        match names.iter().find(unused) {
            None => Ok(()),
            Some(name) => Err(AppError::usage(loaded.refuse(
                "types",
                &format!(
                    "none in worker.pools has the handler `{name}` of this program: add [types.{name}] with handler = \
                     {{ kind = \"custom\", name = \"{name}\" }}, or add its pool to worker.pools"
                ),
            ))),
        }
    }
}

/// Runs a worker on the cluster that the settings name, as a process: signals stop it, logs go to standard error, and
/// one line on standard output says where the operations endpoint listens. The file of job types, if there is one, is
/// followed: what changes in it comes in force without a restart, for the handlers that the program has.
///
/// ```no_run
/// use tidegate_worker::{Handlers, app};
///
/// # async fn all() -> Result<(), Box<dyn std::error::Error>> {
/// let (loaded, types) = app::load_followed(&Default::default())?;
/// app::serve(&loaded, types, Handlers::new()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When the settings cannot be used, or the operations endpoint cannot listen. A server that is away is no error: the
/// worker waits for it and says so in `/readyz`.
pub async fn serve(
    loaded: &Loaded<AppSettings>,
    types: Option<TypesFile>,
    handlers: Handlers,
) -> Result<(), AppError> {
    let settings = &loaded.value;
    let process = Process::start(&settings.telemetry, "worker", settings.worker.grace);
    let process = process.map_err(|error| match error {
        ProcessError::Telemetry(error) => AppError::usage(loaded.explain(error)),
        other @ ProcessError::Signals(_) => AppError::failed(other),
    })?;
    let metrics = Metrics::new(settings.types.keys().map(|name| name.as_str()));
    let worker = Worker::build(WorkerConfig {
        cluster: Cluster::new(settings.kafka.clone()),
        registry: settings.registry.clone(),
        settings: settings.worker.clone(),
        types: settings.types.clone(),
        handlers,
        metrics: metrics.clone(),
        instance: process.instance.clone(),
    });
    let worker = worker.await.map_err(|error| AppError::of(loaded, error))?;
    let (roles, ready) = (vec![worker.types()], vec![worker.readiness()]);
    process.follow_types(&settings.types, types, roles, ready, &metrics);
    let mut out = std::io::stdout();
    // Flushed: whoever started the process may be waiting for it.
    let _ = match worker.ops_addr() {
        Some(addr) => writeln!(out, "worker listening on http://{addr}"),
        None => writeln!(out, "worker started"),
    };
    let _ = out.flush();
    let ended = worker.run(process.shutdown.clone()).await;
    process.end().await;
    ended.map_err(AppError::failed)
}
