//! A set of offsets as runs, and its compact form.

use std::collections::BTreeMap;

use super::wire::{self, Reader, Torn};

/// A set of offsets, kept as runs: a million offsets in a row cost as much as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// First offset of a run, and the one after its last. Runs neither overlap nor touch.
    runs: BTreeMap<i64, i64>,
}

impl Offsets {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one offset.
    pub fn insert(&mut self, offset: i64) {
        self.insert_run(offset, offset.saturating_add(1));
    }

    /// Adds the offsets from `start` to before `end`.
    pub fn insert_run(&mut self, mut start: i64, mut end: i64) {
        if start >= end {
            return;
        }
        // The last run that begins at or before the new one may reach up to it or beyond.
        if let Some((&first, &last)) = self.runs.range(..=start).next_back()
            && last >= start
        {
            start = first;
            end = end.max(last);
        }
        while let Some((&first, &last)) = self.runs.range(start..=end).next() {
            self.runs.remove(&first);
            end = end.max(last);
        }
        self.runs.insert(start, end);
    }

    /// Takes one offset out.
    pub fn remove(&mut self, offset: i64) {
        let Some((&start, &end)) = self.runs.range(..=offset).next_back() else {
            return;
        };
        if offset >= end {
            return;
        }
        self.runs.remove(&start);
        if start < offset {
            self.runs.insert(start, offset);
        }
        if offset + 1 < end {
            self.runs.insert(offset + 1, end);
        }
    }

    /// Takes out everything below `offset`.
    pub fn remove_below(&mut self, offset: i64) {
        while let Some((&start, &end)) = self.runs.first_key_value() {
            if start >= offset {
                return;
            }
            self.runs.remove(&start);
            if end > offset {
                self.runs.insert(offset, end);
            }
        }
    }

    /// Whether it is in the set.
    pub fn contains(&self, offset: i64) -> bool {
        let before = self.runs.range(..=offset).next_back();
        before.is_some_and(|(_, end)| offset < *end)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many offsets there are.
    pub fn count(&self) -> u64 {
        self.runs().map(|(start, end)| start.abs_diff(end)).sum()
    }

    /// The runs in order: first offset, and the one after the last.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + '_ {
        self.runs.iter().map(|(start, end)| (*start, *end))
    }

    /// The offsets in order.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.runs().flat_map(|(start, end)| start..end)
    }

    /// One past the highest offset.
    pub fn end(&self) -> Option<i64> {
        self.runs.last_key_value().map(|(_, end)| *end)
    }

    /// Writes as much of the set as `room` bytes take, lowest offsets first. Everything lies at or above `base`.
    /// Whether all of it was written.
    pub(super) fn write(&self, out: &mut Vec<u8>, base: i64, room: usize) -> bool {
        let (runs, all) = self.as_runs(base, room);
        let bits = self.as_bits(base, room);
        match bits {
            // Bits only where they say as much as runs would.
            Some(bits) if !all || bits.len() < runs.len() => {
                out.extend_from_slice(&bits);
                true
            }
            _ => {
                out.extend_from_slice(&runs);
                all
            }
        }
    }

    /// `2·count`, then for each run the gap before it and its length less one.
    fn as_runs(&self, base: i64, room: usize) -> (Vec<u8>, bool) {
        // The count is known at the end only; no set that fits needs more than this for it.
        let room = room.saturating_sub(wire::COUNT);
        let mut body = Vec::new();
        let (mut count, mut at, mut all) = (0u64, base, true);
        for (start, end) in self.runs() {
            let before = body.len();
            wire::put(&mut body, at.abs_diff(start));
            wire::put(&mut body, start.abs_diff(end) - 1);
            if body.len() > room {
                body.truncate(before);
                all = false;
                break;
            }
            count += 1;
            at = end;
        }
        let mut out = Vec::with_capacity(body.len() + wire::COUNT);
        wire::put(&mut out, count * 2);
        out.append(&mut body);
        (out, all)
    }

    /// `2·bytes + 1`, the distance of the first offset, then a bit for each offset from there on. `None` if that does
    /// not fit.
    fn as_bits(&self, base: i64, room: usize) -> Option<Vec<u8>> {
        let first = self.runs().next()?.0;
        let span = usize::try_from(first.abs_diff(self.end()?)).ok()?;
        let bytes = span.div_ceil(8);
        if bytes > room {
            return None;
        }
        let mut out = Vec::with_capacity(bytes + 2 * wire::COUNT);
        wire::put(&mut out, bytes as u64 * 2 + 1);
        wire::put(&mut out, base.abs_diff(first));
        let begin = out.len();
        if begin + bytes > room {
            return None;
        }
        out.resize(begin + bytes, 0);
        for offset in self.iter() {
            let bit = usize::try_from(first.abs_diff(offset)).ok()?;
            out[begin + bit / 8] |= 1 << (bit % 8);
        }
        Some(out)
    }

    pub(super) fn read(from: &mut Reader<'_>, base: i64) -> Result<Self, Torn> {
        let head = from.number()?;
        let mut set = Self::new();
        if head % 2 == 1 {
            let first = wire::forth(base, from.number()?)?;
            let bytes = from.bytes(head / 2)?;
            for (at, byte) in bytes.iter().enumerate() {
                for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                    set.insert(wire::forth(first, at as u64 * 8 + bit)?);
                }
            }
            return Ok(set);
        }
        let mut at = base;
        for _ in 0..head / 2 {
            let start = wire::forth(at, from.number()?)?;
            let end = wire::forth(start, from.number()?)?
                .checked_add(1)
                .ok_or(Torn)?;
            set.insert_run(start, end);
            at = end;
        }
        Ok(set)
    }
}

impl FromIterator<i64> for Offsets {
    fn from_iter<T: IntoIterator<Item = i64>>(offsets: T) -> Self {
        let mut set = Self::new();
        for offset in offsets {
            set.insert(offset);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_grow_together_and_fall_apart() {
        let mut set: Offsets = [1, 2, 5, 3, 4].into_iter().collect();
        assert_eq!(set.runs().collect::<Vec<_>>(), [(1, 6)]);
        set.remove(3);
        assert_eq!(set.runs().collect::<Vec<_>>(), [(1, 3), (4, 6)]);
        set.insert_run(0, 9);
        assert_eq!(set.runs().collect::<Vec<_>>(), [(0, 9)]);
        set.remove_below(7);
        assert_eq!((set.count(), set.end()), (2, Some(9)));
        assert!(!set.contains(6) && set.contains(7) && set.contains(8) && !set.contains(9));
    }

    #[test]
    fn alternate_offsets_are_bits_and_long_runs_are_runs() {
        let write = |set: &Offsets| {
            let mut out = Vec::new();
            assert!(set.write(&mut out, 100, 3000));
            out
        };
        let every_other: Offsets = (0..1000).map(|n| 100 + 2 * n).collect();
        assert!(write(&every_other).len() < 260);
        let mut row = Offsets::new();
        row.insert_run(101, 1_000_000);
        assert!(write(&row).len() < 8);
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0u8..4, 0i64..60, 1i64..9), 0..80)) {
            let mut set = Offsets::new();
            let mut model = BTreeSet::new();
            for (what, offset, more) in steps {
                match what {
                    0 => { set.insert(offset); model.insert(offset); }
                    1 => { set.insert_run(offset, offset + more); model.extend(offset..offset + more); }
                    2 => { set.remove(offset); model.remove(&offset); }
                    _ => { set.remove_below(offset / 4); model.retain(|o| *o >= offset / 4); }
                }
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.count(), model.len() as u64);
            }
            for offset in 0..80 {
                prop_assert_eq!(set.contains(offset), model.contains(&offset));
            }
            let runs: Vec<_> = set.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }

        /// What is read back is what was written, and where not all had room, a part of it.
        #[test]
        fn written_and_read_back(
            base in 0i64..1_000_000_000_000,
            gaps in prop::collection::vec((0i64..40, 1i64..200), 0..200),
            room in 4usize..600,
        ) {
            let (mut set, mut at) = (Offsets::new(), base);
            for (gap, len) in gaps {
                set.insert_run(at + gap, at + gap + len);
                at += gap + len;
            }
            let mut out = Vec::new();
            let all = set.write(&mut out, base, room);
            prop_assert!(out.len() <= room);
            let mut reader = Reader::new(&out);
            let read = Offsets::read(&mut reader, base).unwrap();
            prop_assert!(reader.is_empty());
            if all {
                prop_assert_eq!(&read, &set);
            }
            prop_assert!(read.iter().all(|offset| set.contains(offset)));
        }
    }
}
