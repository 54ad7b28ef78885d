//! Spans reach a receiver: the exporter, its thread, the batch and the flush at the end, together.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prost::Message;
use tidegate_runtime::telemetry::{self, TelemetrySettings};
use tracing::{Instrument, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A receiver on a port of its own, and what it received.
fn receiver() -> (String, Received) {
    let received = Received::default();
    let store = web::Data::new(Arc::clone(&received));
    let take = |body: web::Bytes, store: web::Data<Received>| async move {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        store.lock().unwrap().push(request);
        HttpResponse::Ok().finish()
    };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(store.clone())
            .route("/v1/traces", web::post().to(take))
    })
    .workers(1)
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    (url, received)
}

/// The only test of this file, since tracing has one subscriber a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_arrive_with_their_parents_and_a_second_init_changes_nothing() {
    let (url, received) = receiver();
    let settings = TelemetrySettings {
        otlp_endpoint: Some(url),
        ..TelemetrySettings::default()
    };
    let telemetry = telemetry::init(&settings, "gateway", "host-1-abc").unwrap();
    let away = TelemetrySettings {
        otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..TelemetrySettings::default()
    };
    let second = telemetry::init(&away, "worker", "host-2-abc").unwrap();

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = [(
        "traceparent".to_owned(),
        format!("00-{trace}-00f067aa0ba902b7-01"),
    )];
    let remote = TraceContextPropagator::new().extract(
        &headers
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>(),
    );
    let outer = info_span!("outer", otel.kind = "server", job_id = "0192");
    outer.set_parent(remote).unwrap();
    async {
        assert_eq!(telemetry::current_trace_id().as_deref(), Some(trace));
        tracing::warn!("an event");
        async {}
            .instrument(info_span!("inner", otel.kind = "producer"))
            .await;
    }
    .instrument(outer)
    .await;

    second.shutdown(Duration::from_secs(5)).await;
    telemetry.shutdown(Duration::from_secs(10)).await;

    let requests = received.lock().unwrap().clone();
    let resource = format!("{:?}", requests[0].resource_spans[0].resource);
    assert!(
        resource.contains("tidegate-gateway") && resource.contains("host-1-abc"),
        "{resource}"
    );
    let spans: Vec<Span> = requests
        .into_iter()
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (outer, inner) = (find("outer"), find("inner"));
    assert_eq!(
        outer.parent_span_id,
        0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()
    );
    assert_eq!(inner.parent_span_id, outer.span_id);
    assert_eq!(outer.trace_id, inner.trace_id);
    assert_eq!((outer.kind, inner.kind), (2, 4), "server, producer");
    assert!(
        outer
            .attributes
            .iter()
            .any(|attribute| attribute.key == "job_id")
    );
    assert_eq!(outer.events.len(), 1);
}
