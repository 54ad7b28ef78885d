//! Around every request: its SERVER span, the trace id in its answer, its metrics.

use std::sync::atomic::Ordering;
use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tidegate_runtime::telemetry::{self, Trace};
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::state::AppState;

/// The middleware.
pub async fn observe(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = Instant::now();
    let Some(state) = req.app_data::<Data<AppState>>().cloned() else {
        return next.call(req).await;
    };
    let _open = Open::new(&state);
    let method = req.method().clone();
    let quiet = matches!(req.path(), "/healthz" | "/readyz" | "/metrics");
    let (span, trace_id, within) = if quiet {
        (Span::none(), None, Context::new())
    } else {
        let trace = joined(&req);
        let span = trace.span(|| server_span(&req));
        let within = match &trace {
            Trace::Exported(_) => span.context(),
            Trace::Passed(ids) => ids.clone(),
        };
        (span, telemetry::trace_id_of(&within), within)
    };
    let handled = next.call(req).instrument(span.clone());
    let result = handled.with_context(within.clone()).await;
    let mut response = match result {
        Ok(response) => response,
        Err(error) => {
            let status = error.as_response_error().status_code().as_u16();
            state
                .metrics
                .http_request(method.as_str(), UNMATCHED, status, begun.elapsed());
            return Err(error);
        }
    };
    let status = response.status().as_u16();
    let route = route(&response);
    // The span has begun, since its trace id was asked for, and the field `otel.name` is of no use any more.
    if within.span().span_context().is_sampled() {
        within.span().update_name(format!("{method} {route}"));
    }
    span.record("http.route", &route);
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status);
    }
    state
        .metrics
        .http_request(method.as_str(), &route, status, begun.elapsed());
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(&id).ok()) {
        let name = HeaderName::from_static("tidegate-trace-id");
        response.headers_mut().insert(name, value);
    }
    if state.stop.intake.is_cancelled() {
        // The client's next request shall go to somebody who stays.
        let head = response.response_mut().head_mut();
        head.set_connection_type(actix_web::http::ConnectionType::Close);
    }
    Ok(response)
}

const UNMATCHED: &str = "unmatched";

/// The pattern that a request matched. One resource takes submits and statuses, each with a name for its parameter.
fn route<B>(response: &ServiceResponse<B>) -> String {
    let req = response.request();
    match req.match_pattern() {
        None => UNMATCHED.to_owned(),
        Some(pattern) if pattern == crate::server::JOBS => {
            let is_submit = req.method() == actix_web::http::Method::POST;
            if is_submit {
                "/v1/jobs/{type}"
            } else {
                "/v1/jobs/{id}"
            }
            .to_owned()
        }
        Some(pattern) if pattern.starts_with("/docs/") => "/docs/{file}".to_owned(),
        Some(pattern) => pattern,
    }
}

/// The trace that the request names, or a new one.
fn joined(req: &ServiceRequest) -> Trace {
    let headers = Headers(req.headers());
    Trace::join(TraceContextPropagator::new().extract_with_context(&Context::new(), &headers))
}

fn server_span(req: &ServiceRequest) -> Span {
    let info = req.connection_info();
    tracing::info_span!(
        "request",
        otel.name = field::Empty,
        otel.kind = "server",
        otel.status_code = field::Empty,
        error.type = field::Empty,
        http.request.method = req.method().as_str(),
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        url.path = req.path(),
        url.scheme = info.scheme(),
        server.address = info.host(),
        client.address = info.peer_addr(),
        network.protocol.version = "1.1",
        user_agent.original = req
            .headers()
            .get(actix_web::http::header::USER_AGENT)
            .and_then(|value| value.to_str().ok()),
    )
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Counts a request for as long as it is handled, also one whose client goes away.
struct Open(Data<AppState>);

impl Open {
    fn new(state: &Data<AppState>) -> Self {
        state.requests.fetch_add(1, Ordering::AcqRel);
        Self(state.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}
