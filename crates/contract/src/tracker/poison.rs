//! Which records of a partition may have killed the process that ran them, and with what care they are run again.
//!
//! A handler that aborts its process leaves no event behind, only a commit without a farewell. This is what can be
//! told from such commits. It is deliberately slow to suspect, because most ends of this kind are nobody's fault
//! (a machine, an operator, the memory of a neighbour):
//!
//! | unclean ends while the same records were open | what the next owner does |
//! |---|---|
//! | 0 | starts records as they come |
//! | 1 | announces: no record is started before a commit is acknowledged that says so |
//! | 2 or more | the records that were announced as running are *suspects*: each is run alone, marked in a commit |
//!
//! Alone means that no other handler runs in the whole process, but for those that have run for longer than
//! [`ALONE`]. A suspect that has run for that long is let go: the mark is taken back, and others run beside it. If the
//! process ends while the mark stands, the record is *marked* from then on, and is only ever started again when really
//! nothing else runs. Only if the process ends while it ran like that does it count; with [`CRASHES`] such ends it
//! is poison. A record that others run beside never carries a mark, so whatever kills a process then, an innocent
//! record pays nothing but a wait.
//!
//! **The bound.** Every commit reaches [`RESERVE`] offsets beyond what was delivered, and the count of unclean ends
//! falls back to nothing only when the watermark has passed the reach of the last one. A poison record that kills
//! within [`ALONE`] of its start is never passed, so its count never falls back: the first crash teaches to announce,
//! the second makes it a suspect, a third may come while longer-running jobs are about, then [`CRASHES`] come while it
//! is alone. That is at most [`MOST_CRASHES`]. Where it kills later than that, the time that a suspect is alone
//! doubles with each unclean end from the fifth on, up to [`ALONE`]·64, which adds one crash per doubling.

use std::collections::BTreeMap;
use std::time::Duration;

use super::offsets::Offsets;
use super::wire::{self, Reader, Torn};

/// How long a suspect runs before it no longer holds others up.
pub const ALONE: Duration = Duration::from_secs(5);

/// Ends of the process, while a record ran alone, that make it poison.
pub const CRASHES: u8 = 3;

/// The most crashes that a record costs which kills its process within [`ALONE`] of its start.
pub const MOST_CRASHES: u32 = 3 + CRASHES as u32;

/// How far beyond the highest offset delivered a commit reaches: it must be repeated before more than that is begun.
pub const RESERVE: i64 = 4096;

/// From this many unclean ends on the time alone doubles with each: by then it was no accident.
const PATIENCE: u32 = 4;
/// No more than so many doublings.
const DOUBLINGS: u32 = 6;
/// How many marked records are kept. One is added by an unclean end at most.
const MARKED: usize = 64;

/// With what care a record is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// As it comes.
    None,
    /// Only when a commit that has it among the running ones is acknowledged.
    Announce,
    /// Alone and marked.
    Alone {
        /// Really nothing else may run: the process has ended before while this record was marked.
        strictly: bool,
        /// After this time it is let go.
        hold: Duration,
    },
    /// Not any more: the process has ended so many times while it ran alone.
    Poison {
        /// How often.
        crashes: u8,
    },
}

/// The record that a process runs alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// Whether nothing at all ran beside it.
    pub alone: bool,
}

/// What is suspected in a partition. It travels in the commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspicion {
    /// Unclean ends since the watermark last passed the horizon.
    falls: u32,
    /// Whatever may have been begun before the last unclean end lies below.
    horizon: i64,
    /// Announced as running at an unclean end. May hold more than that, never less.
    suspects: Offsets,
    /// Marked at an unclean end, with how many of those count.
    marked: BTreeMap<i64, u8>,
    mark: Option<Mark>,
}

impl Suspicion {
    /// The last owner went without a farewell: `running` had begun of which `is_done` is not known, and nothing at or
    /// above `horizon`.
    pub(super) fn fell(&mut self, running: &Offsets, horizon: i64, is_done: impl Fn(i64) -> bool) {
        self.falls = self.falls.saturating_add(1);
        self.horizon = self.horizon.max(horizon);
        if let Some(mark) = self.mark.take()
            && !is_done(mark.offset)
        {
            let crashes = self.marked.entry(mark.offset).or_default();
            *crashes = crashes.saturating_add(u8::from(mark.alone));
        }
        if self.falls > 1 {
            for (start, end) in running.runs() {
                self.suspects.insert_run(start, end);
            }
        }
    }

    /// The last owner said farewell: nothing speaks against what it ran.
    pub(super) fn handed_over(&mut self) {
        self.mark = None;
    }

    /// With what care to start a record.
    pub fn care(&self, offset: i64) -> Care {
        let hold = ALONE * 2u32.pow(self.falls.saturating_sub(PATIENCE).min(DOUBLINGS));
        match self.marked.get(&offset) {
            Some(&crashes) if crashes >= CRASHES => Care::Poison { crashes },
            Some(_) => Care::Alone {
                strictly: true,
                hold,
            },
            None if self.suspects.contains(offset) => Care::Alone {
                strictly: false,
                hold,
            },
            None if self.falls > 0 => Care::Announce,
            None => Care::None,
        }
    }

    /// The record that runs alone.
    pub(super) fn set_mark(&mut self, mark: Mark) {
        self.mark = Some(mark);
    }

    /// Whether the mark was on this record.
    pub(super) fn unmark(&mut self, offset: i64) -> bool {
        self.mark.take_if(|mark| mark.offset == offset).is_some()
    }

    /// Unclean ends that are remembered.
    pub fn falls(&self) -> u32 {
        self.falls
    }

    /// A record is done.
    pub(super) fn done(&mut self, offset: i64) {
        self.suspects.remove(offset);
        self.marked.remove(&offset);
        self.unmark(offset);
    }

    /// All below the watermark is done.
    pub(super) fn passed(&mut self, watermark: i64) {
        if self.falls > 0 && watermark >= self.horizon {
            *self = Self::default();
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, base: i64, room: usize) {
        wire::put(out, u64::from(self.falls));
        if self.falls == 0 {
            return;
        }
        let begin = out.len();
        wire::put(out, base.abs_diff(self.horizon.max(base)));
        let mark = self.mark.filter(|mark| mark.offset >= base);
        wire::put(out, mark.map_or(0, |mark| 1 + u64::from(mark.alone)));
        if let Some(mark) = mark {
            wire::put(out, base.abs_diff(mark.offset));
        }
        let marked = self.marked.range(base..);
        // The worst first, should there ever be more than can be kept.
        let mut marked: Vec<_> = marked
            .map(|(offset, crashes)| (*crashes, *offset))
            .collect();
        marked.sort_unstable_by_key(|(crashes, offset)| (u8::MAX - crashes, *offset));
        marked.truncate(MARKED);
        wire::put(out, marked.len() as u64);
        for (crashes, offset) in marked {
            out.push(crashes);
            wire::put(out, base.abs_diff(offset));
        }
        let room = room.saturating_sub(out.len() - begin);
        let mut suspects = self.suspects.clone();
        suspects.remove_below(base);
        super::metadata::write_covering(&suspects, out, base, room);
    }

    pub(super) fn read(from: &mut Reader<'_>, base: i64) -> Result<Self, Torn> {
        let falls = u32::try_from(from.number()?).map_err(|_| Torn)?;
        if falls == 0 {
            return Ok(Self::default());
        }
        let horizon = wire::forth(base, from.number()?)?;
        let mark = match from.number()? {
            0 => None,
            how @ 1..=2 => Some(Mark {
                offset: wire::forth(base, from.number()?)?,
                alone: how == 2,
            }),
            _ => return Err(Torn),
        };
        let mut marked = BTreeMap::new();
        for _ in 0..from.number()? {
            let crashes = from.byte()?;
            marked.insert(wire::forth(base, from.number()?)?, crashes);
        }
        Ok(Self {
            falls,
            horizon,
            suspects: Offsets::read(from, base)?,
            marked,
            mark,
        })
    }
}
