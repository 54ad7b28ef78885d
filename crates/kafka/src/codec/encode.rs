//! Message to bytes.

use std::sync::LazyLock;

use apache_avro::writer::datum::GenericDatumWriter;
use bytes::Bytes;
use serde::Serialize;

use super::CodecError;
use super::schemas::{Kind, in_words};

/// One writer a schema: building one resolves its names.
static WRITERS: LazyLock<[Result<GenericDatumWriter<'static>, String>; 3]> = LazyLock::new(|| {
    Kind::ALL.map(|kind| {
        GenericDatumWriter::builder(kind.static_schema()?)
            .build()
            .map_err(|error| error.to_string())
    })
});

/// Frame and datum. `body` is the length of the largest part, to allocate once.
pub(super) fn encode<T: Serialize>(
    id: u32,
    kind: Kind,
    message: &T,
    body: usize,
) -> Result<Bytes, CodecError> {
    let writer = WRITERS[kind as usize]
        .as_ref()
        .map_err(|error| CodecError::Encode(error.clone()))?;
    let mut frame = Vec::with_capacity(body + 512);
    frame.push(0);
    frame.extend_from_slice(&id.to_be_bytes());
    writer
        .write_ser(&mut frame, message)
        .map_err(|error| CodecError::Encode(in_words(&error).to_owned()))?;
    Ok(frame.into())
}
