//! A receiver of traces: OTLP over HTTP with protobuf.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

/// A span as it came in.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    pub name: String,
    pub kind: SpanKind,
    /// Hexadecimal.
    pub trace: String,
    pub id: String,
    /// Empty for none.
    pub parent: String,
    /// Unix microseconds.
    pub start_us: u64,
    pub end_us: u64,
    /// Whether its status is that of an error.
    pub error: bool,
    pub attributes: BTreeMap<String, String>,
}

impl Span {
    /// An attribute as text; empty if it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The receiver; it ends with the test's runtime.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    /// Listens on a free port.
    pub fn start() -> Self {
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let store = web::Data::from(spans.clone());
        let take = |body: web::Bytes, store: web::Data<Mutex<Vec<Span>>>| async move {
            let request = ExportTraceServiceRequest::decode(body).expect("an export request");
            store.lock().expect("lock").extend(flatten(request));
            HttpResponse::Ok().finish()
        };
        let server = HttpServer::new(move || {
            App::new()
                .app_data(store.clone())
                .app_data(web::PayloadConfig::new(64 << 20))
                .route("/v1/traces", web::post().to(take))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
        let url = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self { url, spans }
    }

    /// All spans of a trace so far.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("lock");
        spans
            .iter()
            .filter(|span| span.trace == id)
            .cloned()
            .collect()
    }

    /// The trace in which a span has an attribute of that value.
    pub fn trace_with(&self, attribute: &str, value: &str) -> Option<String> {
        let spans = self.spans.lock().expect("lock");
        let span = spans
            .iter()
            .find(|span| span.attribute(attribute) == value)?;
        Some(span.trace.clone())
    }

    /// Waits until spans of all these names are there, and gives the whole trace; panics with what came otherwise.
    pub async fn until_named(&self, id: &str, names: &[String], limit: Duration) -> Vec<Span> {
        let begun = Instant::now();
        loop {
            let spans = self.trace(id);
            let is_missing = |name: &&String| !spans.iter().any(|span| span.name == **name);
            let missing: Vec<_> = names.iter().filter(is_missing).collect();
            if missing.is_empty() {
                return spans;
            }
            let late = begun.elapsed() > limit;
            assert!(!late, "no spans {missing:?} within {limit:?} in {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn flatten(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let about = resource
            .resource
            .map(|resource| texts(&resource.attributes));
        let service = about.and_then(|about| about.get("service.name").cloned());
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            spans.push(Span {
                service: service.clone().unwrap_or_default(),
                kind: span.kind(),
                start_us: span.start_time_unix_nano / 1000,
                end_us: span.end_time_unix_nano / 1000,
                error: span
                    .status
                    .is_some_and(|status| status.code() == StatusCode::Error),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: texts(&span.attributes),
                name: span.name,
            });
        }
    }
    spans
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .iter()
        .filter_map(|pair| Some((pair.key.clone(), text(pair.value.as_ref()?.value.as_ref()?))))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
