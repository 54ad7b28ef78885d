//! Jaeger where it was built, and else an imitation of the little of its query API that Tidegate asks.

use std::collections::HashMap;

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::otlp::{Receiver, Span};

/// Where spans go and where they are asked for.
pub struct Jaeger {
    pub otlp: String,
    pub query: String,
    pub is_real: bool,
}

impl Jaeger {
    /// The one that `scripts/test` has started, or an imitation.
    pub fn real_or_imitated() -> Self {
        let variables = ("TIDEGATE_TEST_OTLP", "TIDEGATE_TEST_JAEGER");
        match (std::env::var(variables.0), std::env::var(variables.1)) {
            (Ok(otlp), Ok(query)) => Self {
                otlp,
                query,
                is_real: true,
            },
            _ => {
                println!(
                    "jaeger: not built here (scripts/jaeger build does that): an imitation of its query API is asked"
                );
                Self::imitated()
            }
        }
    }

    fn imitated() -> Self {
        let receiver = Receiver::start();
        let otlp = receiver.url.clone();
        let kept = web::Data::new(receiver);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(kept.clone())
                .route("/api/traces", web::get().to(search))
                .route("/api/traces/{id}", web::get().to(trace))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .expect("a port");
        let query = format!("http://{}", server.addrs()[0]);
        tokio::spawn(server.run());
        Self {
            otlp,
            query,
            is_real: false,
        }
    }
}

async fn trace(receiver: web::Data<Receiver>, id: web::Path<String>) -> HttpResponse {
    let spans = receiver.trace(&id);
    if spans.is_empty() {
        return HttpResponse::NotFound()
            .json(json!({"data": null, "errors": [{"code": 404, "msg": "trace not found"}]}));
    }
    HttpResponse::Ok().json(json!({"data": [document(&id, &spans)], "errors": null}))
}

async fn search(
    receiver: web::Data<Receiver>,
    asked: web::Query<HashMap<String, String>>,
) -> HttpResponse {
    let tags: HashMap<String, String> = serde_json::from_str(&asked["tags"]).expect("tags");
    let found = tags
        .iter()
        .find_map(|(name, value)| receiver.trace_with(name, value));
    let found = found.map(|id| document(&id, &receiver.trace(&id)));
    let found: Vec<_> = found.into_iter().collect();
    HttpResponse::Ok().json(json!({"data": found, "errors": null}))
}

fn document(id: &str, spans: &[Span]) -> Value {
    let processes = spans.iter();
    let processes: serde_json::Map<_, _> = processes
        .map(|span| {
            (
                span.service.clone(),
                json!({"serviceName": span.service, "tags": []}),
            )
        })
        .collect();
    let spans: Vec<_> = spans.iter().map(|span| document_of(id, span)).collect();
    json!({"traceID": id, "spans": spans, "processes": processes})
}

fn document_of(id: &str, span: &Span) -> Value {
    let parent = json!({"refType": "CHILD_OF", "traceID": id, "spanID": span.parent});
    let references = match span.parent.is_empty() {
        true => Vec::new(),
        false => vec![parent],
    };
    let kind = match span.kind {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal | SpanKind::Unspecified => "internal",
    };
    let text = |name: &str, value: &str| json!({"key": name, "type": "string", "value": value});
    let mut tags = vec![text("span.kind", kind)];
    tags.extend(
        span.attributes
            .iter()
            .map(|(name, value)| text(name, value)),
    );
    if span.error {
        tags.push(json!({"key": "error", "type": "bool", "value": true}));
    }
    json!({
        "traceID": id,
        "spanID": span.id,
        "operationName": span.name,
        "references": references,
        "startTime": span.start_us,
        "duration": span.end_us - span.start_us,
        "tags": tags,
        "logs": [],
        "processID": span.service,
    })
}
