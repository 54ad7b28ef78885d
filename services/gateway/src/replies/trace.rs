//! The span of a reply in its job's trace.

use opentelemetry::trace::TraceContextExt;
use tidegate_contract::headers::TRACEPARENT;
use tidegate_contract::{JobEvent, RecordHeaders};
use tidegate_kafka::Record;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A CONSUMER span `process {topic}` below the span that sent the record; none for a trace that is not sampled,
/// for this runs once a record.
pub(crate) fn process(record: &Record, event: &JobEvent, topic: &str) -> Span {
    let parent = tidegate_kafka::trace::extract(&record.headers);
    if !parent.span().span_context().is_sampled() {
        return Span::none();
    }
    let span = tracing::info_span!(
        "process replies",
        otel.name = format!("process {topic}"),
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
        messaging.destination.partition.id = record.partition,
        messaging.kafka.offset = record.offset,
        messaging.message.conversation_id = %event.job_id,
        tidegate.event = event.kind.as_str(),
        job_id = %event.job_id,
    );
    // Refused only by a subscriber without the OpenTelemetry layer, where there is nothing to join.
    let _ = span.set_parent(parent);
    span
}

/// The `traceparent` of a record, if it is a good one.
pub(crate) fn parent(headers: &RecordHeaders) -> Option<String> {
    trace_id(headers)?;
    headers.get(TRACEPARENT).map(str::to_owned)
}

/// The trace that a record travels in: 32 hexadecimal digits.
pub(crate) fn trace_id(headers: &RecordHeaders) -> Option<String> {
    let parent = tidegate_kafka::trace::extract(headers);
    let context = parent.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}
