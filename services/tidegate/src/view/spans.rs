//! Spans as `dev` and Jaeger tell of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// Of the span it belongs to; `None` for the first of the trace.
    #[serde(default)]
    pub parent_span_id: Option<String>,
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: String,
    pub service: String,
    /// Unix microseconds.
    pub start_us: i64,
    pub duration_us: i64,
    /// Whether it says that something went wrong.
    #[serde(default)]
    pub error: bool,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// The answer of `GET /dev/traces/{id}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    spans: Vec<Span>,
}

/// Reads the answer of `dev`. `None` if it is not of that shape.
pub fn of_dev(answer: &str) -> Option<Vec<Span>> {
    serde_json::from_str::<Kept>(answer)
        .ok()
        .map(|kept| kept.spans)
}

/// Reads the first trace of an answer of Jaeger's query API: `GET /api/traces/{id}`, or a search. `None` if it is not
/// of that shape; empty if there is no trace in it.
pub fn of_jaeger(answer: &Value) -> Option<Vec<Span>> {
    let traces = answer.get("data")?.as_array()?;
    let Some(trace) = traces.first() else {
        return Some(Vec::new());
    };
    let processes = trace.get("processes")?;
    let spans = trace.get("spans")?.as_array()?;
    spans
        .iter()
        .map(|span| jaeger_span(span, processes))
        .collect()
}

fn jaeger_span(span: &Value, processes: &Value) -> Option<Span> {
    let text = |name: &str| span.get(name)?.as_str().map(str::to_owned);
    let process = processes.get(span.get("processID")?.as_str()?)?;
    let tags = span.get("tags").and_then(Value::as_array);
    let mut attributes: BTreeMap<String, String> = tags
        .into_iter()
        .flatten()
        .filter_map(|tag| {
            Some((
                tag.get("key")?.as_str()?.to_owned(),
                plain(tag.get("value")?),
            ))
        })
        .collect();
    let kind = attributes.remove("span.kind");
    let error = attributes
        .remove("error")
        .is_some_and(|truth| truth == "true")
        | attributes
            .remove("otel.status_code")
            .is_some_and(|code| code == "ERROR");
    Some(Span {
        span_id: text("spanID")?,
        parent_span_id: parent(span),
        name: text("operationName")?,
        kind: kind.unwrap_or_else(|| "internal".to_owned()),
        service: process.get("serviceName")?.as_str()?.to_owned(),
        start_us: span.get("startTime")?.as_i64()?,
        duration_us: span.get("duration")?.as_i64()?,
        error,
        attributes,
    })
}

fn parent(span: &Value) -> Option<String> {
    let references = span.get("references")?.as_array()?;
    let child_of = references.iter().find(|reference| {
        reference
            .get("refType")
            .is_some_and(|kind| kind == "CHILD_OF")
    })?;
    child_of.get("spanID")?.as_str().map(str::to_owned)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn jaegers_answer_is_read() {
        let answer = json!({"data": [{
            "traceID": "t",
            "processes": {"p1": {"serviceName": "tidegate-worker", "tags": []}},
            "spans": [{
                "traceID": "t", "spanID": "b", "operationName": "handle echo", "processID": "p1",
                "references": [{"refType": "FOLLOWS_FROM", "spanID": "x"}, {"refType": "CHILD_OF", "traceID": "t", "spanID": "a"}],
                "startTime": 1000, "duration": 250, "logs": [],
                "tags": [
                    {"key": "span.kind", "type": "string", "value": "internal"},
                    {"key": "tidegate.attempt", "type": "int64", "value": 1},
                    {"key": "otel.status_code", "type": "string", "value": "ERROR"},
                    {"key": "error", "type": "bool", "value": true},
                ],
            }],
        }]});
        let spans = of_jaeger(&answer).unwrap();
        let expected = Span {
            span_id: "b".to_owned(),
            parent_span_id: Some("a".to_owned()),
            name: "handle echo".to_owned(),
            kind: "internal".to_owned(),
            service: "tidegate-worker".to_owned(),
            start_us: 1000,
            duration_us: 250,
            error: true,
            attributes: BTreeMap::from([("tidegate.attempt".to_owned(), "1".to_owned())]),
        };
        assert_eq!(spans, [expected]);
        assert_eq!(of_jaeger(&json!({"data": []})), Some(Vec::new()));
        assert_eq!(of_jaeger(&json!({"data": null, "errors": []})), None);
    }

    #[test]
    fn devs_answer_is_read() {
        let answer = r#"{"traceId":"t","spans":[{"spanId":"a","name":"n","kind":"server","service":"s","startUs":1,"durationUs":2}]}"#;
        let spans = of_dev(answer).unwrap();
        assert_eq!((spans[0].span_id.as_str(), spans[0].error), ("a", false));
        assert_eq!(of_dev("[]"), None);
    }
}
