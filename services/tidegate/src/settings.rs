//! The settings of every role in one shape, so that gateways and workers can share one file.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_callbacks::CallbackSettings;
use tidegate_contract::{JobTypes, Pool};
use tidegate_gateway::{AuthSettings, GatewaySettings, RouteSettings};
use tidegate_kafka::{KafkaSettings, RegistrySettings, TopicPlan, topic_plan};
use tidegate_runtime::TelemetrySettings;
use tidegate_runtime::config::{Layers, Loaded};
use tidegate_runtime::types::{self, TypesFile};
use tidegate_scheduler::SchedulerSettings;
use tidegate_store::StoreSettings;
use tidegate_worker::WorkerSettings;

use crate::cli::SettingsArgs;
use crate::exit::Failure;
use crate::validate;

/// The reference of all settings.
const DEFAULTS: &str = include_str!("../default.toml");
/// The reference and the samples: the second file only adds tables that the first one does not have.
const DEV_DEFAULTS: &str = concat!(
    include_str!("../default.toml"),
    "\n",
    include_str!("../dev.toml")
);

/// A whole configuration; `default.toml` says what each key means.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A file with further `types`, as it was written; found beside the file that names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types_file: Option<String>,
    pub kafka: KafkaSettings,
    pub registry: RegistrySettings,
    pub store: StoreSettings,
    pub gateway: GatewaySettings,
    pub worker: WorkerSettings,
    pub scheduler: SchedulerSettings,
    pub auth: AuthSettings,
    pub callbacks: CallbackSettings,
    pub telemetry: TelemetrySettings,
    pub routes: Vec<RouteSettings>,
    pub types: JobTypes,
}

impl Settings {
    /// The topics that this configuration needs: those of every pool that a type or the worker names.
    pub fn topic_plan(&self) -> Vec<TopicPlan> {
        let named = self.types.values().map(|spec| &spec.pool);
        let pools: Vec<Pool> = named.chain(&self.worker.pools).cloned().collect();
        topic_plan(&self.kafka, &pools, self.longest_deadline())
    }

    /// The longest that a job may wait to be started.
    pub fn longest_deadline(&self) -> Duration {
        let usual = Duration::from_secs(7 * 24 * 3600);
        let given = self.types.values().map(|spec| spec.deadline);
        given.max().map_or(usual, |longest| longest.max(usual))
    }
}

/// The settings as the layers give them, checked.
///
/// # Errors
/// With code 2: each line names the source, the key and what is allowed.
pub fn load(args: &SettingsArgs) -> Result<Loaded<Settings>, Failure> {
    load_followed(args).map(|(loaded, _)| loaded)
}

/// The same, and the file of job types to follow, if there is one.
pub fn load_followed(
    args: &SettingsArgs,
) -> Result<(Loaded<Settings>, Option<TypesFile>), Failure> {
    let layers = read(DEFAULTS, args)?;
    split(layers, Vec::new())
}

/// The same for those who look at an installation: a file of job types that cannot be used keeps nobody from looking at
/// the rest. Its problems come along, and the settings then have only the types that are written elsewhere.
///
/// # Errors
/// With code 2, for anything else that is wrong.
pub fn load_or_without_types(
    args: &SettingsArgs,
) -> Result<(Loaded<Settings>, Option<String>), Failure> {
    let failure = match load(args) {
        Ok(loaded) => return Ok((loaded, None)),
        Err(failure) => failure,
    };
    let read = Layers::read_without_part(DEFAULTS, &args.options(), types::PART);
    let Ok((layers, Some(path))) = read else {
        return Err(failure);
    };
    let (file, problems) = (format!("file {}: ", path.display()), failure.to_string());
    let of_types_alone = problems.lines().all(|line| line.starts_with(&file));
    match layers.extract() {
        Ok(loaded) if of_types_alone => Ok((loaded, Some(problems))),
        // The file was looked at first, so this has not been told.
        Err(error) if of_types_alone => Err(Failure::usage(format!("{problems}\n{error}"))),
        _ => Err(failure),
    }
}

/// The same for `dev`: sample types under the user's, sample routes beside the user's.
pub fn load_dev(args: &SettingsArgs) -> Result<(Loaded<Settings>, Option<TypesFile>), Failure> {
    let samples = read(DEV_DEFAULTS, &SettingsArgs::default())?;
    let samples = samples.extract::<Settings>().map_err(Failure::usage)?;
    split(read(DEV_DEFAULTS, args)?, samples.value.routes)
}

fn split(
    layers: Layers,
    samples: Vec<RouteSettings>,
) -> Result<(Loaded<Settings>, Option<TypesFile>), Failure> {
    let loaded = merge(&layers, &samples)?;
    let file = TypesFile::of(layers, move |layers| {
        let loaded = merge(layers, &samples).map_err(|failure| failure.to_string())?;
        Ok(loaded.value.types)
    });
    Ok((loaded, file))
}

fn merge(layers: &Layers, samples: &[RouteSettings]) -> Result<Loaded<Settings>, Failure> {
    let mut loaded = layers.extract::<Settings>().map_err(Failure::usage)?;
    // A list in a file replaces the list below it, so what is still missing is put back.
    let routes = &mut loaded.value.routes;
    for sample in samples {
        if !routes.iter().any(|route| validate::clash(route, sample)) {
            routes.push(sample.clone());
        }
    }
    validate::check(&loaded)?;
    Ok(loaded)
}

/// What a part of the program says of a setting that it cannot use, in the words of all other configuration errors:
/// with the source.
pub fn refused(loaded: &Loaded<Settings>, error: impl fmt::Display) -> Failure {
    Failure::usage(loaded.explain(error))
}

fn read(defaults: &str, args: &SettingsArgs) -> Result<Layers, Failure> {
    Layers::read(defaults, &args.options(), types::PART).map_err(Failure::usage)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
