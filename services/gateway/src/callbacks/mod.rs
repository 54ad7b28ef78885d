//! Callbacks: [`asking`] settles at the submit whom a job's end is told to, [`looking`] shows what became of it and sends
//! it again, [`endpoints`] does so for all that goes to one place. Sending is the notifier's.

mod asking;
pub mod endpoints;
pub mod looking;

use tidegate_store::StoreError;

#[cfg(test)]
pub use asking::Names;
pub use asking::{Callbacks, LOOKUP, Wanted};

use crate::problem::ApiError;

fn away(error: StoreError) -> ApiError {
    tracing::warn!(%error, "callbacks cannot be looked at");
    ApiError::StoreUnavailable("callbacks cannot be looked at now".to_owned())
}
