//! What travels beside a committed offset, as text that fits into a commit.
//!
//! `tg1.` and then base64 (URL-safe, without padding) of: a checksum of the rest; flags; the committed offset; the
//! owner; the distance to one past the highest offset delivered; what is suspected; the running records; the done ones.
//! A later version may add to the end, which this one passes over; anything else that changes is `tg2.`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::Farewell;
use super::offsets::Offsets;
use super::poison::Suspicion;
use super::wire::{self, Reader, Torn};

/// The longest text, in bytes. Brokers take 4096 if nobody tells them otherwise.
pub const BUDGET: usize = 4000;

const VERSION: &str = "tg1.";
/// Bytes before they are text.
const BYTES: usize = (BUDGET - VERSION.len()) / 4 * 3;
/// What suspicion may take, and what the running records may. The done ones have what is left.
const FOR_SUSPICION: usize = 1200;
const FOR_RUNNING: usize = 800;
/// What a set takes at least, and what one of a single run takes at most.
const LEAST: usize = 4;
const ONE_RUN: usize = 24;

const LEFT: u8 = 1;
/// Besides: nothing runs on.
const ENDED: u8 = 2;

/// Why a text beside an offset says nothing to us. The records above the offset are done again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Another tool has written it.
    #[error("it is not Tidegate's: `{0}`")]
    Foreign(String),
    /// Another version of Tidegate has.
    #[error("it is of another version: `{0}`, not `tg1`")]
    Version(String),
    /// It was cut off or changed.
    #[error("it is damaged")]
    Damaged,
    /// Somebody has moved the offset and left the text as it was.
    #[error("it belongs to offset {0}")]
    OtherOffset(i64),
}

impl From<Torn> for MetadataError {
    fn from(_: Torn) -> Self {
        Self::Damaged
    }
}

/// What is known above a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notes {
    /// The process that wrote it.
    pub owner: u64,
    /// Whether it gave the partition up in order.
    pub farewell: Farewell,
    /// One past the highest offset delivered.
    pub next: i64,
    /// Begun and not done. May hold more than that, never less.
    pub running: Offsets,
    /// Done. May hold less than that, never more.
    pub done: Offsets,
    pub suspicion: Suspicion,
}

impl Notes {
    /// The text for a commit of `offset`.
    pub(super) fn encode(&self, offset: i64) -> String {
        let mut body = vec![match self.farewell {
            Farewell::No => 0,
            Farewell::RunsOn => LEFT,
            Farewell::AllEnded => LEFT | ENDED,
        }];
        wire::put(&mut body, offset.unsigned_abs());
        body.extend_from_slice(&self.owner.to_le_bytes());
        wire::put(&mut body, offset.abs_diff(self.next.max(offset)));
        self.suspicion.write(&mut body, offset, FOR_SUSPICION);
        write_covering(&self.running, &mut body, offset, FOR_RUNNING);
        let room = BYTES.saturating_sub(body.len() + 4);
        self.done.write(&mut body, offset, room);
        let mut bytes = checksum(&body).to_le_bytes().to_vec();
        bytes.append(&mut body);
        format!("{VERSION}{}", BASE64.encode(bytes))
    }

    /// What a text says beside `offset`; `None` if it is empty, as plain commits are.
    pub(super) fn decode(offset: i64, text: &str) -> Result<Option<Self>, MetadataError> {
        if text.is_empty() {
            return Ok(None);
        }
        let Some(coded) = text.strip_prefix(VERSION) else {
            let begin = text.split('.').next().unwrap_or_default();
            let number = begin.strip_prefix("tg").map(str::parse::<u32>);
            return Err(match number {
                Some(Ok(_)) => MetadataError::Version(begin.to_owned()),
                _ => MetadataError::Foreign(text.chars().take(40).collect()),
            });
        };
        if coded.len() > 2 * BUDGET {
            return Err(MetadataError::Damaged);
        }
        let bytes = BASE64.decode(coded).map_err(|_| MetadataError::Damaged)?;
        let (sum, body) = bytes.split_first_chunk::<4>().ok_or(Torn)?;
        if u32::from_le_bytes(*sum) != checksum(body) {
            return Err(MetadataError::Damaged);
        }
        let mut from = Reader::new(body);
        let flags = from.byte()?;
        let of = wire::forth(0, from.number()?)?;
        if of != offset {
            return Err(MetadataError::OtherOffset(of));
        }
        let mut owner = [0; 8];
        owner.copy_from_slice(from.bytes(8)?);
        Ok(Some(Self {
            owner: u64::from_le_bytes(owner),
            farewell: match (flags & LEFT != 0, flags & ENDED != 0) {
                (false, _) => Farewell::No,
                (true, false) => Farewell::RunsOn,
                (true, true) => Farewell::AllEnded,
            },
            next: wire::forth(offset, from.number()?)?,
            suspicion: Suspicion::read(&mut from, offset)?,
            running: Offsets::read(&mut from, offset)?,
            done: Offsets::read(&mut from, offset)?,
        }))
    }
}

/// Writes a set that may become larger but not smaller: where it does not fit, one run over all of it.
pub(super) fn write_covering(set: &Offsets, out: &mut Vec<u8>, base: i64, room: usize) {
    let begin = out.len();
    if set.write(out, base, room.max(LEAST)) {
        return;
    }
    out.truncate(begin);
    let mut cover = Offsets::new();
    if let (Some((first, _)), Some(end)) = (set.runs().next(), set.end()) {
        cover.insert_run(first, end);
    }
    cover.write(out, base, ONE_RUN);
}

/// FNV-1a: finds accidents, which is all that it is for.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
