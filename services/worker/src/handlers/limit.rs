//! Collecting bytes from outside without letting the outside decide how many.

use bytes::{Bytes, BytesMut};

/// Collects up to a limit.
#[derive(Debug)]
pub(super) struct Limited {
    bytes: BytesMut,
    limit: usize,
}

/// More came than may be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

impl Limited {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            limit,
        }
    }

    /// Takes a piece, or refuses it without keeping any of it.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        if piece.len() > self.limit - self.bytes.len() {
            return Err(TooLarge);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Keeps the last bytes of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    limit: usize,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    pub(super) fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(self.limit)..];
        let surplus = (self.bytes.len() + piece.len()).saturating_sub(self.limit);
        self.bytes.drain(..surplus.min(self.bytes.len()));
        self.bytes.extend_from_slice(piece);
    }

    /// The text that the bytes stand for, what is not UTF-8 replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_limit(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            limit in 0usize..64,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut tail = Tail::new(limit);
            let mut limited = Limited::new(limit);
            let mut refused = false;
            for piece in &pieces {
                tail.push(piece);
                refused = refused || limited.push(piece).is_err();
            }
            prop_assert_eq!(&tail.bytes[..], &whole[whole.len().saturating_sub(limit)..]);
            prop_assert_eq!(refused, whole.len() > limit);
            if !refused {
                prop_assert_eq!(&limited.into_bytes()[..], &whole[..]);
            }
        }
    }
}
