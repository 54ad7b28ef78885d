//! Job ids: UUIDv7 (RFC 9562), so that an id carries the time at which it was made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Uuid, Version};

use crate::time::Millis;

/// Identity of a job: correlation id, Kafka key and trace attribute at once.
///
/// Its text is the hyphenated lower-case form; that is also how it is written in JSON and Avro.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

/// What was given as a job id is not a UUID of version 7.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a job id: expected a UUID of version 7 such as 018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f")]
pub struct MalformedId;

impl JobId {
    /// A new id, later than every id made before it in this process.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// When the id was made, by the clock of the gateway that made it, in Unix milliseconds.
    pub fn created_at(&self) -> Millis {
        let bytes = self.0.as_bytes();
        let mut ms = [0u8; 8];
        ms[2..].copy_from_slice(&bytes[..6]);
        i64::from_be_bytes(ms)
    }

    /// The UUID itself, for the store.
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// Reads the text of an id as it stands in a Kafka key. `None` for bytes that are not an id.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        std::str::from_utf8(key).ok()?.parse().ok()
    }
}

impl TryFrom<Uuid> for JobId {
    type Error = MalformedId;

    fn try_from(uuid: Uuid) -> Result<Self, MalformedId> {
        match uuid.get_version() {
            Some(Version::SortRand) => Ok(Self(uuid)),
            _ => Err(MalformedId),
        }
    }
}

impl FromStr for JobId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        // `Uuid` also reads braces, URNs and the form without hyphens; one spelling keeps keys comparable.
        if text.len() != 36 {
            return Err(MalformedId);
        }
        Uuid::try_parse(text)
            .map_err(|_| MalformedId)
            .and_then(Self::try_from)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Uuid::encode_buffer();
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut buffer))
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_carries_the_time() {
        let before = crate::now_millis();
        let id = JobId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(JobId::from_key(id.to_string().as_bytes()), Some(id));
        assert!((before..=crate::now_millis()).contains(&id.created_at()));
    }

    #[test]
    fn other_uuids_and_spellings_are_refused() {
        for text in [
            "",
            "nonsense",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8", // version 1
            "f47ac10b-58cc-4372-a567-0e02b2c3d479", // version 4
            "018f3a6e7c1b7d4e9a513b6f0c2d8e4f",
            "{018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f}",
            "018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4g",
        ] {
            assert_eq!(text.parse::<JobId>(), Err(MalformedId), "{text}");
        }
        assert_eq!(JobId::from_key(&[0xff, 0xfe]), None);
    }
}
