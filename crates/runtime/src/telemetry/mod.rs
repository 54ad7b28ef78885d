//! Logs and spans.
//!
//! Every job has a trace id to tell, whether or not anything takes its spans; of a trace that is not sampled none are
//! made ([`Trace`]). They leave the process only if `otlp_endpoint` is set. The log filter is for log lines alone: it does not thin out traces.

mod export;
mod log;
mod recent;
mod sampling;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, dynamic_filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use log::LogLayer;
pub use recent::{RecentSpan, RecentSpans, RecentTrace};
pub use sampling::{Trace, context, trace_id_of};

/// What libraries say is of use to those who debug them; `telemetry.log` can name a target to hear it again. Failed
/// exports are said by [`export`], seldom, and not by the exporter each time.
const QUIET: [&str; 9] = [
    "librdkafka=warn",
    "rdkafka=warn",
    "hyper=warn",
    "h2=warn",
    "sqlx=warn",
    "actix_server=warn",
    "opentelemetry=warn",
    "opentelemetry-otlp=off",
    "opentelemetry_sdk=error",
];

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Filter of log lines, such as `info,tidegate_worker=debug`.
    pub log: String,
    pub log_format: LogFormat,
    /// Base URL of an OTLP receiver that takes HTTP with protobuf, such as `http://127.0.0.1:4318`. Without one,
    /// traces have ids and are not exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Base URL of Jaeger's query API, such as `http://127.0.0.1:16686`: where `tidegate trace` looks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_url: Option<String>,
    /// The share of new traces that is exported, 0 to 1. A trace begun elsewhere keeps its own decision.
    pub sample_ratio: f64,
    /// `service.name` of the traces is this and the role: `tidegate-gateway`.
    pub service_name: String,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            query_url: None,
            sample_ratio: 1.0,
            service_name: "tidegate".to_owned(),
        }
    }
}

/// Why telemetry cannot be set up; each names the setting.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("telemetry.log: {0}; a filter is like `info,tidegate_worker=debug`")]
    Filter(String),
    #[error("telemetry.sample_ratio: {0} is not between 0 and 1")]
    SampleRatio(f64),
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(String),
}

/// Logs and spans, on until shut down.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Turns logs (to standard error) and spans on for this process. Only the first call in a process has an effect on
/// what is logged; later ones, as tests make them, succeed and change nothing.
///
/// # Errors
/// When a setting cannot be used. A receiver that is away is no error.
pub fn init(
    settings: &TelemetrySettings,
    role: &str,
    instance: &str,
) -> Result<Telemetry, TelemetryError> {
    init_keeping(settings, role, instance, None)
}

/// The same, and the last spans stay in memory as well.
///
/// # Errors
/// As for [`init`].
pub fn init_keeping(
    settings: &TelemetrySettings,
    role: &str,
    instance: &str,
    recent: Option<&RecentSpans>,
) -> Result<Telemetry, TelemetryError> {
    let filter = log_filter(&settings.log)?;
    let provider = tracer_provider(settings, role, instance, recent)?;
    let lines = LogLayer::stderr(settings.log_format).with_filter(span_filter().or(filter));
    let subscriber = Registry::default().with(lines).with(spans(&provider));
    if subscriber.try_init().is_ok() {
        sampling::set_ratio(settings.sample_ratio);
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    Ok(Telemetry { provider })
}

fn tracer_provider(
    settings: &TelemetrySettings,
    role: &str,
    instance: &str,
    recent: Option<&RecentSpans>,
) -> Result<SdkTracerProvider, TelemetryError> {
    let ratio = settings.sample_ratio;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(TelemetryError::SampleRatio(ratio));
    }
    let resource = Resource::builder()
        .with_service_name(format!("{}-{role}", settings.service_name))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let mut builder = SdkTracerProvider::builder()
        .with_sampler(sampling::AsDecided::new(ratio))
        .with_resource(resource);
    if let Some(endpoint) = &settings.otlp_endpoint {
        builder = builder.with_span_processor(export::processor(endpoint)?);
    }
    if let Some(recent) = recent {
        builder = builder.with_span_processor(recent.processor());
    }
    Ok(builder.build())
}

/// The layer that turns spans into those of OpenTelemetry, and warnings within them into span events.
fn spans<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("tidegate"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // Asked anew for every span. The answers of filters that belong to single layers are kept a thread, and a
        // library that only asks whether something is enabled leaves its answer behind: a span that every filter has
        // allowed for good is not asked about again, and would be dropped by that answer.
        .with_filter(
            dynamic_filter_fn(|meta, _| {
                (is_ours(meta) || meta.is_event() && *meta.level() <= Level::WARN)
                    && !sampling::is_passed_over()
            })
            .with_max_level_hint(LevelFilter::INFO),
        )
}

/// Spans that belong to a trace. Libraries have spans of their own, mostly below INFO.
fn is_ours(meta: &Metadata<'_>) -> bool {
    const THEIRS: [&str; 5] = ["h2", "hyper", "sqlx", "rdkafka", "reqwest"];
    let root = meta.target().split("::").next().unwrap_or_default();
    meta.is_span() && *meta.level() <= Level::INFO && !THEIRS.contains(&root)
}

/// Lets spans through to the log lines whatever the log filter says, because their fields are on every line.
fn span_filter() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    fn ours(meta: &Metadata<'_>) -> bool {
        is_ours(meta)
    }
    FilterFn::new(ours as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::INFO)
}

fn log_filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let mut filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(text)
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    for directive in QUIET {
        let target = directive.split('=').next().unwrap_or_default();
        if !text.contains(target)
            && let Ok(directive) = directive.parse()
        {
            filter = filter.add_directive(directive);
        }
    }
    Ok(filter)
}

impl Telemetry {
    /// Sends what spans are left, for at most `limit`; the last stage of a clean stop. Spans of later work are lost.
    pub async fn shutdown(self, limit: Duration) {
        let provider = self.provider;
        // The SDK waits for its thread, which must not happen on an async worker.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        match tokio::time::timeout(limit, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans may be lost"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans may be lost: out of time"),
        }
    }
}

/// The trace id of `span`, or of the current trace where no spans are made of it: 32 hex digits. `None` if there is
/// none. This starts the span, so give it a remote parent first.
pub fn trace_id(span: &tracing::Span) -> Option<String> {
    trace_id_of(&context(span))
}

/// The trace id of the current span.
pub fn current_trace_id() -> Option<String> {
    trace_id(&tracing::Span::current())
}
