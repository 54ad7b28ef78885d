//! The gateway: HTTP in, replies back.
//!
//! A request comes in through [`observe`] (its span and metrics) to the handlers that [`server`] names. [`submit`]
//! makes a job of it, opens a [`waits`] entry if the client waits, and hands the record to Kafka, in the partition that
//! [`placing`] chooses; a task of its own
//! takes the acknowledgement and makes the job's row, whatever becomes of the connection. [`replies`] reads the
//! partitions that Kafka's group gives this gateway, completes the waits and projects every event into the store,
//! from which [`status`], [`result`] and [`listing`] answer. What a request is told instead of what it wanted is in [`problem`].
//!
//! The handlers know Kafka, store and replies only as an [`engine::Engine`]: [`live`] is the real one. [`app`] builds
//! a gateway, [`bringup`] gets its dependencies up one by one, and [`app`] stops it in order. [`rebuild`] fills an empty
//! store with what the projection makes of the whole log.

mod app;
mod auth;
mod backlogs;
mod bringup;
mod callbacks;
mod cancel;
mod catalog;
mod dead_letters;
mod docs;
mod engine;
mod erasing;
mod events;
mod json_body;
mod last_call;
mod listing;
mod live;
mod long_poll;
mod observe;
mod options;
mod pauses;
mod pausing;
mod placing;
mod prefer;
mod problem;
mod purge;
mod query;
mod reason;
pub mod rebuild;
pub mod replies;
mod result;
mod routes;
mod server;
mod settings;
mod state;
mod status;
mod streams;
mod submit;
mod sweep;
mod tenants;
mod types;
mod usual;
pub mod waits;
mod watch;

pub use app::{Gateway, GatewayConfig};
pub use settings::{ApiKey, AuthSettings, GatewayError, GatewaySettings, RouteKind, RouteSettings};

#[cfg(test)]
mod tests;
