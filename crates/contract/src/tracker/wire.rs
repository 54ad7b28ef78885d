//! Numbers as bytes: seven bits a byte, lowest first.

/// The most bytes that a number takes whose like is counted here: of things that fit into a commit.
pub(super) const COUNT: usize = 3;

/// The bytes end too early, or say what cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn;

pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The offset that lies `distance` above `base`.
pub(super) fn forth(base: i64, distance: u64) -> Result<i64, Torn> {
    let distance = i64::try_from(distance).map_err(|_| Torn)?;
    base.checked_add(distance).ok_or(Torn)
}

/// What [`put`] has written, read back.
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Torn> {
        let (first, rest) = self.left.split_first().ok_or(Torn)?;
        self.left = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, Torn> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Torn);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Torn)
    }

    pub(super) fn bytes(&mut self, count: u64) -> Result<&'a [u8], Torn> {
        let count = usize::try_from(count).map_err(|_| Torn)?;
        let (taken, rest) = self.left.split_at_checked(count).ok_or(Torn)?;
        self.left = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number in any::<u64>(), bits in 0u32..64) {
            let number = number >> bits;
            let mut out = Vec::new();
            put(&mut out, number);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut reader = Reader::new(&bytes);
            while reader.number().is_ok() {}
        }
    }
}
