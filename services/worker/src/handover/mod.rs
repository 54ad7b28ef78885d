//! Jobs that run on when their partition moves: who runs them says so, and who has the partition leaves them alone.
//!
//! A worker that gives a partition up names what of it runs in its last commit, and from then on in *beats* on the
//! control topic ([`given`] keeps what they say, [`tell`] says it) until the last such job has ended. The next owner
//! holds these records back ([`away`]) for as long as beats name them as running ([`heard`]); then they are done, or
//! its own to run. See docs/decisions/0018-handed-over-by-beats.md.

pub(crate) mod away;
pub(crate) mod given;
pub(crate) mod heard;
pub(crate) mod tell;

/// A beat is missed a few times before its worker is taken for gone: a broker that restarts, a machine that is busy.
pub(crate) const MISSED: u32 = 5;
