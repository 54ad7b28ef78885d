//! Which traces are exported, decided before the first span of each.
//!
//! Of a trace that is not exported only the ids are needed: an answer tells the trace id, records carry both on. So
//! no span of OpenTelemetry is made for it at all. Its ids travel as a [`Context`] instead, which is the current one
//! wherever work is done for it, and the layer that makes spans passes over what is made within: see
//! [`is_passed_over`]. Log lines find job and trace as ever.

use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, KeyValue, SpanId, TraceId};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Of 2^32 traces that begin in this process so many are exported; set with telemetry.
static SHARE: AtomicU64 = AtomicU64::new(WHOLE);
const WHOLE: u64 = 1 << 32;

/// Sets the share of traces begun here that are exported, 0 to 1.
pub(super) fn set_ratio(ratio: f64) {
    let share = (ratio.clamp(0.0, 1.0) * WHOLE as f64) as u64;
    SHARE.store(share, Ordering::Relaxed);
}

/// The trace that some work belongs to.
#[derive(Clone, Debug)]
pub enum Trace {
    /// It is exported: spans are made. The context is the remote parent, if it has one.
    Exported(Context),
    /// It is not: this context, the current one while work is done, has its ids.
    Passed(Context),
}

/// Marks a context without a span whose trace is to be exported.
#[derive(Debug)]
struct Chosen;

impl Trace {
    /// The trace of `parent`, which keeps the decision that it came with; a new one if that has no valid span (W3C Trace
    /// Context, 3.2.2: a malformed `traceparent` is as good as none).
    pub fn join(parent: Context) -> Self {
        let given = parent.span().span_context().clone();
        match (given.is_valid(), given.is_sampled()) {
            (true, true) => Self::Exported(parent),
            (true, false) => Self::Passed(parent),
            (false, _) => Self::begin(SHARE.load(Ordering::Relaxed)),
        }
    }

    fn begin(share: u64) -> Self {
        let drawn: u32 = rand::random();
        if u64::from(drawn) < share {
            return Self::Exported(Context::new().with_value(Chosen));
        }
        // An id of zeros is no id.
        let ids = SpanContext::new(
            TraceId::from(rand::random::<u128>().max(1)),
            SpanId::from(rand::random::<u64>().max(1)),
            TraceFlags::default(),
            false,
            TraceState::default(),
        );
        Self::Passed(Context::new().with_remote_span_context(ids))
    }

    /// The context that work for this trace is done in.
    pub fn context(&self) -> &Context {
        match self {
            Self::Exported(context) | Self::Passed(context) => context,
        }
    }

    /// Makes the first span of this trace in this process.
    pub fn span(&self, make: impl FnOnce() -> Span) -> Span {
        match self {
            Self::Exported(parent) => {
                let span = make();
                // Refused only by a subscriber without the OpenTelemetry layer, where there is nothing to join.
                let _ = span.set_parent(parent.clone());
                span
            }
            Self::Passed(ids) => {
                let _within = ids.clone().attach();
                make()
            }
        }
    }
}

/// Whether a span that is made now belongs to a trace that is not exported.
pub(super) fn is_passed_over() -> bool {
    Context::map_current(|current| {
        let span = current.span();
        let ids = span.span_context();
        ids.is_valid() && !ids.is_sampled()
    })
}

/// What carries the trace of `span` on: its own context, or the current one where no span is made.
pub fn context(span: &Span) -> Context {
    let own = span.context();
    match own.span().span_context().is_valid() {
        true => own,
        false => Context::current(),
    }
}

/// The trace id of a context: 32 hex digits. `None` if it belongs to no trace.
pub fn trace_id_of(context: &Context) -> Option<String> {
    let id = context.span().span_context().trace_id();
    (id != TraceId::INVALID).then(|| id.to_string())
}

/// Samples as the parent says; what has none, by `roots`, unless [`Trace::join`] has decided.
#[derive(Clone, Debug)]
pub(super) struct AsDecided {
    roots: Sampler,
}

impl AsDecided {
    pub(super) fn new(ratio: f64) -> Self {
        let roots = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        Self { roots }
    }
}

impl ShouldSample for AsDecided {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let chosen = parent.is_some_and(|parent| {
            !parent.span().span_context().is_valid() && parent.get::<Chosen>().is_some()
        });
        if chosen {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.roots
            .should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt;

    fn remote(flags: TraceFlags) -> Context {
        Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(7),
            SpanId::from(9),
            flags,
            true,
            TraceState::default(),
        ))
    }

    /// The names of the spans that `work` exports with a sampler that takes no roots.
    fn exported(work: impl FnOnce()) -> Vec<String> {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(AsDecided::new(0.0))
            .with_simple_exporter(exporter.clone())
            .build();
        let _ = provider.tracer("test");
        let subscriber = tracing_subscriber::registry().with(crate::telemetry::spans(&provider));
        tracing::subscriber::with_default(subscriber, work);
        let spans = exporter.get_finished_spans().unwrap_or_default();
        spans.iter().map(|span| span.name.to_string()).collect()
    }

    #[test]
    fn a_trace_from_elsewhere_keeps_its_decision() {
        let names = exported(|| {
            let yes = Trace::join(remote(TraceFlags::SAMPLED));
            let span = yes.span(|| info_span!("yes"));
            assert_eq!(trace_id_of(&context(&span)), trace_id_of(yes.context()));
            let no = Trace::join(remote(TraceFlags::default()));
            assert!(matches!(no, Trace::Passed(_)));
            let _within = no.context().clone().attach();
            let span = no.span(|| info_span!("no"));
            let _entered = span.enter();
            info_span!("within").in_scope(|| ());
            assert_eq!(trace_id_of(&context(&span)), trace_id_of(no.context()));
        });
        assert_eq!(names, ["yes"]);
    }

    #[test]
    fn a_chosen_one_is_exported_whatever_the_sampler_says_of_roots() {
        let names = exported(|| {
            let chosen = Trace::Exported(Context::new().with_value(Chosen));
            let root = chosen.span(|| info_span!("root"));
            root.in_scope(|| drop(info_span!("child")));
            drop(info_span!("another root"));
        });
        assert_eq!(names, ["child", "root"]);
    }

    #[test]
    fn a_new_trace_that_is_passed_over_has_ids_of_its_own() {
        let id = || {
            let trace = Trace::begin(0);
            assert!(matches!(trace, Trace::Passed(_)));
            let context = trace.context();
            assert!(!context.span().span_context().is_sampled());
            trace_id_of(context).unwrap()
        };
        assert_ne!(id(), id());
        assert!(matches!(Trace::begin(WHOLE), Trace::Exported(_)));
    }
}
