//! Where the database is, and the lock that keeps it to one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// What a `sqlite:` URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Memory,
    File(PathBuf),
}

impl Location {
    pub fn of(url: &str) -> Result<Self, StoreError> {
        let path = url.strip_prefix("sqlite:").unwrap_or(url);
        if path == ":memory:" {
            return Ok(Location::Memory);
        }
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '\0']) {
            let reason = "store.url is not of the form sqlite:PATH or sqlite::memory:";
            return Err(StoreError::Settings(reason.to_owned()));
        }
        Ok(Location::File(PathBuf::from(path)))
    }
}

/// A lock of the operating system on a file next to the database; it ends with the process at the latest.
///
/// SQLite itself lets several processes in, but two gateways on one file would fight for its one writer.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let unusable = |error: std::io::Error| {
            StoreError::Settings(format!("cannot use {}: {error}", path.display()))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(database, &mut file)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for the sentence that the next one gets.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn locked(database: &Path, file: &mut File) -> StoreError {
    let mut holder = String::new();
    let _ = file.take(20).read_to_string(&mut holder);
    let holder = match holder.trim().parse::<u32>() {
        Ok(process) => format!("process {process}"),
        Err(_) => "another process".to_owned(),
    };
    StoreError::Locked(format!(
        "{} is in use by {holder}: stop that one, or share a PostgreSQL (store.url = \"postgres://...\")",
        database.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file_or_memory() {
        let file = |path: &str| Ok(Location::File(PathBuf::from(path)));
        assert_eq!(Location::of("sqlite::memory:"), Ok(Location::Memory));
        assert_eq!(Location::of("sqlite:data/jobs.db"), file("data/jobs.db"));
        assert_eq!(Location::of("sqlite:///var/jobs.db"), file("/var/jobs.db"));
        assert!(Location::of("sqlite:").is_err());
        assert!(Location::of("sqlite:jobs.db?mode=ro").is_err());
    }

    #[test]
    fn the_second_one_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("new/jobs.db");
        let first = FileLock::take(&database).unwrap();
        let error = FileLock::take(&database).unwrap_err();
        let holder = format!("is in use by process {}", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
        drop(first);
        FileLock::take(&database).unwrap();
    }
}
