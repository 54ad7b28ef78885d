//! One record of a topic as one JSON object.

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_contract::time::rfc3339;
use tidegate_kafka::{DecodeError, Decoded, Record, base64_as_json, bytes_as_json};

/// A record as it is printed; fields in this order.
#[derive(Debug, Serialize)]
pub struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    /// RFC 3339 in UTC.
    timestamp: Option<String>,
    key: Value,
    headers: Map<String, Value>,
    /// The full name of the schema that the value was written with.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(rename = "schemaId", skip_serializing_if = "Option::is_none")]
    schema_id: Option<u32>,
    /// Why the value is shown as bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    value: Value,
}

/// The line of a record. `decoded` is `None` for one without a value.
pub fn line(record: &Record, decoded: Option<Result<Decoded, DecodeError>>) -> Line {
    let headers = record.headers.iter();
    let mut line = Line {
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp.map(rfc3339),
        key: record.key.as_deref().map_or(Value::Null, text),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
        schema: None,
        schema_id: None,
        error: None,
        value: Value::Null,
    };
    match decoded {
        None => {}
        Some(Ok(decoded)) => {
            line.schema = decoded.schema;
            line.schema_id = Some(decoded.schema_id);
            line.value = decoded.value;
        }
        Some(Err(error)) => {
            line.error = Some(error.to_string());
            line.value = base64_as_json(record.payload.as_deref().unwrap_or_default());
        }
    }
    line
}

fn text(bytes: &[u8]) -> Value {
    bytes_as_json(bytes, Some("text/plain"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidegate_contract::RecordHeaders;

    fn record(key: Option<&'static [u8]>, payload: Option<&'static [u8]>) -> Record {
        Record {
            topic: "t.replies".to_owned(),
            partition: 3,
            offset: 7,
            timestamp: Some(1_738_315_800_123),
            key: key.map(Into::into),
            headers: RecordHeaders::from_iter([("event", "started")]),
            payload: payload.map(Into::into),
        }
    }

    #[test]
    fn a_line_has_everything_in_one_order() {
        let decoded = Decoded {
            schema_id: 4,
            schema: Some("tidegate.v1.JobEvent".to_owned()),
            value: json!({"kind": "started"}),
        };
        let line = line(&record(Some(b"k"), Some(b"x")), Some(Ok(decoded)));
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"topic":"t.replies","partition":3,"offset":7,"timestamp":"2025-01-31T09:30:00.123Z","key":"k","headers":{"event":"started"},"schema":"tidegate.v1.JobEvent","schemaId":4,"value":{"kind":"started"}}"#
        );
    }

    #[test]
    fn what_cannot_be_decoded_is_shown_with_the_reason() {
        let bad = line(
            &record(Some(b"\xff"), Some(b"text")),
            Some(Err(DecodeError::UnknownSchema(9))),
        );
        let bad = serde_json::to_value(bad).unwrap();
        assert_eq!(bad["key"], json!({"$base64": "/w=="}));
        assert_eq!(bad["value"], json!({"$base64": "dGV4dA=="}));
        assert!(
            bad["error"].as_str().unwrap().contains("schema id 9"),
            "{bad}"
        );
        let none = serde_json::to_value(line(&record(None, None), None)).unwrap();
        assert_eq!((&none["key"], &none["value"]), (&Value::Null, &Value::Null));
        assert_eq!(none.get("error"), None);
    }
}
