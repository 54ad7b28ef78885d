//! The delay ladder: retries and delayed jobs go back when they are due.
//!
//! Data flows like this: a `rung` task per delay reads its topic. What a record says of itself is judged from its headers
//! alone (`judge`): when it leaves the rung, and where to. The record at the head of a partition is the next to move: a
//! partition whose head is not due soon is paused, and what is due soon waits in a bounded heap (`held`). When its time
//! has come a record is produced to the next rung or to its target (`forward`), and only when that is acknowledged is
//! its offset done (`lines`), which the rung commits below the watermark. A record whose job is called off (`orders`) is done
//! where it lies. What cannot be read goes to the dead letters (`unreadable`).
//!
//! The values are passed on as bytes: nothing of a job is decoded here. Any number of schedulers share the partitions
//! of each rung.
#![warn(missing_docs)]

mod forward;
mod held;
mod judge;
mod lifecycle;
mod lines;
mod orders;
mod rung;
mod scheduler;
mod settings;
mod unreadable;

pub use scheduler::{Scheduler, SchedulerConfig, SchedulerError};
pub use settings::{BadSetting, SchedulerSettings};
