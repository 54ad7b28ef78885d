//! `tidegate worker`.

use std::path::PathBuf;

use process_report::ProcessReport;
use tidegate_contract::HandlerSpec;
use tidegate_kafka::Cluster;
use tidegate_runtime::Metrics;
use tidegate_runtime::config::Loaded;
use tidegate_worker::app::{self, AppError, AppSettings};
use tidegate_worker::{Handlers, WorkerConfig, WorkerError};

use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::{self, Settings};

/// The name under which `types` ask for it.
const REPORT: &str = "process-report";

/// Runs a worker until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let (loaded, types) = settings::load_followed(&args.with_listen("worker.listen"))?;
    let handlers = handlers(&loaded.value).await?;
    let ended = app::serve(&loaded.map(part), types, handlers).await;
    ended.map_err(failure)
}

/// What a worker reads of the settings.
fn part(settings: Settings) -> AppSettings {
    AppSettings {
        kafka: settings.kafka,
        registry: settings.registry,
        worker: settings.worker,
        telemetry: settings.telemetry,
        types: settings.types,
    }
}

fn failure(error: AppError) -> Failure {
    match error {
        AppError::Usage(_) => Failure::usage(error),
        AppError::Failed(_) => Failure::failed(error),
    }
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
    failure(AppError::of(loaded, error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SettingsArgs;

    #[test]
    fn a_worker_of_ones_own_reads_the_same_file_to_the_same_settings() {
        for file in ["default.toml", "../../examples/tidegate.toml"] {
            let args = SettingsArgs {
                config: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)),
                set: Vec::new(),
            };
            let ours = part(settings::load(&args).unwrap().value);
            let theirs = app::load(&args.options()).unwrap().value;
            assert_eq!(format!("{theirs:?}"), format!("{ours:?}"));
        }
        let ours = settings::load(&SettingsArgs::default()).unwrap();
        let theirs = app::load(&SettingsArgs::default().options()).unwrap();
        assert_eq!(
            format!("{:?}", theirs.value),
            format!("{:?}", part(ours.value))
        );
    }
}
