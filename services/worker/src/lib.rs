//! Jobs in, outcomes out.
//!
//! Data flows like this: an [`intake`] per lane (pool and tier) reads records, decodes and judges them ([`work`]) and
//! puts them in line in its [`lane`], which follows their offsets. The [`dispatch`]er gives each free slot to the
//! lane whose turn it is ([`choose`]). An execution ([`execute`]) runs one [`attempt`] at the job with its
//! [`handler`], builds what is to be said of it ([`events`]), sends it until it is acknowledged ([`outbox`]), and
//! only then completes the offset, which the intake commits below the watermark. Beside that path, what cannot be
//! read goes to the dead letters ([`unreadable`]) and what is not known here goes to somebody else ([`hand_on`]).
//!
//! A worker of one's own is a [`Handler`] registered in [`Handlers`] and given to [`Worker::build`]; see [`handler`]
//! for an example.

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
mod throttle;
mod unreadable;
mod work;
mod worker;

pub use context::{JobContext, PARTIAL_LIMIT};
pub use handler::{Handler, Handlers, JobFailure, outcome};
pub use handlers::BadHandler;
pub use settings::{BadSetting, TierWeights, WorkerSettings};
pub use worker::{Worker, WorkerConfig, WorkerError};
