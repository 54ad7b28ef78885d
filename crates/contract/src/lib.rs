//! The vocabulary of Tidegate, free of I/O and of clocks.
//!
//! Data flows through these types in the order of a job's life: the gateway makes a [`JobId`], looks the
//! [`JobType`] up in its [`JobTypeSpec`], builds a [`JobMessage`] with [`RecordHeaders`] and produces it to one of
//! the [`Topics`]; a worker follows its partitions with an [`OffsetTracker`] and answers with [`JobEvent`]s; the
//! projection folds those into a [`Status`] by [`Status::on`]. The Avro form of the messages is in [`schema`].
#![warn(missing_docs)]

pub mod event;
pub mod headers;
pub mod id;
pub mod job;
pub mod job_type;
pub mod names;
pub mod schema;
pub mod secret;
pub mod status;
pub mod time;
pub mod topics;
pub mod tracker;

pub use event::{
    DeadLetter, EventKind, FaultSource, JobError, JobEvent, JobSummary, Outcome, Progress, Timings,
};
pub use headers::{HeaderError, RecordHeaders};
pub use id::{JobId, MalformedId};
pub use job::{JobMessage, Pair, RequestInfo};
pub use job_type::{Content, HandlerSpec, JobTypeSpec, JobTypes, Mode};
pub use names::{BadName, JobType, Pool, Tenant, Tier, nearest};
pub use secret::Secret;
pub use status::{Status, Transition};
pub use time::{Millis, now_millis};
pub use topics::Topics;
pub use tracker::OffsetTracker;
