//! The file of job types, and what is made of a text in it.

use std::fmt;
use std::path::PathBuf;

use tidegate_contract::JobTypes;

use crate::config::{Layers, Part};

/// What may stand in a file of its own.
pub const PART: Part = Part {
    key: "types_file",
    table: "types",
};

/// What makes types of a text: checked as a whole with the rest of the configuration, with one line a problem.
type Reader = Box<dyn Fn(&str) -> Result<JobTypes, String> + Send + Sync>;

/// The file of job types. It is read again and again; everything else stays as it was at the start.
pub struct TypesFile {
    /// Read by its name each time, so that a file or a link that takes its place is noticed.
    pub path: PathBuf,
    /// What was in it when it was read with everything else.
    pub text: String,
    read: Reader,
}

impl TypesFile {
    /// The one that the configuration names, if it does. `check` makes job types of all layers as at the start, one
    /// line a problem.
    pub fn of(
        layers: Layers,
        check: impl Fn(&Layers) -> Result<JobTypes, String> + Send + Sync + 'static,
    ) -> Option<Self> {
        let (path, text) = (layers.part_file()?, layers.part_text()?);
        Some(Self {
            path: path.to_owned(),
            text: text.to_owned(),
            read: Box::new(move |text| {
                let layers = layers.with_part(text);
                check(&layers.map_err(|error| error.to_string())?)
            }),
        })
    }

    /// All job types if this were in the file, checked as at the start.
    ///
    /// # Errors
    /// One line a problem, as at the start.
    pub fn types(&self, text: &str) -> Result<JobTypes, String> {
        (self.read)(text)
    }
}

impl fmt::Debug for TypesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypesFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
