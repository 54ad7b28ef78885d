//! Trace context in record headers: W3C `traceparent` and `tracestate`.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tidegate_contract::RecordHeaders;
use tidegate_contract::headers::{TRACEPARENT, TRACESTATE};

struct Into<'a>(&'a mut RecordHeaders);

impl Injector for Into<'_> {
    fn set(&mut self, name: &str, value: String) {
        // The propagator writes an empty `tracestate` where there is none: a header that says nothing.
        if !value.is_empty() {
            self.0.set(name, value);
        }
    }
}

struct From<'a>(&'a RecordHeaders);

impl Extractor for From<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// Writes the span of `cx` into the headers, replacing what is there. Without a valid span nothing changes.
pub fn inject(cx: &Context, headers: &mut RecordHeaders) {
    TraceContextPropagator::new().inject_context(cx, &mut Into(headers));
}

/// The context that the headers name; empty when they name none or a malformed one.
pub fn extract(headers: &RecordHeaders) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &From(headers))
}

/// The trace that the headers name, as 32 hexadecimal digits.
pub fn trace_id(headers: &RecordHeaders) -> Option<String> {
    let cx = extract(headers);
    let span = cx.span();
    let context = span.span_context();
    context.is_valid().then(|| context.trace_id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_survives_the_headers() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let given: RecordHeaders = [(TRACEPARENT, parent), (TRACESTATE, "a=1")]
            .into_iter()
            .collect();
        let cx = extract(&given);
        assert!(cx.span().span_context().is_remote());
        let mut out = RecordHeaders::new();
        inject(&cx, &mut out);
        assert_eq!(out, given);
        let id = trace_id(&given);
        assert_eq!(id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    }

    #[test]
    fn nonsense_is_no_context() {
        let given: RecordHeaders = [(TRACEPARENT, "00-zz")].into_iter().collect();
        assert!(!extract(&given).span().span_context().is_valid());
        assert_eq!(trace_id(&given), None);
        let mut out = RecordHeaders::new();
        inject(&Context::new(), &mut out);
        assert_eq!(out, RecordHeaders::new());
    }
}
