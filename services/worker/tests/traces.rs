//! The spans of a job in a worker: names, kinds and parents. A file of its own, since the subscriber is the process's.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use opentelemetry::trace::{SpanId, SpanKind, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use support::{Rig, TRACE, settings, until, usual_types};
use tidegate_contract::headers::TRACEPARENT;
use tracing_subscriber::layer::SubscriberExt;

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key.as_str() == name)?;
    Some(found.value.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_from_the_record_through_the_handler_to_the_reply() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let id = rig.submit(&rig.job("script", "ok")).await;
    let reply = rig.ended(id).await.pop().unwrap();
    assert_eq!(reply.event.job.trace_id.as_deref(), Some(TRACE));
    let spans = until("all spans", || {
        let mut spans = exporter.get_finished_spans().unwrap();
        spans.retain(|span| span.span_context.trace_id().to_string() == TRACE);
        (spans.len() == 3).then_some(spans)
    })
    .await;
    let named = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} among {spans:?}"))
    };
    let process = named("process tidegate.jobs.normal");
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert_eq!(
        process.parent_span_id,
        SpanId::from_hex("b7ad6b7169203331").unwrap()
    );
    let handle = named("handle script");
    assert_eq!(handle.span_kind, SpanKind::Internal);
    assert_eq!(handle.parent_span_id, process.span_context.span_id());
    let send = named("send tidegate.replies");
    assert_eq!(send.span_kind, SpanKind::Producer);
    assert_eq!(send.parent_span_id, process.span_context.span_id());
    let parent = reply.headers.get(TRACEPARENT).unwrap();
    assert!(
        parent.contains(&send.span_context.span_id().to_string()),
        "{parent}"
    );
    for (name, value) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "tidegate.jobs.normal"),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
        (
            "messaging.consumer.group.name",
            "tidegate.worker.default.normal",
        ),
        ("messaging.message.conversation_id", &id.to_string()),
    ] {
        assert_eq!(attribute(process, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        attribute(send, "messaging.operation.type").as_deref(),
        Some("send")
    );
    worker.stop().await;
}
