//! Where callbacks may go. A gateway checks the text of a callback URL ([`CallbackRules`]) and the addresses that its
//! name stands for when it takes a job; a notifier checks both again at every attempt, and connects to no other address
//! than one that it has checked ([`Resolver`]).
#![warn(missing_docs)]

mod address;
mod resolve;
mod settings;
mod url;

pub use address::{BadNetwork, Forbidden, Policy, Rule};
pub use resolve::{Lookup, ResolveError, Resolver, Shared, SystemLookup};
pub use settings::{BadCallbacks, CallbackSettings, TenantCallbacks, check_configured};
pub use url::{BadUrl, CallbackRules};
