//! Spans out, by OTLP over HTTP with protobuf.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter};

use super::TelemetryError;

/// Longest export of one batch, with its retries.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// Spans held while the receiver is slow or away; further ones are dropped, and nothing waits for them.
const QUEUE_SPANS: usize = 8192;
/// A failing receiver is one log line in this time.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// The processor that sends batches to `endpoint` from a thread of its own.
pub(super) fn processor(endpoint: &str) -> Result<BatchSpanProcessor, TelemetryError> {
    let url = traces_url(endpoint)?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| TelemetryError::Endpoint(error.to_string()))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS)
        .with_max_export_batch_size(512)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    let complaints = Complaints::default();
    Ok(BatchSpanProcessor::builder(Seldom {
        exporter,
        complaints,
    })
    .with_batch_config(batches)
    .build())
}

/// The batch thread has no async runtime, so the client is a blocking one. Making (and dropping) such a client within
/// an async runtime is refused by reqwest, so it is made on a thread.
fn client() -> Result<reqwest::blocking::Client, TelemetryError> {
    let build = || {
        reqwest::blocking::Client::builder()
            .timeout(EXPORT_LIMIT)
            .build()
    };
    match std::thread::spawn(build).join() {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(TelemetryError::Endpoint(error.to_string())),
        Err(_) => Err(TelemetryError::Endpoint(
            "the HTTP client cannot be made".to_owned(),
        )),
    }
}

/// The URL for traces under a receiver's base URL.
fn traces_url(endpoint: &str) -> Result<String, TelemetryError> {
    let refused =
        || TelemetryError::Endpoint("not a base URL such as `http://127.0.0.1:4318`".to_owned());
    let mut url = reqwest::Url::parse(endpoint).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with("/v1/traces") {
        url.set_path(&format!("{path}/v1/traces"));
    }
    Ok(url.into())
}

/// An exporter whose failures are said seldom. The SDK would say each of them; here the batch is lost, which is counted,
/// and the process goes on.
#[derive(Debug)]
struct Seldom<E> {
    exporter: E,
    complaints: Complaints,
}

impl<E: SpanExporter> SpanExporter for Seldom<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if let Err(error) = self.exporter.export(batch).await
            && let Some(lost) = self.complaints.lost(spans, Instant::now())
        {
            tracing::warn!(%error, lost_spans = lost, "traces cannot be exported, going on without");
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.exporter.set_resource(resource);
    }
}

/// What was lost since it was last said.
#[derive(Debug, Default)]
struct Complaints {
    state: Mutex<(Option<Instant>, usize)>,
}

impl Complaints {
    /// Counts lost spans; `Some` with the sum when it is time to say so.
    fn lost(&self, spans: usize, now: Instant) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += spans;
        if state
            .0
            .is_some_and(|said| now.duration_since(said) < COMPLAINT_EVERY)
        {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_appended_where_it_is_missing() {
        for (given, made) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel/in/v1/traces", "https://otel/in/v1/traces"),
            ("https://otel/in/", "https://otel/in/v1/traces"),
        ] {
            assert_eq!(traces_url(given).unwrap(), made);
        }
        for bad in ["", "127.0.0.1:4318", "grpc://x:4317", "http://"] {
            assert!(traces_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_receiver_that_is_away_is_one_line_a_minute() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert_eq!(complaints.lost(5, start), Some(5));
        assert_eq!(complaints.lost(7, start + Duration::from_secs(1)), None);
        assert_eq!(complaints.lost(8, start + Duration::from_secs(59)), None);
        assert_eq!(complaints.lost(1, start + COMPLAINT_EVERY), Some(16));
    }
}
