//! Settings in layers: defaults < file < `--set` < environment.
//!
//! * The file is TOML.
//! * `--set section.key=value`: the key is a TOML key (`types."a.b".wait` names a type with a dot), the value is taken as
//!   TOML if it is (a number, `true`, an array, an inline table), else as text, without quotes.
//! * `TIDEGATE__SECTION__KEY=value`: double underscores separate, upper case becomes lower case, values as for `--set`.
//!   A name with a dash, such as `types.process-report`, has no variable: use the file or `--set`.
//! * Tables merge key by key, anything else is replaced. A table with another `kind` replaces the one below it whole,
//!   since its keys mean something else.
//!
//! Where text is wanted and a number or a truth value was read from `--set` or the environment, the text as it stood is
//! taken: a password of digits stays what it is.

mod describe;
mod layers;
mod part;
mod positions;
mod problem;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use figment::value::Dict;
use figment::{Figment, Profile, Provider};
use serde::de::DeserializeOwned;

pub use describe::Line;
use describe::Sources;
use layers::Layer;
pub use part::{Layers, Part, read_text};
pub use problem::mask_passwords;

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigOptions {
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// `--set section.key=value`, in order; later ones win.
    pub set: Vec<String>,
}

/// Why the configuration cannot be used: one or more lines for people, without secrets.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .lines.join("\n"))]
pub struct ConfigError {
    /// One problem each: source, key, what was found, what is allowed.
    pub lines: Vec<String>,
}

/// Settings, and where each of them came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub value: T,
    sources: Sources,
}

/// More problems than this are not worth reading at once.
const MOST_PROBLEMS: usize = 20;

/// Merges, in rising order, `defaults` (TOML compiled in), the file, `--set` and the environment of this process.
///
/// # Errors
/// Each line names the source, the key, what was found and what is allowed.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    options: &ConfigOptions,
) -> Result<Loaded<T>, ConfigError> {
    load_with(defaults, options, std::env::vars_os())
}

/// [`load`] with another environment, for tests.
pub(crate) fn load_with<T: DeserializeOwned>(
    defaults: &str,
    options: &ConfigOptions,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<T>, ConfigError> {
    extract(layers::read(defaults, options, environment)?)
}

/// Merges layers that were read.
fn extract<T: DeserializeOwned>(mut layers: Vec<Layer>) -> Result<Loaded<T>, ConfigError> {
    layers::replace_other_kinds(&mut layers);
    let mut lines = Vec::new();
    let mut unsettled: Option<figment::Error> = None;
    loop {
        let merged = merge(&layers);
        let error = match merged.extract::<T>() {
            Ok(value) if lines.is_empty() => {
                let sources = Sources::of(&merged, &layers);
                return Ok(Loaded { value, sources });
            }
            Ok(_) => return Err(ConfigError { lines }),
            Err(error) => error,
        };
        // Text may have been wanted where a number was read: once more with the text as it stood.
        let again = unsettled
            .as_ref()
            .is_some_and(|first| first.path == error.path);
        if !again && as_text(&mut layers, &error.path) {
            unsettled = Some(error);
            continue;
        }
        let error = if again {
            unsettled.take().unwrap_or(error)
        } else {
            error
        };
        let missing = error.missing();
        if !missing || lines.is_empty() {
            lines.push(problem::sentence(&error, &layers));
        }
        // The rest is read without what was refused, so that all problems are told at once. What is missing then may
        // be missing for that reason alone, so it is only told first.
        let path = problem::full_path(&error);
        let gone = layers
            .iter_mut()
            .rev()
            .any(|layer| layers::remove(&mut layer.values, &path));
        if missing || !gone || lines.len() >= MOST_PROBLEMS {
            return Err(ConfigError { lines });
        }
    }
}

fn merge(layers: &[Layer]) -> Figment {
    layers
        .iter()
        .fold(Figment::new(), |figment, layer| figment.merge(layer))
}

/// Turns what was read as something else back into text, below `path`. Whether there was any.
fn as_text(layers: &mut [Layer], path: &[String]) -> bool {
    let mut any = false;
    for layer in layers {
        if let Some((key, text)) = layer.text.take_if(|(key, _)| key.starts_with(path)) {
            layer.values = layers::nest(&key, figment::value::Value::from(text));
            any = true;
        }
    }
    any
}

/// The merged values with their tags.
fn tagged(figment: &Figment) -> Dict {
    figment
        .data()
        .ok()
        .and_then(|mut profiles| profiles.remove(&Profile::Default))
        .unwrap_or_default()
}

impl<T> Loaded<T> {
    /// An error about a setting whose type was right and whose value is not, in the words of all others. `key` is
    /// dotted; `problem` says what was found and what is allowed.
    pub fn refuse(&self, key: &str, problem: &str) -> ConfigError {
        let path = layers::key_path(key).unwrap_or_default();
        let source = self.sources.place_of_key(&path);
        ConfigError {
            lines: vec![format!("{source}: {key}: {}", mask_passwords(problem))],
        }
    }

    /// What a part of the program says of a setting that it cannot use, in the words of [`refuse`](Self::refuse). The
    /// parts begin such a sentence with the dotted key, or with `route`; any other sentence stays as it is.
    pub fn explain(&self, error: impl fmt::Display) -> ConfigError {
        let text = error.to_string();
        let first = text.split(' ').next().unwrap_or_default();
        let key = first.trim_end_matches(':');
        if key.contains('.')
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"._-".contains(&b))
        {
            let problem = text[first.len()..].trim_start();
            self.refuse(key, problem)
        } else if first == "route" {
            self.refuse("routes", &text)
        } else {
            ConfigError { lines: vec![text] }
        }
    }

    /// A part of the settings, or the settings in another shape: where each came from stays known.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Loaded<U> {
        Loaded {
            value: change(self.value),
            sources: self.sources,
        }
    }
}

#[cfg(test)]
mod tests;
