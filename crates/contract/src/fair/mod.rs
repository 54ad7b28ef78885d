//! Whose turn it is. Pure: no clock, no I/O, nothing that waits.
//!
//! A worker has a number of [`Slots`] and several lanes (a lane is one pool and tier), each with a [`Line`] of what it
//! has read ahead. A [`Chooser`] says which lane fills a free slot: first those whose tier has fewer jobs running than
//! slots reserved, then any, by weighted [`Shares`]. Within a lane the [`Line`] goes from tenant to tenant by deficit
//! round robin, and passes over what its [`Limits`] do not let run now. Before the line stand the [`Keys`], which let one job
//! of a serial key through at a time. [`heavy`] and [`light`] say which partitions fill a
//! look-ahead, so that the others are still read.
//!
//! What follows from that for the longest wait of a job is derived in `docs/fairness.md`; `tests/fairness.rs` simulates
//! it with these very types.

mod chooser;
mod keys;
mod limits;
mod line;
mod reading;
mod shares;
mod slots;

pub use chooser::Chooser;
pub use keys::{Keys, SerialKey};
pub use limits::Limits;
pub use line::Line;
pub use reading::{heavy, light};
pub use shares::Shares;
pub use slots::{Slots, TierSlots};
