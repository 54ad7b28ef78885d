//! Avro values as JSON, for people. Pure.

use apache_avro::types::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use tidegate_contract::media::is_json;

/// The one field of the object that stands for bytes which are no text.
const BASE64: &str = "$base64";

/// A value as JSON. A record's bytes are shown as what the `contentType` beside them says they are.
pub(super) fn of(value: Value) -> Json {
    convert(value, None)
}

fn convert(value: Value, media: Option<&str>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(truth) => truth.into(),
        Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => number.into(),
        Value::Long(number)
        | Value::TimeMicros(number)
        | Value::TimestampMillis(number)
        | Value::TimestampMicros(number)
        | Value::TimestampNanos(number)
        | Value::LocalTimestampMillis(number)
        | Value::LocalTimestampMicros(number)
        | Value::LocalTimestampNanos(number) => number.into(),
        // What JSON has no number for becomes null.
        Value::Float(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => bytes_as_json(&bytes, media),
        Value::String(text) | Value::Enum(_, text) => text.into(),
        Value::Union(_, inner) => convert(*inner, media),
        Value::Array(items) => items.into_iter().map(|item| convert(item, None)).collect(),
        Value::Map(entries) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(name, value)| (name, convert(value, None)));
            Json::Object(entries.collect())
        }
        Value::Record(fields) => record(fields),
        Value::Uuid(id) => id.to_string().into(),
        // Of no message of ours; their debug form is better than nothing.
        other @ (Value::Decimal(_) | Value::BigDecimal(_) | Value::Duration(_)) => {
            format!("{other:?}").into()
        }
    }
}

fn record(fields: Vec<(String, Value)>) -> Json {
    let media = fields.iter().find_map(|(name, value)| match value {
        Value::Union(_, inner) if name == "contentType" => text(inner),
        value if name == "contentType" => text(value),
        _ => None,
    });
    let media = media.map(str::to_owned);
    let fields = fields.into_iter();
    let fields = fields.map(|(name, value)| (name, convert(value, media.as_deref())));
    Json::Object(fields.collect::<Map<_, _>>())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Bytes as somebody would like to read them: JSON as JSON, text as text, others as `{"$base64": "…"}`. Without a
/// media type only objects and arrays are taken for JSON, since `5` may be meant as text.
pub fn bytes_as_json(bytes: &[u8], media: Option<&str>) -> Json {
    let says_json = media.map(is_json);
    let looks_like_json = matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['));
    if says_json.unwrap_or(looks_like_json)
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_text) => text.into(),
        _ => base64_as_json(bytes),
    }
}

/// Bytes of which nothing is known: `{"$base64": "…"}`.
pub fn base64_as_json(bytes: &[u8]) -> Json {
    json!({ BASE64: STANDARD.encode(bytes) })
}

fn is_text(c: char) -> bool {
    !c.is_control() || matches!(c, '\n' | '\r' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: Value) -> (String, Value) {
        (name.to_owned(), value)
    }

    #[test]
    fn bytes_are_what_the_media_type_beside_them_says() {
        let body = |media: &str, bytes: &[u8]| {
            let media = Value::Union(1, Box::new(Value::String(media.to_owned())));
            of(Value::Record(vec![
                field("body", Value::Bytes(bytes.to_vec())),
                field("contentType", media),
            ]))["body"]
                .clone()
        };
        assert_eq!(body("application/json", b"{\"a\":[1]}"), json!({"a": [1]}));
        assert_eq!(body("application/problem+json; x=y", b"5"), json!(5));
        assert_eq!(body("application/json", b"{broken"), json!("{broken"));
        assert_eq!(body("text/plain", b"[1]"), json!("[1]"));
        assert_eq!(body("text/plain", b"a\tb"), json!("a\tb"));
        assert_eq!(body("image/png", b"\x89PNG"), json!({ BASE64: "iVBORw==" }));
        assert_eq!(
            body("text/plain", b"\x1b[2J"),
            json!({ BASE64: "G1sySg==" })
        );
    }

    #[test]
    fn without_a_media_type_only_objects_and_arrays_are_json() {
        assert_eq!(bytes_as_json(b" {\"a\":1}", None), json!({"a": 1}));
        assert_eq!(bytes_as_json(b"5", None), json!("5"));
        assert_eq!(bytes_as_json(b"", None), json!(""));
    }

    #[test]
    fn every_sort_of_value_has_a_form() {
        let value = Value::Record(vec![
            field("none", Value::Null),
            field("number", Value::TimestampMillis(7)),
            field("nan", Value::Double(f64::NAN)),
            field("symbol", Value::Enum(0, "started".to_owned())),
            field("list", Value::Array(vec![Value::Boolean(true)])),
            field("map", Value::Map([("k".to_owned(), Value::Int(1))].into())),
            field("fixed", Value::Fixed(1, vec![0])),
        ]);
        let expected = json!({
            "none": null, "number": 7, "nan": null, "symbol": "started", "list": [true], "map": {"k": 1},
            "fixed": { BASE64: "AA==" },
        });
        assert_eq!(of(value), expected);
    }
}
