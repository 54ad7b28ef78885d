//! The resolved settings, with the source of each.

use std::collections::BTreeMap;
use std::fmt;

use figment::Figment;
use figment::value::{Dict, Value};
use serde::Serialize;

use super::layers::{Layer, located};
use super::positions::Positions;
use super::{Loaded, mask_passwords, tagged};

/// What no layer says: the default in the code.
const IN_CODE: &str = "default";

/// One resolved setting, for `tidegate config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Dotted; parts that are not bare TOML keys are quoted.
    pub key: String,
    /// As TOML; secrets read `"<redacted>"`.
    pub value: String,
    /// `default`, `file PATH`, `--set` or `environment NAME`.
    pub source: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.source)
    }
}

/// Which source won at each place of the merged tree. Holds no values, since they may be secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    places: BTreeMap<Vec<String>, Place>,
    /// Of the files, by source.
    positions: BTreeMap<String, Positions>,
}

#[derive(Clone, Debug)]
struct Place {
    source: String,
    /// Its keys have places of their own.
    table: bool,
}

impl Sources {
    pub(super) fn of(merged: &Figment, layers: &[Layer]) -> Self {
        let positions = layers
            .iter()
            .map(|layer| (layer.source.clone(), layer.positions.clone()));
        let mut sources = Self {
            positions: positions.collect(),
            ..Self::default()
        };
        sources.visit(merged, &tagged(merged), &mut Vec::new());
        sources
    }

    fn visit(&mut self, merged: &Figment, dict: &Dict, path: &mut Vec<String>) {
        for (key, value) in dict {
            path.push(key.clone());
            let source = merged.get_metadata(value.tag()).map_or_else(
                || IN_CODE.to_owned(),
                |metadata| metadata.name.clone().into_owned(),
            );
            let table = matches!(value, Value::Dict(..));
            self.places.insert(path.clone(), Place { source, table });
            if let Value::Dict(_, inner) = value {
                self.visit(merged, inner, path);
            }
            path.pop();
        }
    }

    /// The source of the setting at `path`.
    pub(super) fn of_key(&self, path: &[String]) -> &str {
        (1..=path.len())
            .rev()
            .find_map(|length| {
                self.places
                    .get(&path[..length])
                    .map(|place| (length, place))
            })
            // A table that says nothing of this key leaves it to the default.
            .filter(|(length, place)| *length == path.len() || !place.table)
            .map_or(IN_CODE, |(_, place)| &place.source)
    }
}

impl Sources {
    /// The source of the setting at `path`, with the line if it is a file.
    pub(super) fn place_of_key(&self, path: &[String]) -> String {
        let source = self.of_key(path);
        // A default in a table that a file has, such as a job type, is a matter of that file.
        let file = self.positions.iter();
        let file = file.filter(|(_, known)| source == IN_CODE && known.depth(path) > 1);
        let source = file
            .map(|(file, _)| file.as_str())
            .next_back()
            .unwrap_or(source);
        let positions = self.positions.get(source);
        located(source, positions.and_then(|known| known.near(path)))
    }
}

impl<T: Serialize> Loaded<T> {
    /// Every setting with its value and source, sorted by key. Settings that are not set at all are left out.
    pub fn describe(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Ok(resolved) = serde_json::to_value(&self.value) {
            self.flatten(&resolved, &mut Vec::new(), &mut lines);
        }
        lines
    }

    fn flatten(&self, value: &serde_json::Value, path: &mut Vec<String>, lines: &mut Vec<Line>) {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(fields) if !fields.is_empty() => {
                for (key, field) in fields {
                    path.push(key.clone());
                    self.flatten(field, path, lines);
                    path.pop();
                }
            }
            leaf => lines.push(Line {
                key: dotted(path),
                value: as_toml(leaf),
                source: self.sources.of_key(path).to_owned(),
            }),
        }
    }
}

/// A path as a TOML key.
pub(super) fn dotted(path: &[String]) -> String {
    let bare = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let parts: Vec<String> = path
        .iter()
        .map(|part| {
            if bare(part) {
                part.clone()
            } else {
                toml::Value::from(part.as_str()).to_string()
            }
        })
        .collect();
    parts.join(".")
}

fn as_toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "\"\"".to_owned(),
        serde_json::Value::String(text) => toml::Value::from(mask_passwords(text)).to_string(),
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_toml).collect();
            format!("[{}]", items.join(", "))
        }
        serde_json::Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .filter(|(_, field)| !field.is_null())
                .map(|(key, field)| {
                    format!("{} = {}", dotted(std::slice::from_ref(key)), as_toml(field))
                })
                .collect();
            if fields.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", fields.join(", "))
            }
        }
        scalar => scalar.to_string(),
    }
}
