//! The last spans of this process, kept in memory: for `dev`, which exports none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Context, Key};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use serde::Serialize;
use tidegate_contract::JobId;

/// Spans and bytes that are kept at most; the oldest go first. A job has about six.
const SPANS: usize = 20_000;
const BYTES: usize = 16 << 20;
/// Longer texts are cut: an attribute is no place for a document.
const TEXT: usize = 512;
/// The attributes by which a job is found.
const JOB: [&str; 2] = ["messaging.message.conversation_id", "job_id"];

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentSpan {
    #[serde(skip)]
    trace: TraceId,
    pub span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<String>,
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    pub service: String,
    /// Unix microseconds.
    pub start_us: u64,
    pub duration_us: u64,
    pub error: bool,
    pub attributes: BTreeMap<String, String>,
}

impl RecentSpan {
    fn bytes(&self) -> usize {
        let attributes = self.attributes.iter();
        let attributes: usize = attributes
            .map(|(key, value)| key.len() + value.len() + 64)
            .sum();
        size_of::<Self>() + self.name.len() + self.service.len() + 64 + attributes
    }

    fn is_of(&self, job: &str) -> bool {
        JOB.iter()
            .any(|key| self.attributes.get(*key).is_some_and(|id| id == job))
    }
}

/// A trace, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentTrace {
    pub trace_id: String,
    /// In the order in which they ended.
    pub spans: Vec<RecentSpan>,
}

/// The last spans, bounded by number and bytes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RecentSpans {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: VecDeque<RecentSpan>,
    bytes: usize,
}

impl RecentSpans {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, span: RecentSpan) {
        let mut kept = self.lock();
        kept.bytes += span.bytes();
        kept.spans.push_back(span);
        while kept.spans.len() > SPANS || kept.bytes > BYTES {
            let Some(oldest) = kept.spans.pop_front() else {
                break;
            };
            kept.bytes = kept.bytes.saturating_sub(oldest.bytes());
        }
    }

    /// The spans of a trace, given its id (32 hexadecimal digits) or that of a job in it. `None` if none is kept.
    pub fn find(&self, id: &str) -> Option<RecentTrace> {
        let kept = self.lock();
        let trace = match id.parse::<JobId>() {
            Ok(_) => kept.spans.iter().rev().find(|span| span.is_of(id))?.trace,
            Err(_) => TraceId::from_hex(id).ok()?,
        };
        let spans = kept.spans.iter().filter(|span| span.trace == trace);
        let spans: Vec<_> = spans.cloned().collect();
        let trace_id = trace.to_string();
        (!spans.is_empty()).then_some(RecentTrace { trace_id, spans })
    }

    pub(super) fn processor(&self) -> impl SpanProcessor + use<> {
        Keeper {
            spans: self.clone(),
            service: String::new(),
        }
    }
}

/// What the tracer tells of ended spans.
#[derive(Debug)]
struct Keeper {
    spans: RecentSpans,
    service: String,
}

impl SpanProcessor for Keeper {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.spans.keep(recent(&span, &self.service));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let name = resource.get(&Key::from_static_str("service.name"));
        self.service = name.map(|name| name.to_string()).unwrap_or_default();
    }
}

fn recent(span: &SpanData, service: &str) -> RecentSpan {
    let context = &span.span_context;
    let parent = span.parent_span_id;
    let mut attributes: BTreeMap<String, String> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.to_string(), clip(attribute.value.to_string())))
        .collect();
    if let Status::Error { description } = &span.status
        && !description.is_empty()
    {
        attributes.insert(
            "otel.status_description".to_owned(),
            clip(description.to_string()),
        );
    }
    RecentSpan {
        trace: context.trace_id(),
        span_id: context.span_id().to_string(),
        parent_span_id: (parent != SpanId::INVALID).then(|| parent.to_string()),
        name: clip(span.name.to_string()),
        kind: match span.span_kind {
            SpanKind::Client => "client",
            SpanKind::Server => "server",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal => "internal",
        },
        service: service.to_owned(),
        start_us: micros(span.start_time.duration_since(UNIX_EPOCH)),
        duration_us: micros(span.end_time.duration_since(span.start_time)),
        error: matches!(span.status, Status::Error { .. }),
        attributes,
    }
}

fn micros(duration: Result<Duration, std::time::SystemTimeError>) -> u64 {
    duration.map_or(0, |duration| {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    })
}

fn clip(mut text: String) -> String {
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: u128, name: &str, job: Option<JobId>) -> RecentSpan {
        let job = job.map(|id| (JOB[0].to_owned(), id.to_string()));
        RecentSpan {
            trace: TraceId::from_bytes(trace.to_be_bytes()),
            span_id: "1".to_owned(),
            parent_span_id: None,
            name: name.to_owned(),
            kind: "internal",
            service: "tidegate-dev".to_owned(),
            start_us: 0,
            duration_us: 0,
            error: false,
            attributes: job.into_iter().collect(),
        }
    }

    #[test]
    fn a_trace_is_found_by_its_id_and_by_its_job() {
        let spans = RecentSpans::default();
        let id = JobId::generate();
        spans.keep(span(7, "a", None));
        spans.keep(span(8, "other", Some(JobId::generate())));
        spans.keep(span(7, "b", Some(id)));
        let names = |id: &str| {
            let trace = spans.find(id)?;
            Some(
                trace
                    .spans
                    .iter()
                    .map(|span| span.name.clone())
                    .collect::<Vec<_>>(),
            )
        };
        let expected = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(names(&format!("{:032x}", 7)), expected);
        assert_eq!(names(&id.to_string()), expected);
        assert_eq!(names(&JobId::generate().to_string()), None);
        assert_eq!(names("nonsense"), None);
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_bytes() {
        let spans = RecentSpans::default();
        for number in 0..SPANS + 10 {
            spans.keep(span(number as u128 + 1, "n", None));
        }
        assert_eq!(spans.lock().spans.len(), SPANS);
        assert_eq!(spans.find(&format!("{:032x}", 10)), None);
        assert!(spans.find(&format!("{:032x}", 11)).is_some());
        // Few large ones.
        let large = "x".repeat(BYTES / 4);
        for number in 0..10 {
            spans.keep(span(number + 1, &large, None));
        }
        let kept = spans.lock();
        assert!(
            kept.bytes <= BYTES && kept.spans.len() == 3,
            "{}",
            kept.spans.len()
        );
        assert_eq!(
            kept.bytes,
            kept.spans.iter().map(RecentSpan::bytes).sum::<usize>()
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clip("short".to_owned()), "short");
        let cut = clip("ä".repeat(TEXT));
        assert_eq!(cut.chars().count(), TEXT / 2 + 1);
    }
}
