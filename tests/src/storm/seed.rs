//! Numbers that follow from a seed: the same on every machine, with every version of every library.

/// A stream of numbers (SplitMix64, public domain). Streams of one seed do not depend on each other.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The stream of that number.
    pub fn of(seed: u64, stream: u64) -> Self {
        let mut draw = Self(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        draw.number();
        draw
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.number() % (high.saturating_sub(low) + 1)
    }

    /// True so many times out of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }

    /// One of these; `None` if there are none.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let last = u64::try_from(of.len()).ok()?.checked_sub(1)?;
        of.get(self.between(0, last) as usize).copied()
    }

    /// Mixes these up.
    pub fn shuffle<T>(&mut self, cards: &mut [T]) {
        for last in (1..cards.len()).rev() {
            cards.swap(last, self.between(0, last as u64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_every_time_and_no_other() {
        let first: Vec<_> = (0..4).map(|stream| Draw::of(7, stream).number()).collect();
        let again: Vec<_> = (0..4).map(|stream| Draw::of(7, stream).number()).collect();
        assert_eq!(first, again);
        let mut different = first.clone();
        different.dedup();
        assert_eq!(different.len(), 4);
        let mut draw = Draw::of(1, 1);
        assert!((0..1000).all(|_| (3..=5).contains(&draw.between(3, 5))));
        assert_eq!(draw.one::<u8>(&[]), None);
    }
}
