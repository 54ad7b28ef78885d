//! The commands of the documentation, run as a reader would type them.
//!
//! A block of `console` or `sh` says in a comment above it how it is tested ([`blocks`]):
//!
//! | comment | what is done |
//! |---|---|
//! | `<!-- test: dev -->` | run beside a `tidegate dev`, which all pages share |
//! | `<!-- test: servers -->` | run beside a Kafka, a registry and a PostgreSQL, which all pages share |
//! | `<!-- test: shell -->` | run with nothing beside it |
//! | `<!-- test: dev, until -->` | each command is repeated until it prints what the page says; also with the others |
//! | `<!-- test: dev-output -->` | on a `text` block: what `scripts/dev` prints at its start |
//! | `<!-- test: elsewhere FILE… -->` | these files of the repository run the commands: each stands in one of them, as it is or by its arguments (`"jobs", "show"`) |
//! | `<!-- test: containers -->` | not run: it needs a container engine |
//!
//! All blocks of one page that run beside the same thing share one shell ([`session`]). In a `console` block, lines
//! after `$ ` are typed and the others are what is printed, up to ids, times and ports ([`compare`]); an id or a
//! port that was printed stands for the real one in the commands below. In a `sh` block every command must succeed.

pub mod blocks;
pub mod compare;
mod page;
mod session;

pub use page::Documentation;

use std::path::{Path, PathBuf};

/// The README and every page of the book.
pub fn pages(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md")];
    collect(&root.join("docs"), &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}
