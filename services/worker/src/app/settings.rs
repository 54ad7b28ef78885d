//! The part of the shared configuration file that a worker reads.

use serde::Deserialize;
use serde::de::IgnoredAny;
use tidegate_contract::JobTypes;
use tidegate_kafka::{KafkaSettings, RegistrySettings};
use tidegate_runtime::config::{ConfigOptions, Layers, Loaded};
use tidegate_runtime::types::{self, TypesFile};
use tidegate_runtime::{ConfigError, TelemetrySettings};

use crate::settings::WorkerSettings;

/// What a worker reads of a configuration. The keys are those of `tidegate worker`, and so are the defaults.
#[derive(Clone, Debug, Default)]
pub struct AppSettings {
    /// `[kafka]`
    pub kafka: KafkaSettings,
    /// `[registry]`
    pub registry: RegistrySettings,
    /// `[worker]`
    pub worker: WorkerSettings,
    /// `[telemetry]`
    pub telemetry: TelemetrySettings,
    /// `[types]`, and those of `types_file`
    pub types: JobTypes,
}

/// The whole file: sections of other roles may stand in it and are not looked into, any other key is refused.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct File {
    kafka: KafkaSettings,
    registry: RegistrySettings,
    worker: WorkerSettings,
    telemetry: TelemetrySettings,
    types: JobTypes,
    // Its types are merged with those above.
    #[serde(rename = "types_file")]
    _types_file: IgnoredAny,
    #[serde(rename = "store")]
    _store: IgnoredAny,
    #[serde(rename = "gateway")]
    _gateway: IgnoredAny,
    #[serde(rename = "scheduler")]
    _scheduler: IgnoredAny,
    #[serde(rename = "notifier")]
    _notifier: IgnoredAny,
    #[serde(rename = "callbacks")]
    _callbacks: IgnoredAny,
    #[serde(rename = "auth")]
    _auth: IgnoredAny,
    #[serde(rename = "routes")]
    _routes: IgnoredAny,
}

impl From<File> for AppSettings {
    fn from(file: File) -> Self {
        Self {
            kafka: file.kafka,
            registry: file.registry,
            worker: file.worker,
            telemetry: file.telemetry,
            types: file.types,
        }
    }
}

/// Merges, in rising order, the defaults, the file, `--set` and the environment of this process.
///
/// # Errors
/// Each line names the source, the key, what was found and what is allowed.
pub fn load(options: &ConfigOptions) -> Result<Loaded<AppSettings>, ConfigError> {
    load_followed(options).map(|(loaded, _)| loaded)
}

/// The same, and the file of job types to follow, if `types_file` names one.
///
/// # Errors
/// As for [`load`].
pub fn load_followed(
    options: &ConfigOptions,
) -> Result<(Loaded<AppSettings>, Option<TypesFile>), ConfigError> {
    // The defaults are those of the types, which are the same as in the reference.
    let layers = Layers::read("", options, types::PART)?;
    let loaded = checked(&layers)?;
    let file = TypesFile::of(layers, |layers| {
        let loaded = checked(layers).map_err(|error| error.to_string())?;
        Ok(loaded.value.types)
    });
    Ok((loaded, file))
}

fn checked(layers: &Layers) -> Result<Loaded<AppSettings>, ConfigError> {
    let loaded = layers.extract::<File>()?.map(AppSettings::from);
    if loaded.value.kafka.brokers.trim().is_empty() {
        return Err(loaded.refuse("kafka.brokers", "is empty: give `host:port`"));
    }
    if let Err(error) = reqwest::Url::parse(&loaded.value.registry.url) {
        let problem = format!("is not a URL ({error}): http://… or https://…");
        return Err(loaded.refuse("registry.url", &problem));
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Loaded<AppSettings>, ConfigError> {
        load(&ConfigOptions {
            file: None,
            set: assignments.iter().map(|text| (*text).to_owned()).collect(),
        })
    }

    #[test]
    fn sections_of_other_roles_are_passed_over_and_mistakes_are_not() {
        let loaded = set(&[
            "gateway.listen=127.0.0.1:1",
            "store.url=sqlite:x",
            "worker.concurrency=3",
            "types.sum.handler={ kind = \"custom\", name = \"sum\" }",
        ]);
        let settings = loaded.unwrap().value;
        assert_eq!(settings.worker.concurrency, 3);
        assert_eq!(settings.types.len(), 1);
        for (wrong, said) in [
            ("worker.concurency=3", "worker.concurency: unknown key"),
            ("wroker.concurrency=3", "wroker: unknown key"),
            ("kafka.brokers=", "--set: kafka.brokers: is empty"),
            ("registry.url=here", "--set: registry.url: is not a URL"),
        ] {
            let refused = set(&[wrong]).unwrap_err().to_string();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }

    #[test]
    fn types_in_a_file_of_their_own_are_read_and_can_be_followed() {
        let dir = tempfile::tempdir().unwrap();
        let sum = "[types.sum]\nhandler = { kind = \"custom\", name = \"sum\" }\n";
        std::fs::write(dir.path().join("types.toml"), sum).unwrap();
        let main = dir.path().join("main.toml");
        let text = "types_file = \"types.toml\"\n[types.echo]\nhandler = { kind = \"echo\" }\n";
        std::fs::write(&main, text).unwrap();
        let options = ConfigOptions {
            file: Some(main),
            set: Vec::new(),
        };
        let (loaded, file) = load_followed(&options).unwrap();
        let names =
            |types: &JobTypes| -> Vec<String> { types.keys().map(|t| t.to_string()).collect() };
        assert_eq!(names(&loaded.value.types), ["echo", "sum"]);
        let file = file.unwrap();
        assert_eq!(file.text, sum);
        let later = file
            .types(&sum.replace("types.sum", "types.total"))
            .unwrap();
        assert_eq!(names(&later), ["echo", "total"]);
        let refused = file.types(&sum.replace("custom", "costum")).unwrap_err();
        assert!(
            refused.contains("types.toml: line 2, column 13: types.sum.handler.kind"),
            "{refused}"
        );
        let (_, none) = load_followed(&ConfigOptions::default()).unwrap();
        assert!(none.is_none(), "nothing to follow");
    }
}
