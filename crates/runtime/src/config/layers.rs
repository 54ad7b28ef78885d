//! What each source says, as trees of values.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::positions::{Position, Positions, position};
use super::{ConfigError, ConfigOptions};

const PREFIX: &str = "TIDEGATE__";

/// One source and what it says: a file, or a single `--set` or variable.
#[derive(Clone)]
pub(super) struct Layer {
    /// As it is told to people: `default`, `file PATH`, `--set`, `environment NAME`.
    pub(super) source: String,
    pub(super) values: Dict,
    /// Where the keys of a file stand.
    pub(super) positions: Positions,
    /// Path and text of a single value that was read as a number or a truth value.
    pub(super) text: Option<(Vec<String>, String)>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_struct("Layer")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Provider for &Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(Cow::Owned(self.source.clone()))
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Reads every source, in rising order.
pub(super) fn read(
    defaults: &str,
    options: &ConfigOptions,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Layer>, ConfigError> {
    let mut layers = Vec::new();
    let mut lines = Vec::new();
    let mut keep = |read: Result<Layer, String>| match read {
        Ok(layer) => layers.push(layer),
        Err(line) => lines.push(line),
    };
    keep(document("default".to_owned(), defaults));
    if let Some(path) = &options.file {
        keep(file(path));
    }
    for (index, given) in options.set.iter().enumerate() {
        keep(set(index, given));
    }
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        .collect();
    // Shorter names first, so that a variable for one key goes over one for its table.
    variables.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    for (name, value) in variables {
        keep(variable(&name.to_string_lossy(), value));
    }
    if lines.is_empty() {
        Ok(layers)
    } else {
        Err(ConfigError { lines })
    }
}

fn file(path: &Path) -> Result<Layer, String> {
    let source = format!("file {}", path.display());
    match std::fs::read(path) {
        Err(error) => Err(format!("{source}: cannot be read: {error}")),
        Ok(bytes) => match String::from_utf8(bytes) {
            Err(_) => Err(format!("{source}: is not UTF-8 text: allowed is TOML")),
            Ok(text) => document(source, &text),
        },
    }
}

pub(super) fn document(source: String, text: &str) -> Result<Layer, String> {
    match toml::from_str::<toml::Table>(text) {
        Ok(table) => {
            let values = table
                .into_iter()
                .map(|(key, value)| (key, convert(value)))
                .collect();
            // The compiled-in text is nobody's file to mend.
            let positions = match source.as_str() {
                "default" => Positions::default(),
                _ => Positions::of(text),
            };
            Ok(Layer {
                source,
                values,
                positions,
                text: None,
            })
        }
        Err(error) => {
            // The parser's own rendering shows the line, which may hold a secret.
            let at = error.span().map_or(0, |span| span.start);
            let place = located(&source, Some(position(text, at)));
            let message = error.message().replace('\n', ", ");
            Err(format!("{place}: not TOML: {message}"))
        }
    }
}

/// A source with the line in it, if it has lines.
pub(super) fn located(source: &str, position: Option<Position>) -> String {
    match position {
        Some((line, column)) => format!("{source}: line {line}, column {column}"),
        None => source.to_owned(),
    }
}

fn set(index: usize, given: &str) -> Result<Layer, String> {
    // What is not of the form is not shown: the secret may be all of it.
    let refused = || {
        format!(
            "--set: number {} on the command line is not of the form section.key=value",
            index + 1
        )
    };
    let (key, text) = given.split_once('=').ok_or_else(refused)?;
    let path = key_path(key.trim()).ok_or_else(refused)?;
    Ok(single("--set".to_owned(), path, text))
}

fn variable(name: &str, value: OsString) -> Result<Layer, String> {
    let source = format!("environment {name}");
    let path: Vec<String> = name[PREFIX.len()..]
        .split("__")
        .map(str::to_lowercase)
        .collect();
    if path.iter().any(String::is_empty) {
        return Err(format!(
            "{source}: names no key: variables are of the form TIDEGATE__SECTION__KEY"
        ));
    }
    match value.into_string() {
        Ok(text) => Ok(single(source, path, &text)),
        Err(_) => Err(format!("{source}: is not UTF-8 text")),
    }
}

fn single(source: String, path: Vec<String>, text: &str) -> Layer {
    let read = toml::from_str::<toml::Table>(&format!("v = {text}\n"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("v"));
    let (value, kept) = match read {
        // Nothing here takes TOML's dates; a name may well look like one.
        None | Some(toml::Value::Datetime(_)) => (Value::from(text), None),
        Some(value @ (toml::Value::String(_) | toml::Value::Array(_) | toml::Value::Table(_))) => {
            (convert(value), None)
        }
        Some(value) => (convert(value), Some((path.clone(), text.to_owned()))),
    };
    Layer {
        source,
        values: nest(&path, value),
        positions: Positions::default(),
        text: kept,
    }
}

/// The parts of a dotted TOML key.
pub(super) fn key_path(key: &str) -> Option<Vec<String>> {
    let mut table = toml::from_str::<toml::Table>(&format!("{key} = 0\n")).ok()?;
    let mut path = Vec::new();
    loop {
        let mut entries = std::mem::take(&mut table).into_iter();
        let (part, value) = entries.next()?;
        path.push(part);
        match (value, entries.next()) {
            (toml::Value::Table(inner), None) => table = inner,
            (toml::Value::Integer(0), None) => return Some(path),
            _ => return None,
        }
    }
}

/// A tree with one leaf.
pub(super) fn nest(path: &[String], leaf: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [last] => Dict::from([(last.clone(), leaf)]),
        [first, rest @ ..] => Dict::from([(first.clone(), Value::from(nest(rest, leaf)))]),
    }
}

fn convert(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::from(truth),
        toml::Value::Datetime(date) => Value::from(date.to_string()),
        toml::Value::Array(items) => {
            Value::from(items.into_iter().map(convert).collect::<Vec<_>>())
        }
        toml::Value::Table(table) => Value::from(
            table
                .into_iter()
                .map(|(key, value)| (key, convert(value)))
                .collect::<Dict>(),
        ),
    }
}

/// Takes the value at `path` out. Whether it was there.
pub(super) fn remove(dict: &mut Dict, path: &[String]) -> bool {
    match path {
        [] => false,
        [last] => dict.remove(last).is_some(),
        [first, rest @ ..] => match dict.get_mut(first) {
            Some(Value::Dict(_, inner)) => remove(inner, rest),
            // Elements of an array cannot go alone without moving the others.
            Some(Value::Array(..)) => dict.remove(first).is_some(),
            _ => false,
        },
    }
}

/// Where a layer gives a table another `kind`, what the lower layers said of that table goes.
pub(super) fn replace_other_kinds(layers: &mut [Layer]) {
    for upper in 1..layers.len() {
        let mut kinds = Vec::new();
        collect_kinds(&layers[upper].values, &mut Vec::new(), &mut kinds);
        for (path, kind) in kinds {
            for lower in &mut layers[..upper] {
                let other = find_kind(&lower.values, &path).is_some_and(|found| found != kind);
                if other {
                    remove(&mut lower.values, &path);
                }
            }
        }
    }
}

fn collect_kinds(dict: &Dict, path: &mut Vec<String>, kinds: &mut Vec<(Vec<String>, String)>) {
    for (key, value) in dict {
        match value {
            Value::String(_, kind) if key == "kind" => kinds.push((path.clone(), kind.clone())),
            Value::Dict(_, inner) => {
                path.push(key.clone());
                collect_kinds(inner, path, kinds);
                path.pop();
            }
            _ => {}
        }
    }
}

fn find_kind<'a>(dict: &'a Dict, path: &[String]) -> Option<&'a str> {
    match path {
        [] => dict.get("kind")?.as_str(),
        [first, rest @ ..] => find_kind(dict.get(first)?.as_dict()?, rest),
    }
}
