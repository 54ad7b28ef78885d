//! Jobs in, outcomes out.
//!
//! Data flows like this: an `intake` per lane (pool and tier) reads records, decodes and judges them (`work`) and
//! puts them in line in its `lane`, which follows their offsets. The `dispatch`er gives each free slot to the
//! lane whose turn it is (`choose`). An execution (`execute`) runs one `attempt` at the job with its
//! [`handler`], builds what is to be said of it (`events`), sends it until it is acknowledged (`outbox`), and
//! only then completes the offset, which the intake commits below the watermark. Beside that path, what cannot be
//! read goes to the dead letters (`unreadable`) and what is not known here goes to somebody else (`hand_on`).
//! `types` puts other job types in force while all this goes on.
//!
//! A worker of one's own is an [`App`] with a [`Handler`] or a [`typed()`] function; a [`testkit`] runs either in tests.
//! What an author of handlers needs of the other crates is exported here too.
#![warn(missing_docs)]

pub mod app;
mod attempt;
mod choose;
mod context;
mod dispatch;
mod events;
mod execute;
mod hand_on;
pub mod handler;
mod handlers;
mod held;
mod intake;
mod lane;
mod lifecycle;
mod outbox;
mod replies;
mod settings;
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
pub use settings::{BadSetting, TierWeights, WorkerSettings};
pub use tidegate_contract::{
    EventKind, FaultSource, JobError, JobEvent, JobId, JobMessage, JobType, Outcome, Pair, Pool,
    Progress, RequestInfo, Tenant, Tier,
};
pub use typed::{Typed, typed};
pub use worker::{Worker, WorkerConfig, WorkerError};
