//! The compiled-in schemas, parsed once.

use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::error::Details;
use tidegate_contract::schema;

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Job = 0,
    Event = 1,
    DeadLetter = 2,
}

/// In the order of [`schema::ALL`].
static SCHEMAS: LazyLock<[Result<Arc<Schema>, String>; 3]> = LazyLock::new(|| {
    schema::ALL.map(|message| {
        Schema::parse_str(message.text)
            .map(Arc::new)
            .map_err(|error| format!("schema {}: {error}", message.subject))
    })
});

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Job, Kind::Event, Kind::DeadLetter];

    /// The schema that this program writes and reads with. `Err` cannot be while the contract's tests pass.
    pub(super) fn schema(self) -> Result<Arc<Schema>, String> {
        SCHEMAS[self as usize].clone()
    }

    /// The same, for as long as the program runs.
    pub(super) fn static_schema(self) -> Result<&'static Schema, String> {
        SCHEMAS[self as usize]
            .as_ref()
            .map(|schema| &**schema)
            .map_err(Clone::clone)
    }
}

/// Largest allocation that a length in a record can ask for: no record is larger. For the whole process, once.
pub(super) fn limit_memory() {
    apache_avro::util::max_allocation_bytes(16 << 20);
}

/// What went wrong, without the values: apache-avro's own words quote them, and they are somebody's payload.
pub(super) fn in_words(error: &apache_avro::Error) -> &'static str {
    match error.details() {
        Details::ReadBoolean(_)
        | Details::ReadBytes(_)
        | Details::ReadString(_)
        | Details::ReadFloat(_)
        | Details::ReadDouble(_)
        | Details::ReadFixed(_, _)
        | Details::ReadVariableIntegerBytes(_) => "it ends too early",
        Details::MemoryAllocation { .. } | Details::IntegerOverflow => {
            "a length in it is larger than any record"
        }
        Details::ConvertToUtf8(_) | Details::ConvertToUtf8Error(_) => "a text in it is not UTF-8",
        Details::GetUnionVariant { .. }
        | Details::GetEnumValue { .. }
        | Details::GetEnumUnknownIndexValue
        | Details::BoolValue(_) => "it names a choice that its schema does not have",
        Details::SerializeValue(_) | Details::DeserializeValue(_) => {
            "a field of it has a value that is not allowed there"
        }
        _ => "it does not fit its schema",
    }
}
