//! The spans of a worker, named after the messaging conventions of OpenTelemetry (`{operation} {destination}`).

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tidegate_contract::JobId;
use tracing::{Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::lane::Place;

/// `process {topic}`: a record in the worker, from the choice to its acknowledged outcome.
pub(crate) fn process(place: &Place, job_id: Option<JobId>) -> Span {
    let topic = &place.lane.topic;
    let span = info_span!(
        "process",
        otel.name = %format_args!("process {topic}"),
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = %topic,
        messaging.destination.partition.id = %place.partition,
        messaging.consumer.group.name = %place.lane.group,
        messaging.kafka.offset = place.offset,
        messaging.message.conversation_id = field::Empty,
    );
    if let Some(id) = job_id {
        span.record("messaging.message.conversation_id", field::display(id));
    }
    span
}

/// `handle {type}`: the handler and what it does.
pub(crate) fn handle(parent: &Span, job_type: &str, attempt: i32) -> Span {
    info_span!(
        parent: parent,
        "handle",
        otel.name = %format_args!("handle {job_type}"),
        tidegate.job.type = job_type,
        tidegate.attempt = attempt,
    )
}

/// `send {topic}`: one record on its way, until it is acknowledged.
pub(crate) fn send(parent: &Span, topic: &str, partition: Option<i32>, job_id: JobId) -> Span {
    let span = info_span!(
        parent: parent,
        "send",
        otel.name = %format_args!("send {topic}"),
        otel.kind = "producer",
        messaging.system = "kafka",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = topic,
        messaging.destination.partition.id = field::Empty,
        messaging.message.conversation_id = %job_id,
    );
    if let Some(partition) = partition {
        span.record(
            "messaging.destination.partition.id",
            field::display(partition),
        );
    }
    span
}

/// Marks a span as failed.
pub(crate) fn failed(span: &Span, description: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", description);
}

/// The context that goes into headers: the span's own, or what came in where no spans are made.
pub(crate) fn context(span: &Span, incoming: &Context) -> Context {
    let own = span.context();
    if own.span().span_context().is_valid() {
        own
    } else {
        incoming.clone()
    }
}
