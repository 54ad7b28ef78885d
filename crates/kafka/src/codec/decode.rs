//! Bytes to message.
//!
//! What was written with the very schema that this program has compiled in, which is nearly everything, is read straight
//! into the message. What another version has written goes through a tree of values that is fitted to our schema: an order
//! of magnitude slower, and only that way knows of added fields and unknown symbols.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use serde::de::DeserializeOwned;

use super::DecodeError;
use super::schemas::{Kind, in_words};
use crate::registry::{ById, RegistryClient};

/// How long an answer of "no such id" holds: a flood of bad records asks the registry once in this time.
const UNKNOWN_HOLDS: Duration = Duration::from_secs(5);
/// Ids that are remembered as unknown: they come from whoever can write to Kafka.
const MAX_UNKNOWN: usize = 1_000;

/// Takes the frame off.
pub(super) fn open(value: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let malformed = |text: &str| Err(DecodeError::Malformed(text.to_owned()));
    match value {
        [] => malformed("it is empty"),
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [0, ..] => malformed("it ends within the frame"),
        _ => malformed("it does not begin with the magic byte 0"),
    }
}

/// One reader a schema for what was written with the same one: building one resolves its names.
static READERS: LazyLock<[Result<GenericDatumReader<'static>, String>; 3]> = LazyLock::new(|| {
    Kind::ALL.map(|kind| {
        GenericDatumReader::builder(kind.static_schema()?)
            .build()
            .map_err(|error| error.to_string())
    })
});

/// Reads a datum that was written with our own schema.
pub(super) fn decode_own<T: DeserializeOwned>(kind: Kind, datum: &[u8]) -> Result<T, DecodeError> {
    let reader = READERS[kind as usize].as_ref();
    let reader = reader.map_err(|error| DecodeError::Malformed(error.clone()))?;
    whole(datum, |rest| reader.read_deser(rest))
}

/// Reads a datum that was written with `writer`.
pub(super) fn decode<T: DeserializeOwned>(
    writer: &Schema,
    kind: Kind,
    datum: &[u8],
) -> Result<T, DecodeError> {
    let reader = kind.static_schema().map_err(DecodeError::Malformed)?;
    let value = read(writer, Some(reader), datum)?;
    apache_avro::from_value(&value).map_err(malformed)
}

/// Reads a datum as its writer meant it, or as `reader` would have it.
pub(super) fn read(
    writer: &Schema,
    reader: Option<&Schema>,
    datum: &[u8],
) -> Result<Value, DecodeError> {
    let builder = GenericDatumReader::builder(writer);
    let reader = match reader {
        Some(reader) => builder.reader_schema(reader).build(),
        None => builder.build(),
    };
    let reader = reader.map_err(malformed)?;
    whole(datum, |rest| reader.read_value(rest))
}

/// Reads all of a datum, and no more than that.
fn whole<T>(
    datum: &[u8],
    read: impl FnOnce(&mut Datum<'_>) -> apache_avro::AvroResult<T>,
) -> Result<T, DecodeError> {
    let mut rest = Datum {
        bytes: datum,
        short: false,
    };
    let value = read(&mut rest).map_err(malformed)?;
    if rest.short {
        return Err(DecodeError::Malformed("it ends too early".to_owned()));
    }
    if !rest.bytes.is_empty() {
        let text = format!("{} bytes follow its end", rest.bytes.len());
        return Err(DecodeError::Malformed(text));
    }
    Ok(value)
}

fn malformed(error: apache_avro::Error) -> DecodeError {
    DecodeError::Malformed(in_words(&error).to_owned())
}

/// The bytes of a datum. apache-avro takes an end of input before a string or a union for null, so that a record
/// that was cut off there would pass; this remembers that more was asked for than is there.
struct Datum<'a> {
    bytes: &'a [u8],
    short: bool,
}

impl Read for Datum<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.short |= buffer.len() > self.bytes.len();
        self.bytes.read(buffer)
    }
}

type Answer = Result<Arc<Schema>, DecodeError>;

/// The schemas that records were written with, by id.
#[derive(Default)]
pub(super) struct Writers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Ids never change their meaning, and only ids that the registry knows get here.
    known: HashMap<u32, Arc<Schema>>,
    unknown: HashMap<u32, Instant>,
    /// Look-ups under way: whoever needs the same id joins in.
    asked: HashMap<u32, Shared<BoxFuture<'static, Answer>>>,
}

impl Writers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds a schema that need not be asked for.
    pub(super) fn know(&self, id: u32, schema: Arc<Schema>) {
        self.lock().known.insert(id, schema);
    }

    /// The schema of an id: from memory, or from the registry. What the registry did not answer is not remembered.
    pub(super) async fn schema(&self, id: u32, client: &RegistryClient) -> Answer {
        let asked = {
            let mut state = self.lock();
            if let Some(schema) = state.known.get(&id) {
                return Ok(schema.clone());
            }
            match state.unknown.get(&id) {
                Some(at) if at.elapsed() < UNKNOWN_HOLDS => {
                    return Err(DecodeError::UnknownSchema(id));
                }
                Some(_) => drop(state.unknown.remove(&id)),
                None => {}
            }
            let client = client.clone();
            state
                .asked
                .entry(id)
                .or_insert_with(|| async move { ask(&client, id).await }.boxed().shared())
                .clone()
        };
        let answer = asked.clone().await;
        let mut state = self.lock();
        if state
            .asked
            .get(&id)
            .is_some_and(|other| other.ptr_eq(&asked))
        {
            state.asked.remove(&id);
            match &answer {
                Ok(schema) => drop(state.known.insert(id, schema.clone())),
                Err(DecodeError::UnknownSchema(_)) => {
                    if state.unknown.len() >= MAX_UNKNOWN {
                        state.unknown.clear();
                    }
                    state.unknown.insert(id, Instant::now());
                }
                Err(_) => {}
            }
        }
        answer
    }
}

async fn ask(client: &RegistryClient, id: u32) -> Answer {
    match client.by_id(id).await {
        Ok(ById::Avro(text)) => Schema::parse_str(&text).map(Arc::new).map_err(|error| {
            DecodeError::Malformed(format!("its schema {id} cannot be used: {error}"))
        }),
        Ok(ById::Unusable(why)) => Err(DecodeError::Malformed(format!(
            "its schema {id} cannot be used: {why}"
        ))),
        Ok(ById::Unknown) => Err(DecodeError::UnknownSchema(id)),
        Err(reason) => Err(DecodeError::RegistryUnavailable(reason)),
    }
}
