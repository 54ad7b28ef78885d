//! `tidegate scheduler`.

use tidegate_kafka::Cluster;
use tidegate_runtime::Metrics;
use tidegate_runtime::config::Loaded;
use tidegate_scheduler::{Scheduler, SchedulerConfig, SchedulerError};

use super::process;
use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// Runs a scheduler until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let loaded = settings::load(&args.with_listen("scheduler.listen"))?;
    let settings = &loaded.value;
    let process = process::start(&loaded, "scheduler", settings.scheduler.grace)?;
    let scheduler = Scheduler::build(config(
        settings,
        Cluster::new(settings.kafka.clone()),
        process::metrics(&settings.types),
        &process.instance,
    ));
    let scheduler = scheduler.await.map_err(|error| refused(&loaded, error))?;
    output::line(match scheduler.ops_addr() {
        Some(addr) => format!("scheduler listening on http://{addr}"),
        None => "scheduler started".to_owned(),
    });
    let ended = scheduler.run(process.shutdown.clone()).await;
    process.end().await;
    ended.map_err(Failure::failed)
}

/// What a scheduler is made of, on the cluster that it is given.
pub fn config(
    settings: &Settings,
    cluster: Cluster,
    metrics: Metrics,
    instance: &str,
) -> SchedulerConfig {
    SchedulerConfig {
        cluster,
        registry: settings.registry.clone(),
        settings: settings.scheduler.clone(),
        plan: settings.topic_plan(),
        metrics,
        instance: instance.to_owned(),
    }
}

/// Why there is no scheduler: an address that is taken is code 1, a setting that cannot be used code 2.
pub fn refused(loaded: &Loaded<Settings>, error: SchedulerError) -> Failure {
    match error {
        SchedulerError::Listen { .. } => {
            Failure::failed(format!("{error}: give another address with `--listen`"))
        }
        other => settings::refused(loaded, other),
    }
}
