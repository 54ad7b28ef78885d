//! The vocabulary of Tidegate, free of I/O and of clocks.
//!
//! Data flows through these types in the order of a job's life: the gateway makes a [`JobId`], looks the
//! [`JobType`] up in its [`JobTypeSpec`], builds a [`JobMessage`] with [`RecordHeaders`] and produces it to one of
//! the [`Topics`], in a partition by [`placement`]; a worker follows its partitions with an [`OffsetTracker`], chooses
//! what runs next by [`fair`] shares and answers with [`JobEvent`]s; the projection folds those into a [`Status`] by
//! [`Status::on`]. What a failed attempt leads to says its [`RetryPolicy`]; what is due later waits on the [`Ladder`],
//! and so does what may not run here and now, for a [`parking::pause`]; that of a target which is down has a
//! [`BreakerPolicy`]. What is said of jobs beside their records is an [`Order`] on the control topic; jobs that it ends
//! are kept in mind as [`CalledOff`]. Whom the end of a job is told to says a [`FollowUpSpec`]; by e-mail that is from the
//! [`EmailSpec`] of its type, whose words are [`Template`]s.
//! The Avro form of the messages is in [`schema`].
#![warn(missing_docs)]

pub mod breaker;
pub mod called_off;
pub mod control;
pub mod email;
pub mod event;
pub mod fair;
pub mod follow_up;
pub mod handover;
pub mod headers;
pub mod id;
pub mod job;
pub mod job_type;
pub mod ladder;
pub mod media;
pub mod names;
pub mod parking;
pub mod pause;
pub mod placement;
pub mod retry;
pub mod retry_after;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod schema;
pub mod secret;
pub mod status;
pub mod template;
pub mod time;
pub mod topics;
pub mod tracker;

pub use breaker::BreakerPolicy;
pub use called_off::CalledOff;
pub use control::Order;
pub use email::{BadRecipients, EmailSpec, Recipients};
pub use event::{
    DeadLetter, DeadLetterPlace, EventKind, FaultSource, JobError, JobEvent, JobSummary, Outcome,
    Progress, Timings,
};
pub use follow_up::{BadEvents, CallbackEvent, EventFilter, FollowUpKind, FollowUpSpec};
pub use headers::{HeaderError, RecordHeaders};
pub use id::{JobId, MalformedId};
pub use job::{JobMessage, Pair, RequestInfo};
pub use job_type::{CallbackSpec, Content, HandlerSpec, JobTypeSpec, JobTypes, Mode};
pub use ladder::{BadLadder, Ladder};
pub use names::{BadName, JobType, Pool, Tenant, Tier, nearest};
pub use retry::{Attempt, RetryPolicy, Verdict};
pub use secret::Secret;
pub use status::{Status, Transition};
pub use template::{BadTemplate, Place, Template};
pub use time::{Millis, now_millis};
pub use topics::Topics;
pub use tracker::{OffsetTracker, Snapshot};
