//! `/openapi.json`, made from the code and the configured routes, and `/docs`, a page that shows it.
//!
//! The page is compiled in and asks no other host for anything; its content security policy sees to that.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::Value;
use tidegate_contract::{JobType, JobTypes};
use utoipa::openapi::path::{HttpMethod, Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, Object, OpenApi, PathItem, RefOr, Required, Type};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_swagger_ui::Config;

use crate::problem::ApiError;
use crate::routes::{Resource, Routes, Target};

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable name of the problem, such as `/problems/unknown-job-type`.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    detail: String,
    /// The last part of `type`; where a job ended, the code of its error.
    code: String,
    /// `client`, `gateway`, `broker`, `store`, `worker` or `job`.
    source: String,
    /// Whether sending the same request again can have no effect but the wanted one.
    repeat_safe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// The nearest known name, where one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
    /// The header that is malformed, and what it may say.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    /// The rule that a callback URL breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Where a body stops being JSON, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
    /// The error of a job that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<Value>,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Jobs in over HTTP, through Kafka, and their answers back. Every answer carries \
            `Tidegate-Trace-Id`. `/healthz`, `/readyz`, `/metrics`, `/openapi.json` and `/docs` need no API key.",
    ),
    paths(
        crate::submit::by_type,
        crate::listing::list,
        crate::status::status,
        crate::erasing::erase,
        crate::result::result,
        crate::streams::events,
        crate::cancel::cancel,
        crate::callbacks::looking::list,
        crate::callbacks::looking::resend,
        crate::callbacks::endpoints::list,
        crate::callbacks::endpoints::enable,
        crate::callbacks::endpoints::recover,
        crate::dead_letters::retry,
        crate::dead_letters::list,
        crate::dead_letters::show,
        crate::dead_letters::redrive,
        crate::catalog::types,
        crate::pausing::pause,
        crate::pausing::resume,
        crate::catalog::tiers,
        healthz,
        readyz,
        metrics,
    ),
    components(schemas(Problem)),
    tags(
        (name = "jobs", description = "Submit, status, result, cancel, list, erase"),
        (name = "dead letters", description = "What failed for good, and doing it again"),
        (name = "job types", description = "What there is, what waits, and what is not to be begun"),
        (name = "configured", description = "Routes of this installation's configuration"),
        (name = "operations", description = "For operators; without authentication"),
    ),
)]
struct Base;

/// Documentation of the routes that the runtime serves.
#[allow(dead_code)]
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "healthz", summary = "The process lives",
    responses((status = 200, content_type = "text/plain")))]
fn healthz() {}

#[allow(dead_code)]
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz", summary = "Conditions of readiness",
    responses((status = 200, description = "Ready"), (status = 503, description = "Not ready, with the reasons")))]
fn readyz() {}

#[allow(dead_code)]
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics", summary = "Metrics for Prometheus",
    responses((status = 200, content_type = "application/openmetrics-text")))]
fn metrics() {}

/// The document of a gateway with these routes and types.
pub fn openapi(routes: &Routes, types: &JobTypes, public_url: Option<&str>) -> OpenApi {
    let mut doc = Base::openapi();
    doc.info.version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(url) = public_url {
        doc.servers = Some(vec![utoipa::openapi::Server::new(url)]);
    }
    let components = doc.components.get_or_insert_with(Components::new);
    let bearer = Http::new(HttpAuthScheme::Bearer);
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let key = ApiKey::Header(ApiKeyValue::new("X-Api-Key"));
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(key));
    let submit = operation(&doc, "/v1/jobs/{type}", HttpMethod::Post);
    let status = operation(&doc, "/v1/jobs/{id}", HttpMethod::Get);
    for resource in routes.resources() {
        for (method, target) in &resource.methods {
            let template = match target {
                Target::Submit(_) => submit.clone(),
                Target::Status => status.clone(),
            };
            if let Some(template) = template {
                let operation = configured(template, resource, method, target, types);
                let item = doc.paths.paths.entry(resource.pattern.clone()).or_default();
                item.merge_operations(PathItem::new(http_method(method), operation));
            }
        }
    }
    doc
}

fn operation(doc: &OpenApi, path: &str, method: HttpMethod) -> Option<Operation> {
    doc.paths.get_path_operation(path, method).cloned()
}

/// The operation of a configured route: that of the built-in one with its own name, words and path parameters.
fn configured(
    mut operation: Operation,
    resource: &Resource,
    method: &str,
    target: &Target,
    types: &JobTypes,
) -> Operation {
    let (summary, description) = match target {
        Target::Submit(job_type) => (format!("Submit a {job_type} job"), about(job_type, types)),
        Target::Status => (
            "Status of a job".to_owned(),
            "As GET /v1/jobs/{id}.".to_owned(),
        ),
    };
    operation.tags = Some(vec!["configured".to_owned()]);
    operation.summary = Some(summary);
    operation.description = Some(description);
    operation.operation_id = Some(format!("{} {}", method.to_lowercase(), resource.pattern));
    let mut parameters = operation.parameters.take().unwrap_or_default();
    if matches!(target, Target::Submit(_)) {
        parameters.retain(|parameter| {
            !matches!(parameter, RefOr::T(known) if known.parameter_in == ParameterIn::Path)
        });
        let names = resource.pattern.split('/').filter_map(|segment| {
            segment
                .strip_prefix('{')
                .and_then(|name| name.strip_suffix('}'))
        });
        for name in names {
            let text = Object::with_type(Type::String);
            let parameter = ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("Passed to the handler"))
                .schema(Some(text));
            parameters.push(RefOr::T(parameter.build()));
        }
    }
    operation.parameters = Some(parameters);
    operation
}

fn about(job_type: &JobType, types: &JobTypes) -> String {
    let Some(spec) = types.get(job_type) else {
        return String::new();
    };
    let mode = match spec.mode {
        tidegate_contract::Mode::Wait => format!(
            "waits {} for the outcome",
            humantime::format_duration(spec.wait)
        ),
        tidegate_contract::Mode::Async => "answers 202 at once".to_owned(),
    };
    format!("As POST /v1/jobs/{job_type}. Without `Prefer` it {mode}.")
}

fn http_method(method: &str) -> HttpMethod {
    match method {
        "PUT" => HttpMethod::Put,
        "PATCH" => HttpMethod::Patch,
        "POST" => HttpMethod::Post,
        _ => HttpMethod::Get,
    }
}

/// Document and page, ready to serve.
pub struct Docs {
    json: ArcSwap<web::Bytes>,
    config: Arc<Config<'static>>,
}

impl Docs {
    /// Writes the document once.
    pub fn new(doc: &OpenApi) -> Self {
        // Relative, so that the page also works below a path of a proxy.
        let config = Config::from("../openapi.json").validator_url("none");
        Self {
            json: ArcSwap::from_pointee(written(doc)),
            config: Arc::new(config),
        }
    }

    /// Another document from now on.
    pub fn replace(&self, doc: &OpenApi) {
        self.json.store(Arc::new(written(doc)));
    }
}

fn written(doc: &OpenApi) -> web::Bytes {
    let json = serde_json::to_vec(doc).unwrap_or_else(|_| b"{}".to_vec());
    json.into()
}

/// `GET /openapi.json`.
pub async fn document(docs: Data<Docs>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(web::Bytes::clone(&docs.json.load()))
}

/// `GET /docs`: the page's own files are named relative to `/docs/`.
pub async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect()
        .insert_header((header::LOCATION, "docs/"))
        .finish()
}

/// `GET /docs/…`.
pub async fn page(
    docs: Data<Docs>,
    req: HttpRequest,
    file: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
        frame-ancestors 'none'; base-uri 'none'";
    let found = utoipa_swagger_ui::serve(&file, docs.config.clone())
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let file = found.ok_or_else(|| ApiError::UnknownRoute {
        path: crate::problem::clip(req.path()),
        nearest: Some("/docs/".to_owned()),
    })?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response
        .content_type(file.content_type)
        .insert_header(("Content-Security-Policy", POLICY))
        .body(file.bytes.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::BUILT_IN;
    use crate::settings::{RouteKind, RouteSettings};
    use tidegate_contract::{HandlerSpec, JobTypeSpec};

    fn doc() -> Value {
        let types = JobTypes::from([(
            "process-report".parse().unwrap(),
            JobTypeSpec::new(HandlerSpec::Echo),
        )]);
        let route = |path: &str, kind, job_type: Option<&str>| RouteSettings {
            method: None,
            path: path.to_owned(),
            kind,
            job_type: job_type.and_then(|name| name.parse().ok()),
        };
        let routes = [
            route(
                "/shops/{shop}/report",
                RouteKind::Submit,
                Some("process-report"),
            ),
            route("/jobs/{id}", RouteKind::Status, None),
        ];
        let routes = Routes::new(&routes, &types).unwrap();
        let doc = openapi(&routes, &types, Some("https://jobs.example.com"));
        serde_json::to_value(doc).unwrap()
    }

    /// What clients are generated from: every route with its method, and the statuses it may answer.
    #[test]
    fn the_document_has_every_route() {
        let doc = doc();
        for (method, path) in BUILT_IN {
            if path.starts_with("/docs") || path == "/openapi.json" {
                continue;
            }
            let operation = &doc["paths"][path][method.to_lowercase()];
            assert!(operation["responses"].is_object(), "{method} {path}");
        }
        let mut lines: Vec<String> = Vec::new();
        for (path, item) in doc["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let statuses: Vec<_> = operation["responses"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect();
                lines.push(format!("{method} {path}: {}", statuses.join(" ")));
            }
        }
        lines.sort();
        let expected = "\
delete /v1/jobs/{id}: 204 400 401 404 409 410 503
get /healthz: 200
get /jobs/{id}: 200 304 400 401 404 410 503
get /metrics: 200
get /readyz: 200 503
get /v1/callback-endpoints: 200 400 401 503
get /v1/dead-letters/{partition}/{offset}: 200 401 404 503
get /v1/dead-letters: 200 400 401 503
get /v1/job-types: 200 401
get /v1/jobs/{id}/callbacks: 200 400 401 404 410 503
get /v1/jobs/{id}/events: 101 200 204 400 401 403 404 410 429 503
get /v1/jobs/{id}/result: 400 401 404 409 410 502 503 504 default
get /v1/jobs/{id}: 200 304 400 401 404 410 503
get /v1/jobs: 200 400 401 503
get /v1/tiers: 200 401
post /shops/{shop}/report: 202 400 401 403 404 409 413 422 429 502 503 504 default
post /v1/callback-endpoints/enable: 200 400 401 404 503
post /v1/callbacks/recover: 200 400 401 503
post /v1/dead-letters/redrive: 200 400 401 503
post /v1/job-types/{type}/pause: 200 401 404 503
post /v1/job-types/{type}/resume: 200 401 404 503
post /v1/jobs/{id}/callbacks/resend: 202 400 401 404 409 410 503
post /v1/jobs/{id}/cancel: 200 400 401 404 409 410 503
post /v1/jobs/{id}/retry: 202 400 401 404 409 410 503
post /v1/jobs/{type}: 202 400 401 403 404 409 413 422 429 502 503 504 default";
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn configured_routes_have_their_own_parameters_and_names() {
        let doc = doc();
        let submit = &doc["paths"]["/shops/{shop}/report"]["post"];
        let paths: Vec<_> = submit["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["shop"]);
        assert!(
            submit["summary"]
                .as_str()
                .unwrap()
                .contains("process-report")
        );
        assert_eq!(doc["servers"][0]["url"], "https://jobs.example.com");
        let ids: Vec<_> = doc["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn every_reference_in_the_document_is_in_it() {
        fn walk(value: &Value, doc: &Value, count: &mut usize) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(doc.pointer(pointer).is_some(), "{target}");
                        *count += 1;
                    }
                    map.values().for_each(|value| walk(value, doc, count));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, doc, count)),
                _ => {}
            }
        }
        let (doc, mut count) = (doc(), 0);
        walk(&doc, &doc, &mut count);
        assert!(count > 10);
    }
}
