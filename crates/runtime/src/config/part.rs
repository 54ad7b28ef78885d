//! A table of the configuration in a file of its own, which can be read again while everything else stays.

use std::path::{Path, PathBuf};

use figment::value::Value;
use serde::de::DeserializeOwned;

use super::layers::{self, Layer, located};
use super::{ConfigError, ConfigOptions, Loaded, extract};

/// A larger file is taken for a mistake.
const LARGEST: u64 = 1 << 20;

/// Which table it is, and which key names the file.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// A key at the top, such as `types_file`.
    pub key: &'static str,
    /// All that the file may hold: one table of tables, such as `types`.
    pub table: &'static str,
}

/// All layers as they were read, one of which may be replaced.
#[derive(Clone, Debug)]
pub struct Layers {
    layers: Vec<Layer>,
    part: Part,
    file: Option<PartFile>,
    /// The layer of `--config`.
    configuration: Option<usize>,
}

#[derive(Clone, Debug)]
struct PartFile {
    path: PathBuf,
    text: String,
    /// Which layer it is.
    index: usize,
}

impl Layers {
    /// Reads everything that [`super::load`] reads, and the file of `part` if a layer names one.
    ///
    /// # Errors
    /// What cannot be read, is no TOML, or has no business in the part's file.
    pub fn read(defaults: &str, options: &ConfigOptions, part: Part) -> Result<Self, ConfigError> {
        match Self::read_without_part(defaults, options, part)? {
            (read, None) => Ok(read),
            (read, Some(path)) => {
                let text = read_text(&path).map_err(|line| ConfigError { lines: vec![line] })?;
                read.insert(path, text)
            }
        }
    }

    /// The same without the part's file, and where that would be: for those who go on although it cannot be used.
    ///
    /// # Errors
    /// What cannot be read, or is no TOML.
    pub fn read_without_part(
        defaults: &str,
        options: &ConfigOptions,
        part: Part,
    ) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let layers = layers::read(defaults, options, std::env::vars_os())?;
        let configuration = options.file.is_some().then_some(1);
        let named = layers.iter().enumerate().rev();
        let named = named.filter_map(|(index, layer)| match layer.values.get(part.key) {
            Some(Value::String(_, path)) => Some((index, PathBuf::from(path))),
            _ => None,
        });
        let path = named.map(|(index, path)| match &options.file {
            // What a file names is looked for beside that file, wherever the process was started.
            Some(file) if Some(index) == configuration => {
                file.parent().unwrap_or(Path::new("")).join(path)
            }
            _ => path,
        });
        let path = path.into_iter().next();
        let read = Self {
            layers,
            part,
            file: None,
            configuration,
        };
        Ok((read, path))
    }

    fn insert(mut self, path: PathBuf, text: String) -> Result<Self, ConfigError> {
        let layer = self.check(&path, &text)?;
        // Over the files, under what the command line and the environment say.
        let index = 1 + usize::from(self.configuration.is_some());
        self.layers.insert(index, layer);
        self.file = Some(PartFile { path, text, index });
        Ok(self)
    }

    /// The part's file, if it has one.
    pub fn part_file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// What was in it when it was read.
    pub fn part_text(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.text.as_str())
    }

    /// The same layers with another text in the part's file.
    ///
    /// # Errors
    /// As for [`Layers::read`].
    pub fn with_part(&self, text: &str) -> Result<Self, ConfigError> {
        let mut other = self.clone();
        if let Some(mut file) = other.file.take() {
            other.layers[file.index] = self.check(&file.path, text)?;
            text.clone_into(&mut file.text);
            other.file = Some(file);
        }
        Ok(other)
    }

    /// Merges the layers.
    ///
    /// # Errors
    /// Each line names the source, the line in it, the key, what was found and what is allowed.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<Loaded<T>, ConfigError> {
        extract(self.layers.clone())
    }

    fn check(&self, path: &Path, text: &str) -> Result<Layer, ConfigError> {
        let table = self.part.table;
        let layer = layers::document(format!("file {}", path.display()), text);
        let layer = layer.map_err(|line| ConfigError { lines: vec![line] })?;
        let mut lines = Vec::new();
        let source = &layer.source;
        let line = |path: &[String], problem: &str| {
            let place = located(source, layer.positions.near(path));
            format!("{place}: {}: {problem}", super::describe::dotted(path))
        };
        for key in layer.values.keys().filter(|key| *key != table) {
            let only = format!("unknown key; this file holds [{table}.NAME] and nothing else");
            lines.push(line(std::slice::from_ref(key), &only));
        }
        let names = layer.values.get(table).and_then(Value::as_dict);
        let configuration = self.configuration.and_then(|at| self.layers.get(at));
        let beside = configuration.and_then(|layer| {
            let names = layer.values.get(table)?.as_dict()?;
            Some((layer, names))
        });
        for name in names.into_iter().flat_map(|names| names.keys()) {
            let path = [table.to_owned(), name.clone()];
            if let Some((other, names)) = &beside
                && names.contains_key(name)
            {
                let there = located(&other.source, other.positions.near(&path));
                lines.push(line(&path, &format!("is in {there} too: take one away")));
            }
        }
        if lines.is_empty() && names.is_none_or(|names| names.is_empty()) {
            lines.push(format!(
                "{source}: holds no [{table}.NAME]: add one, or leave {} out of the configuration",
                self.part.key
            ));
        }
        match lines.is_empty() {
            true => Ok(layer),
            false => Err(ConfigError { lines }),
        }
    }
}

/// Reads a file of bounded size.
///
/// # Errors
/// One line that names the file.
pub fn read_text(path: &Path) -> Result<String, String> {
    let refused = |problem: &str| format!("file {}: {problem}", path.display());
    let failed = |error: std::io::Error| refused(&format!("cannot be read: {error}"));
    // Opening a pipe would wait for somebody to write to it.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        return Err(refused("is not a file: allowed is TOML"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LARGEST + 1), &mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refused(&format!("is over {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text: allowed is TOML"))
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
