//! Jobs in, outcomes out.
//!
//! Data flows like this: an `intake` per lane (pool and tier) reads records, decodes and judges them (`work`) and
//! puts them in line in its `lane`, which follows their `offsets`: what the last owner knew of a partition is
//! `read_back` before its first record is handed out. The `dispatch`er starts what the `desk` says is next: a
//! free slot, a lane and a tenant whose turn it is, and no limit that is reached. An execution (`execute`) asks the
//! `guard` against poison, runs one `attempt` at the job with its [`handler`], settles what follows a failure (`settle`:
//! the next attempt, or a dead letter by `bury`), builds what is to be said of it (`events`), sends it until it is
//! acknowledged (`outbox`), and only then completes the offset, which the intake commits below the watermark. Beside that path, what cannot be
//! read goes to the dead letters (`unreadable`) and what may not run here is parked on the delay ladder (`park`).
//! `orders` takes from the control topic which jobs are called off, and `control` keeps
//! them from being begun and ends those that run. `types` puts other job types in force while all this goes on.
//!
//! A worker of one's own is an [`App`] with a [`Handler`] or a [`typed()`] function; a [`testkit`] runs either in tests.
//! What an author of handlers needs of the other crates is exported here too.
#![warn(missing_docs)]

mod admit;
pub mod app;
mod attempt;
mod bury;
mod context;
mod control;
mod decoding;
mod desk;
mod dispatch;
mod events;
mod execute;
mod guard;
pub mod handler;
mod handlers;
mod handover;
mod held;
mod intake;
mod lane;
mod lifecycle;
mod offsets;
mod orders;
mod outbox;
mod park;
mod read_back;
mod replies;
mod settings;
mod settle;
mod spans;
#[cfg(test)]
mod testing;
pub mod testkit;
mod throttle;
mod typed;
mod types;
mod unreadable;
mod work;
mod worker;

pub use app::App;
pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use context::{JobContext, PARTIAL_LIMIT};
pub use handler::{Handler, Handlers, JobFailure, outcome};
pub use handlers::BadHandler;
pub use settings::{BadSetting, ReservedSlots, TierWeights, WorkerSettings};
pub use tidegate_contract::{
    EventKind, FaultSource, JobError, JobEvent, JobId, JobMessage, JobType, Outcome, Pair, Pool,
    Progress, RequestInfo, Tenant, Tier,
};
pub use typed::{Typed, typed};
pub use worker::{Worker, WorkerConfig, WorkerError};
