//! Beats: what a worker says on the control topic of the jobs that it runs on partitions that it has given up.
//!
//! The key `worker:NUMBER` is one per process, so that compaction keeps the last word. Every beat is complete: what it
//! does not name any more has ended without an outcome, or was never begun. Headers say all of it. Pure.

use std::collections::BTreeMap;

use crate::headers::{DONE, EVENT, RUNNING, RecordHeaders};
use crate::tracker::Offsets;

const PREFIX: &str = "worker:";
const BEAT: &str = "beat";

/// Records by topic and partition.
pub type Spots = BTreeMap<(String, i32), Offsets>;

/// What a worker says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Their handlers run, or their outcomes are on the way.
    pub running: Spots,
    /// Their outcomes are acknowledged; named for a while.
    pub done: Spots,
}

/// The key of a process's beats.
pub fn key(owner: u64) -> String {
    format!("{PREFIX}{owner:016x}")
}

/// The process that a key on the control topic names, if it is one of a process. `Some(None)`: of no possible one.
pub fn owner_of_key(key: &[u8]) -> Option<Option<u64>> {
    let number = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
    Some(u64::from_str_radix(number, 16).ok())
}

impl Beat {
    /// The headers of its record.
    pub fn headers(&self) -> RecordHeaders {
        let mut headers = RecordHeaders::new();
        headers.set(EVENT, BEAT);
        for (name, spots) in [(RUNNING, &self.running), (DONE, &self.done)] {
            if !spots.is_empty() {
                headers.set(name, text(spots));
            }
        }
        headers
    }

    /// What headers say; `None` for what this version does not know or cannot read.
    pub fn read(headers: &RecordHeaders) -> Option<Self> {
        if headers.get(EVENT)? != BEAT {
            return None;
        }
        Some(Self {
            running: spots(headers.get(RUNNING).unwrap_or_default())?,
            done: spots(headers.get(DONE).unwrap_or_default())?,
        })
    }
}

/// `jobs.normal/3:17,20-29 jobs.low/0:4`: the last offset of a run is in it.
fn text(spots: &Spots) -> String {
    let of_each = spots.iter().map(|((topic, partition), offsets)| {
        let runs = offsets.runs().map(|(first, end)| match end - 1 {
            last if last == first => first.to_string(),
            last => format!("{first}-{last}"),
        });
        let runs: Vec<_> = runs.collect();
        format!("{topic}/{partition}:{}", runs.join(","))
    });
    of_each.collect::<Vec<_>>().join(" ")
}

fn spots(text: &str) -> Option<Spots> {
    let mut spots = Spots::new();
    for one in text.split_ascii_whitespace() {
        let (place, runs) = one.split_once(':')?;
        let (topic, partition) = place.rsplit_once('/')?;
        let offsets: &mut Offsets = spots
            .entry((topic.to_owned(), partition.parse().ok()?))
            .or_default();
        for run in runs.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
            offsets.insert_run(first, last.checked_add(1)?);
        }
    }
    Some(spots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    fn any_spots() -> impl Strategy<Value = Spots> {
        let offsets = btree_set(0..40i64, 1..12).prop_map(|set| {
            let mut offsets = Offsets::new();
            set.into_iter().for_each(|offset| offsets.insert(offset));
            offsets
        });
        btree_map(("[a-z._-]{1,9}", 0..70i32), offsets, 0..4)
    }

    #[test]
    fn a_beat_is_text_that_people_can_read() {
        let mut beat = Beat::default();
        let place = ("tidegate.jobs.normal".to_owned(), 3);
        beat.running.entry(place).or_default().insert_run(20, 30);
        let headers = beat.headers();
        assert_eq!(
            (headers.get(RUNNING), headers.get(DONE)),
            (Some("tidegate.jobs.normal/3:20-29"), None)
        );
    }

    #[test]
    fn keys_name_processes_and_nothing_else() {
        assert_eq!(owner_of_key(key(7).as_bytes()), Some(Some(7)));
        assert_eq!(owner_of_key(key(u64::MAX).as_bytes()), Some(Some(u64::MAX)));
        assert_eq!(owner_of_key(b"worker:everybody"), Some(None));
        for strange in [
            &b"0190a6b8-0000-7000-8000-000000000000"[..],
            b"",
            b"type:a",
            b"\xff",
        ] {
            assert_eq!(owner_of_key(strange), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_beat() {
        for strange in [
            "x",
            "x/1",
            "x/1:",
            "x/one:2",
            "1:2",
            "x/1:a",
            "x/1:1-9223372036854775807",
        ] {
            let mut headers = Beat::default().headers();
            headers.set(RUNNING, strange);
            assert_eq!(Beat::read(&headers), None, "{strange}");
        }
        let mut headers = Beat::default().headers();
        headers.remove(RUNNING);
        assert_eq!(Beat::read(&headers), Some(Beat::default()));
        headers.set(EVENT, "cancelled");
        assert_eq!(Beat::read(&headers), None);
    }

    proptest! {
        #[test]
        fn a_beat_is_read_as_it_was_written(running in any_spots(), done in any_spots()) {
            let beat = Beat { running, done };
            prop_assert_eq!(Beat::read(&beat.headers()), Some(beat));
        }
    }
}
