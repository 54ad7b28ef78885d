//! Why a call of the store failed.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// A failure of the store. No text here carries a password, a payload or a header of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is away or too slow: the same call may succeed later. After a write it is not known whether it
    /// was made; every write may be repeated.
    #[error("store is unavailable: {0}")]
    Unavailable(String),
    /// Another process uses the database.
    #[error("{0}")]
    Locked(String),
    /// What is stored cannot be understood.
    #[error("store is corrupt: {0}")]
    Corrupt(String),
    /// The database answered and will not take this.
    #[error("store refused: {0}")]
    Refused(String),
    /// The settings or the database's tables are not for this program, or a call makes no sense.
    #[error("{0}")]
    Settings(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Locked(_))
    }
}

/// A failure inside a backend.
#[derive(Debug)]
pub(crate) struct Fault {
    pub error: StoreError,
    /// Two transactions were in each other's way and this one was given up: worth another try at once.
    pub conflict: bool,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self {
            error,
            conflict: false,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let conflict = match &error {
            sqlx::Error::Database(database) => {
                matches!(database.code().as_deref(), Some("40001" | "40P01"))
            }
            _ => false,
        };
        Self {
            error: error.into(),
            conflict,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => from_database(error.as_ref()),
            sqlx::Error::Io(error) => StoreError::Unavailable(error.to_string()),
            sqlx::Error::Tls(_) => StoreError::Unavailable("no TLS connection".to_owned()),
            sqlx::Error::PoolTimedOut => {
                StoreError::Unavailable("no connection in time".to_owned())
            }
            sqlx::Error::PoolClosed => StoreError::Unavailable("it was closed".to_owned()),
            sqlx::Error::ColumnDecode { index, .. } => {
                StoreError::Corrupt(format!("column {index} does not read back"))
            }
            sqlx::Error::Decode(_) => StoreError::Corrupt("a value does not read back".to_owned()),
            sqlx::Error::ColumnNotFound(name) => {
                StoreError::Settings(format!("the store's tables have no column {name}"))
            }
            // Its text may repeat what was to be written.
            sqlx::Error::Encode(_) => StoreError::Refused("a value cannot be encoded".to_owned()),
            sqlx::Error::Migrate(error) => (*error).into(),
            // Whatever else: hold the place rather than pass over events for an unknown reason.
            other => StoreError::Unavailable(short(&other.to_string())),
        }
    }
}

/// Only what is known to be about the data counts as refused: a projection drops what is refused, and it must not
/// drop anything because a disk is full.
fn from_database(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let message = format!("{} (code {code})", short(error.message()));
    if error
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .is_some()
    {
        return from_sqlite(code.parse().unwrap_or(0), message);
    }
    match code.get(..2).unwrap_or_default() {
        // data exception, integrity, program limit, raised by a trigger
        "22" | "23" | "54" | "P0" => StoreError::Refused(message),
        // login, catalogue, syntax: missing tables are the common one
        "28" | "3D" | "42" => StoreError::Settings(format!("postgres: {message}")),
        _ => StoreError::Unavailable(message),
    }
}

/// By the primary result code: <https://www.sqlite.org/rescode.html>.
fn from_sqlite(code: i32, message: String) -> StoreError {
    match code & 0xff {
        // TOOBIG, CONSTRAINT, MISMATCH
        18..=20 => StoreError::Refused(message),
        // CORRUPT, NOTADB
        11 | 26 => StoreError::Corrupt(message),
        _ => StoreError::Unavailable(message),
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) => StoreError::Settings(format!(
                "the store's tables are of a later version (migration {version}): upgrade this tidegate"
            )),
            MigrateError::VersionMismatch(version) => StoreError::Settings(format!(
                "the store's tables were not made by this tidegate (migration {version} differs): use another database"
            )),
            other => StoreError::Settings(format!(
                "the store's tables cannot be brought up to date: {}",
                short(&other.to_string())
            )),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_data_are_refusals() {
        let of = |code| from_sqlite(code, String::new());
        assert_eq!(of(19), StoreError::Refused(String::new()));
        assert_eq!(of(1811), StoreError::Refused(String::new())); // a trigger raised
        assert_eq!(of(5), StoreError::Unavailable(String::new())); // busy
        assert_eq!(of(13), StoreError::Unavailable(String::new())); // disk full
        assert_eq!(of(11), StoreError::Corrupt(String::new()));
        assert!(of(5).is_transient() && !of(19).is_transient());
    }
}
