//! Messages of the contract as Avro in the Confluent frame: a zero byte, the schema's id as four bytes big endian,
//! the datum.

mod decode;
mod encode;
mod json;
mod schemas;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidegate_contract::{DeadLetter, JobEvent, JobMessage, schema};

use crate::registry::{RegistryClient, RegistryError};
use crate::settings::RegistrySettings;
use decode::Writers;
pub use json::{base64_as_json, bytes_as_json};
use schemas::Kind;

/// A message cannot be encoded.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The ids of the schemas are not known yet.
    #[error("schema ids are not known yet: the schema registry has not answered")]
    NotReady,
    /// The message does not fit its schema: a mistake in this program.
    #[error("message does not fit its schema: {0}")]
    Encode(String),
}

/// Bytes cannot be decoded.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// No message, whoever reads it and whenever.
    #[error("record is malformed: {0}")]
    Malformed(String),
    /// The registry answers that there is no schema of this id.
    #[error("schema id {0} is unknown to the registry")]
    UnknownSchema(u32),
    /// The registry does not say: try again.
    #[error("schema registry is not available: {0}")]
    RegistryUnavailable(String),
}

/// A value as its writer meant it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub schema_id: u32,
    /// The full name of its schema, such as `tidegate.v1.Job`; `None` for a type without a name.
    pub schema: Option<String>,
    /// Fields under their names; bytes that are JSON or text as such, others as base64.
    pub value: serde_json::Value,
}

/// Encodes and decodes. Cheap to clone; all clones share what they know of the registry.
#[derive(Clone)]
pub struct Codec {
    inner: Arc<Inner>,
}

struct Inner {
    /// Settings that cannot be used are told when the registry is needed.
    registry: Result<RegistryClient, RegistryError>,
    register: bool,
    ids: OnceLock<[u32; 3]>,
    writers: Writers,
}

impl Codec {
    /// A codec that knows no ids yet. Connects to nothing.
    pub fn new(settings: &RegistrySettings) -> Self {
        schemas::limit_memory();
        Self {
            inner: Arc::new(Inner {
                registry: RegistryClient::new(settings),
                register: settings.register,
                ids: OnceLock::new(),
                writers: Writers::default(),
            }),
        }
    }

    /// Looks up the ids of the compiled-in schemas, or registers them if the settings say so. Repeatable; needed once
    /// before anything can be encoded. From then on the registry is asked only for ids that were never seen.
    pub async fn warm_up(&self) -> Result<(), RegistryError> {
        if self.is_warm() {
            return Ok(());
        }
        let client = self.inner.registry.as_ref().map_err(Clone::clone)?;
        let mut ids = [0; 3];
        for (id, message) in ids.iter_mut().zip(schema::ALL) {
            *id = if self.inner.register {
                client.register(message).await?
            } else {
                client.look_up(message).await?
            };
        }
        for (id, kind) in ids.iter().zip(Kind::ALL) {
            let schema = kind.schema().map_err(RegistryError::Settings)?;
            self.inner.writers.know(*id, schema);
        }
        let _ = self.inner.ids.set(ids);
        Ok(())
    }

    /// Whether messages can be encoded.
    pub fn is_warm(&self) -> bool {
        self.inner.ids.get().is_some()
    }

    fn id(&self, kind: Kind) -> Result<u32, CodecError> {
        let ids = self.inner.ids.get().ok_or(CodecError::NotReady)?;
        Ok(ids[kind as usize])
    }

    /// The value of a record on a jobs topic.
    pub fn encode_job(&self, job: &JobMessage) -> Result<Bytes, CodecError> {
        encode::encode(self.id(Kind::Job)?, Kind::Job, job, job.body.len())
    }

    /// The value of a record on the replies topic.
    pub fn encode_event(&self, event: &JobEvent) -> Result<Bytes, CodecError> {
        let body = event
            .outcome
            .as_ref()
            .map_or(0, |outcome| outcome.body.len());
        encode::encode(self.id(Kind::Event)?, Kind::Event, event, body)
    }

    /// The value of a record on the dead-letters topic.
    pub fn encode_dead_letter(&self, letter: &DeadLetter) -> Result<Bytes, CodecError> {
        let body = letter.value.as_ref().map_or(0, Bytes::len);
        encode::encode(self.id(Kind::DeadLetter)?, Kind::DeadLetter, letter, body)
    }

    /// Reads the value of a record on a jobs topic.
    pub async fn decode_job(&self, value: &[u8]) -> Result<JobMessage, DecodeError> {
        self.decode(Kind::Job, value).await
    }

    /// Reads the value of a record on the replies topic.
    pub async fn decode_event(&self, value: &[u8]) -> Result<JobEvent, DecodeError> {
        self.decode(Kind::Event, value).await
    }

    /// Reads the value of a record on the dead-letters topic.
    pub async fn decode_dead_letter(&self, value: &[u8]) -> Result<DeadLetter, DecodeError> {
        self.decode(Kind::DeadLetter, value).await
    }

    /// Reads any value in the frame with the schema that it was written with, whatever message it is, for people to
    /// look at.
    ///
    /// # Errors
    /// As for the messages, but a schema of another sort of record is none.
    pub async fn decode_any(&self, value: &[u8]) -> Result<Decoded, DecodeError> {
        let (id, datum) = decode::open(value)?;
        let writer = self.inner.writers.schema(id, self.client()?).await?;
        let value = decode::read(&writer, None, datum)?;
        Ok(Decoded {
            schema_id: id,
            schema: writer.name().map(|name| name.fullname(None)),
            value: json::of(value),
        })
    }

    fn client(&self) -> Result<&RegistryClient, DecodeError> {
        let client = self.inner.registry.as_ref();
        client.map_err(|error| DecodeError::RegistryUnavailable(error.to_string()))
    }

    async fn decode<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        value: &[u8],
    ) -> Result<T, DecodeError> {
        let (id, datum) = decode::open(value)?;
        let own = self.inner.ids.get().map(|ids| ids[kind as usize]);
        if own == Some(id) {
            return decode::decode_own(kind, datum);
        }
        let writer = self.inner.writers.schema(id, self.client()?).await?;
        decode::decode(&writer, kind, datum)
    }
}
