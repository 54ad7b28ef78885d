//! `tidegate worker`.

use std::path::PathBuf;

use process_report::ProcessReport;
use tidegate_contract::HandlerSpec;
use tidegate_kafka::Cluster;
use tidegate_runtime::Metrics;
use tidegate_runtime::config::Loaded;
use tidegate_worker::{Handlers, Worker, WorkerConfig, WorkerError};

use super::process::{self, Process};
use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// The name under which `types` ask for it.
const REPORT: &str = "process-report";

/// Runs a worker until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let loaded = settings::load(&args.with_listen("worker.listen"))?;
    let settings = &loaded.value;
    let process = Process::start(&loaded, "worker", settings.worker.grace)?;
    let cluster = Cluster::new(settings.kafka.clone());
    let metrics = process::metrics(&settings.types);
    let config = config(settings, cluster, metrics, &process.instance).await?;
    let worker = Worker::build(config).await;
    let worker = worker.map_err(|error| refused(&loaded, error))?;
    match worker.ops_addr() {
        Some(addr) => output::line(format!("worker listening on http://{addr}")),
        None => output::line("worker started"),
    }
    let ended = worker.run(process.shutdown.clone()).await;
    process.end().await;
    ended.map_err(Failure::failed)
}

/// What a worker is made of, on the cluster that it is given.
pub async fn config(
    settings: &Settings,
    cluster: Cluster,
    metrics: Metrics,
    instance: &str,
) -> Result<WorkerConfig, Failure> {
    Ok(WorkerConfig {
        cluster,
        registry: settings.registry.clone(),
        settings: settings.worker.clone(),
        types: settings.types.clone(),
        handlers: handlers(settings).await?,
        metrics,
        instance: instance.to_owned(),
    })
}

/// Why there is no worker: an address that is taken is code 1, a setting that cannot be used code 2.
pub fn refused(loaded: &Loaded<Settings>, error: WorkerError) -> Failure {
    match error {
        WorkerError::Listen { .. } => {
            Failure::failed(format!("{error}: give another address with `--listen`"))
        }
        other => settings::refused(loaded, other),
    }
}

/// The handlers in Rust that this binary has, as far as the configuration has a use for them.
async fn handlers(settings: &Settings) -> Result<Handlers, Failure> {
    let wanted = settings.types.values().any(|spec| {
        settings.worker.pools.contains(&spec.pool)
            && matches!(&spec.handler, HandlerSpec::Custom { name } if name == REPORT)
    });
    if !wanted {
        return Ok(Handlers::new());
    }
    // The first time it writes the orders that it reports on, which takes a second.
    let open = || ProcessReport::open(data_dir().join("process-report"));
    let report = tokio::task::spawn_blocking(open)
        .await
        .map_err(Failure::failed)?
        .map_err(|error| {
            Failure::failed(format!(
                "{error}: set XDG_CACHE_HOME to a directory that can be written"
            ))
        })?;
    Ok(Handlers::new().custom(REPORT, report))
}

/// Where handlers keep what they can make again: the user's cache, else the temporary directory.
fn data_dir() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache
        .or(home)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(std::env::temp_dir)
        .join("tidegate")
}
