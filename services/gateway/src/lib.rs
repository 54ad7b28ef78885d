//! The gateway: HTTP in, replies back.
//!
//! A request comes in through [`observe`] (its span and metrics) to the handlers that [`server`] names. [`submit`]
//! makes a job of it, opens a [`waits`] entry if the client waits, and hands the record to Kafka; a task of its own
//! takes the acknowledgement and makes the job's row, whatever becomes of the connection. [`replies`] reads the
//! partitions that Kafka's group gives this gateway, completes the waits and projects every event into the store,
//! from which [`status`] and [`result`] answer. What a request is told instead of what it wanted is in [`problem`].
//!
//! The handlers know Kafka, store and replies only as an [`engine::Engine`]: [`live`] is the real one. [`app`] builds
//! a gateway, [`bringup`] gets its dependencies up one by one, and [`app`] stops it in order. [`rebuild`] fills an empty
//! store with what the projection makes of the whole log.

mod app;
mod auth;
mod bringup;
mod docs;
mod engine;
mod json_body;
mod last_call;
mod live;
mod observe;
mod options;
mod prefer;
mod problem;
mod purge;
mod reason;
pub mod rebuild;
pub mod replies;
mod result;
mod routes;
mod server;
mod settings;
mod state;
mod status;
mod submit;
mod types;
pub mod waits;

pub use app::{Gateway, GatewayConfig};
pub use settings::{ApiKey, AuthSettings, GatewayError, GatewaySettings, RouteKind, RouteSettings};

#[cfg(test)]
mod tests;
