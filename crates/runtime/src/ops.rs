//! The endpoints for operators: `/healthz`, `/readyz`, `/metrics`.

use std::net::SocketAddr;

use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use crate::telemetry::RecentSpans;

/// What the endpoints answer from.
#[derive(Clone, Debug)]
pub struct OpsState {
    pub readiness: Readiness,
    pub metrics: Metrics,
    /// Only of `dev`: then `/dev/traces/{id}` is served too.
    pub recent_spans: Option<RecentSpans>,
}

/// Adds the routes to an application: each role serves them where it serves the rest.
pub fn configure(app: &mut web::ServiceConfig, state: OpsState) {
    if state.recent_spans.is_some() {
        app.route("/dev/traces/{id}", web::get().to(recent_trace));
    }
    app.app_data(web::Data::new(state))
        .route("/healthz", web::get().to(healthz))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics_text));
}

/// The process lives; nothing more is said, since a restart mends no dependency.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

async fn readyz(state: web::Data<OpsState>) -> HttpResponse {
    let report = state.readiness.report();
    if report.ready {
        HttpResponse::Ok().json(report)
    } else {
        HttpResponse::ServiceUnavailable().json(report)
    }
}

async fn metrics_text(state: web::Data<OpsState>) -> HttpResponse {
    state.metrics.observe_readiness(&state.readiness.report());
    HttpResponse::Ok()
        .content_type(metrics::CONTENT_TYPE)
        .body(state.metrics.encode())
}

/// The spans of a trace, by its id or that of its job.
async fn recent_trace(state: web::Data<OpsState>, id: web::Path<String>) -> HttpResponse {
    match state.recent_spans.as_ref().and_then(|spans| spans.find(&id)) {
        Some(trace) => HttpResponse::Ok().json(trace),
        None => HttpResponse::NotFound()
            .content_type("application/problem+json")
            .json(serde_json::json!({
                "type": "/problems/unknown-trace",
                "title": "Unknown trace",
                "status": 404,
                "code": "unknown-trace",
                "detail": "no span of it is kept: the id is neither that of a job nor of a trace, its spans were not \
                           sampled or have not ended, or many have come since",
            })),
    }
}

/// The running server of a role that has no HTTP of its own.
#[derive(Debug)]
pub struct OpsServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl OpsServer {
    /// The address that was bound, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until it has stopped.
    pub async fn stopped(self) {
        let _ = self.task.await;
    }
}

/// Serves the three endpoints on `listen` (`127.0.0.1:0` picks a port) until `stop` is cancelled. Pass a token that
/// ends after the drain, so that operators can watch it.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    listen: &str,
    state: OpsState,
    stop: CancellationToken,
) -> std::io::Result<OpsServer> {
    let server = HttpServer::new(move || {
        let state = state.clone();
        App::new().configure(move |app| configure(app, state))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .bind(listen)?;
    let addr = server
        .addrs()
        .first()
        .copied()
        .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let server = server.run();
    let handle = server.handle();
    let task = tokio::spawn(async move {
        let stopper = tokio::spawn(async move {
            stop.cancelled().await;
            handle.stop(true).await;
        });
        if let Err(error) = server.await {
            tracing::error!(%error, "the operations endpoints ended");
        }
        stopper.abort();
    });
    Ok(OpsServer { addr, task })
}
