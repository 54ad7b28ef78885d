//! Callbacks: [`asking`] settles at the submit whom a job's end is told to, [`looking`] shows what became of it and sends
//! it again, [`endpoints`] does so for all that goes to one place. Sending is the notifier's.

mod asking;
pub mod endpoints;
pub mod looking;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use tidegate_contract::FollowUpKind;
use tidegate_store::StoreError;

#[cfg(test)]
pub use asking::Names;
pub use asking::{Callbacks, LOOKUP, Wanted};

use crate::problem::{ApiError, clip};

fn away(error: StoreError) -> ApiError {
    tracing::warn!(%error, "callbacks cannot be looked at");
    ApiError::StoreUnavailable("callbacks cannot be looked at now".to_owned())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> ApiError {
    ApiError::MalformedBody(clip(why))
}

/// `kind` in a body; all kinds without it.
fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FollowUpKind>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let known = || D::Error::custom("`kind` is `callback` or `email`");
    FollowUpKind::of(&name).ok_or_else(known).map(Some)
}
