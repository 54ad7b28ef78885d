//! The HTTP application: which path leads to which handler.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{App, HttpRequest, HttpServer, Route};
use socket2::SockRef;
use tidegate_runtime::ops::{self, OpsState};

use crate::auth::Principal;
use crate::callbacks::{endpoints, looking};
use crate::docs::{self, Docs};
use crate::observe::observe;
use crate::problem::{ApiError, clip};
use crate::routes::Target;
use crate::state::AppState;
use crate::{
    cancel, catalog, dead_letters, erasing, listing, pausing, result, status, streams, submit,
};

/// Submits and statuses share a resource: it is the method that tells them apart.
pub const JOBS: &str = "/v1/jobs/{name}";

/// A request's head must be there within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds every route of a gateway.
pub fn configure(
    app: &mut ServiceConfig,
    state: &Data<AppState>,
    docs: &Data<Docs>,
    ops: OpsState,
) {
    app.app_data(state.clone()).app_data(docs.clone());
    ops::configure(app, ops);
    app.service(
        web::resource(JOBS)
            .route(web::post().to(submit::by_type))
            .route(web::get().to(status::status))
            .route(web::delete().to(erasing::erase))
            .default_service(not_allowed("GET, POST, DELETE")),
    );
    app.service(
        web::resource("/v1/jobs/{id}/result")
            .route(web::get().to(result::result))
            .default_service(not_allowed("GET")),
    );
    app.service(
        web::resource("/v1/jobs/{id}/events")
            .route(web::get().to(streams::events))
            .default_service(not_allowed("GET")),
    );
    app.service(
        web::resource("/v1/jobs/{id}/cancel")
            .route(web::post().to(cancel::cancel))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/jobs/{id}/retry")
            .route(web::post().to(dead_letters::retry))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/jobs/{id}/callbacks/resend")
            .route(web::post().to(looking::resend))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/callback-endpoints/enable")
            .route(web::post().to(endpoints::enable))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/callbacks/recover")
            .route(web::post().to(endpoints::recover))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/job-types/{type}/pause")
            .route(web::post().to(pausing::pause))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/job-types/{type}/resume")
            .route(web::post().to(pausing::resume))
            .default_service(not_allowed("POST")),
    );
    app.service(
        web::resource("/v1/dead-letters/redrive")
            .route(web::post().to(dead_letters::redrive))
            .default_service(not_allowed("POST")),
    );
    for (path, route) in [
        ("/v1/jobs", web::get().to(listing::list)),
        ("/v1/job-types", web::get().to(catalog::types)),
        ("/v1/tiers", web::get().to(catalog::tiers)),
        ("/v1/jobs/{id}/callbacks", web::get().to(looking::list)),
        ("/v1/callback-endpoints", web::get().to(endpoints::list)),
        ("/v1/dead-letters", web::get().to(dead_letters::list)),
        (
            "/v1/dead-letters/{partition}/{offset}",
            web::get().to(dead_letters::show),
        ),
        ("/openapi.json", web::get().to(docs::document)),
        ("/docs", web::get().to(docs::redirect)),
        ("/docs/{file:.*}", web::get().to(docs::page)),
    ] {
        app.service(
            web::resource(path)
                .route(route)
                .default_service(not_allowed("GET")),
        );
    }
    for configured in state.routes.resources() {
        let mut resource = web::resource(configured.pattern.as_str());
        for (method, target) in &configured.methods {
            resource = resource.route(route_to(method, target));
        }
        app.service(resource.default_service(not_allowed(&configured.allow())));
    }
    app.default_service(web::route().to(unknown_route));
}

fn route_to(method: &str, target: &Target) -> Route {
    let route = match Method::from_bytes(method.as_bytes()) {
        Ok(method) => web::method(method),
        // Checked when the configuration was read.
        Err(_) => web::post(),
    };
    match target {
        Target::Status => route.to(status::status),
        Target::Submit(job_type) => {
            let job_type = job_type.clone();
            route.to(
                move |state: Data<AppState>,
                      req: HttpRequest,
                      payload: Payload,
                      principal: Principal| {
                    submit::by_route(state, req, payload, principal, job_type.clone())
                },
            )
        }
    }
}

fn not_allowed(allow: &str) -> Route {
    let allow = allow.to_owned();
    web::route().to(move |req: HttpRequest| {
        let error = ApiError::MethodNotAllowed {
            method: clip(req.method().as_str()),
            path: clip(req.path()),
            allow: allow.clone(),
        };
        async { Err::<&str, _>(error) }
    })
}

async fn unknown_route(state: Data<AppState>, req: HttpRequest) -> Result<&'static str, ApiError> {
    Err(ApiError::UnknownRoute {
        path: clip(req.path()),
        nearest: state.routes.nearest(req.path()),
    })
}

/// The server on a socket that is bound. It ends when it is stopped by its handle: signals are not its business.
///
/// # Errors
/// When the socket cannot be used.
pub fn serve(
    listener: TcpListener,
    state: Data<AppState>,
    docs: Data<Docs>,
    ops: OpsState,
    stop_within: Duration,
) -> std::io::Result<Server> {
    let settings = state.settings.clone();
    let stalled_after = settings.stalled_after;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let server = HttpServer::new(move || {
        let (state, docs, ops) = (state.clone(), docs.clone(), ops.clone());
        App::new()
            .wrap(from_fn(observe))
            .configure(move |app| configure(app, &state, &docs, ops))
    })
    .workers(workers)
    .max_connections(settings.max_connections.div_ceil(workers).max(1))
    .keep_alive(settings.keep_alive)
    .client_request_timeout(HEAD_TIMEOUT)
    // A client that has gone is noticed, and its handler dropped, while it waits.
    .h1_allow_half_closed(false)
    // Whoever takes nothing of what lies ready for it is cut off by the kernel, which alone knows.
    .on_connect(move |connection, _| {
        if let Some(stream) = connection.downcast_ref::<TcpStream>() {
            let limited = SockRef::from(stream).set_tcp_user_timeout(Some(stalled_after));
            if let Err(error) = limited {
                tracing::debug!(%error, "a connection has no limit on stalling");
            }
        }
    })
    .tcp_nodelay(true)
    .disable_signals()
    .shutdown_timeout(stop_within.as_secs().max(1))
    .listen(listener)?;
    Ok(server.run())
}
