use std::io;
use std::sync::{Arc, Mutex};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{info, info_span, warn};
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::telemetry::{log_filter, span_filter, spans};
use tracing_subscriber::filter::FilterExt;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `work` logs under this filter.
fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let sink = buffer.clone();
    let lines = LogLayer {
        format,
        colour: false,
        writer: move || sink.clone(),
    }
    .with_filter(span_filter().or(log_filter(filter).unwrap()));
    let provider = SdkTracerProvider::builder().build();
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(spans(&provider));
    tracing::subscriber::with_default(subscriber, work);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn json_lines_carry_the_fields_of_their_spans_and_the_trace() {
    let mut trace = None;
    let text = logged(LogFormat::Json, "info", || {
        let outer = info_span!(
            "request",
            job_id = tracing::field::Empty,
            otel.kind = "server",
            n = 1
        );
        let _outer = outer.enter();
        outer.record("job_id", "0192-a");
        let inner = info_span!("handler", n = 2).entered();
        trace = crate::telemetry::current_trace_id();
        info!(level = "forged", answer = 42, "done \"well\"");
        drop(inner);
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "done \"well\"");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["answer"], 42);
    assert_eq!(line["job_id"], "0192-a");
    assert_eq!(line["n"], 2);
    assert_eq!(line["trace_id"], trace.unwrap());
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    assert_eq!(line.get("otel.kind"), None);
}

#[test]
fn a_filter_for_warnings_leaves_the_ids_on_them() {
    let text = logged(LogFormat::Json, "warn", || {
        let _span = info_span!("request", job_id = "0192-b").entered();
        info!("not said");
        warn!("said");
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "said");
    assert_eq!(line["job_id"], "0192-b");
    assert!(line["trace_id"].is_string());
}

#[test]
fn a_value_cannot_forge_a_line() {
    let text = logged(LogFormat::Text, "info", || {
        info!(header = "a\nERROR all is lost", "one\n\x1b[2Jline");
    });
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    assert!(
        text.contains("one\\n\\u{1b}[2Jline header=\"a\\nERROR all is lost\""),
        "{text}"
    );
}

#[test]
fn libraries_are_quiet_unless_asked_for() {
    let say = || {
        info!(target: "librdkafka", "chatter");
        warn!(target: "librdkafka", "trouble");
    };
    let text = logged(LogFormat::Text, "info", say);
    assert!(
        !text.contains("chatter") && text.contains("trouble"),
        "{text}"
    );
    assert!(logged(LogFormat::Text, "info,librdkafka=info", say).contains("chatter"));
}

#[test]
fn a_bad_filter_is_refused() {
    let error = log_filter("tidegate=loud").unwrap_err().to_string();
    assert!(error.starts_with("telemetry.log: "), "{error}");
}
