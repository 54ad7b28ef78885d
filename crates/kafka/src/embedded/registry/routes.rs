//! The HTTP side of the embedded registry.

use std::sync::{Mutex, MutexGuard};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::state::{Level, Refusal, Registered, State};

type Shared = web::Data<Mutex<State>>;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/subjects", web::get().to(subjects))
        .route("/subjects/{subject}", web::post().to(find))
        .route("/subjects/{subject}/versions", web::get().to(versions))
        .route("/subjects/{subject}/versions", web::post().to(register))
        .route(
            "/subjects/{subject}/versions/{version}",
            web::get().to(version),
        )
        .route("/schemas/types", web::get().to(types))
        .route("/schemas/ids/{id}", web::get().to(by_id))
        .route("/config", web::get().to(level))
        .route("/config", web::put().to(set_level))
        .route("/config/{subject}", web::get().to(subject_level))
        .route("/config/{subject}", web::put().to(set_subject_level))
        .route(
            "/compatibility/subjects/{subject}/versions",
            web::post().to(check_all),
        )
        .route(
            "/compatibility/subjects/{subject}/versions/{version}",
            web::post().to(check_one),
        )
        .default_service(web::to(no_route));
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn answer(result: Result<Value, Refusal>) -> HttpResponse {
    match result {
        Ok(body) => respond(StatusCode::OK, &body),
        Err(refusal) => {
            let (status, code) = refusal.codes();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            let body = json!({ "error_code": code, "message": refusal.message() });
            respond(status, &body)
        }
    }
}

fn respond(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/vnd.schemaregistry.v1+json")
        .body(body.to_string())
}

/// A text field of a JSON body. Clients send several media types for JSON, so the header is not looked at.
fn field(body: &[u8], name: &str) -> Result<String, Refusal> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::BadSchema(error.to_string()))?;
    match body["schemaType"].as_str() {
        None | Some("AVRO") => {}
        Some(other) => return Err(Refusal::BadSchema(format!("type {other} is not kept here"))),
    }
    body[name]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Refusal::BadSchema(format!("`{name}` is missing")))
}

fn whole(found: &Registered) -> Value {
    json!({
        "subject": found.subject,
        "version": found.version,
        "id": found.id,
        "schema": found.text,
    })
}

async fn subjects(state: Shared) -> HttpResponse {
    answer(Ok(json!(lock(&state).subjects())))
}

async fn find(state: Shared, subject: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let found = field(&body, "schema").and_then(|text| lock(&state).find(&subject, &text));
    answer(found.map(|found| whole(&found)))
}

async fn versions(state: Shared, subject: web::Path<String>) -> HttpResponse {
    let found = lock(&state).versions(&subject);
    answer(found.map(|found| json!(found)))
}

async fn register(state: Shared, subject: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let id = field(&body, "schema").and_then(|text| lock(&state).register(&subject, &text));
    answer(id.map(|id| json!({ "id": id })))
}

async fn version(state: Shared, path: web::Path<(String, String)>) -> HttpResponse {
    let found = lock(&state).version(&path.0, &path.1);
    answer(found.map(|found| whole(&found)))
}

async fn types() -> HttpResponse {
    answer(Ok(json!(["AVRO"])))
}

async fn by_id(state: Shared, id: web::Path<String>) -> HttpResponse {
    let state = lock(&state);
    let found = id.parse().map_err(|_| Refusal::NoSchema);
    let found = found.and_then(|id| state.schema(id));
    answer(found.map(|text| json!({ "schema": text })))
}

async fn level(state: Shared) -> HttpResponse {
    let level = lock(&state).level(None);
    answer(Ok(json!({ "compatibilityLevel": level.name() })))
}

async fn subject_level(state: Shared, subject: web::Path<String>) -> HttpResponse {
    let level = lock(&state).level(Some(&subject));
    answer(Ok(json!({ "compatibilityLevel": level.name() })))
}

async fn set_level(state: Shared, body: web::Bytes) -> HttpResponse {
    answer(change_level(&state, None, &body))
}

async fn set_subject_level(
    state: Shared,
    subject: web::Path<String>,
    body: web::Bytes,
) -> HttpResponse {
    answer(change_level(&state, Some(&subject), &body))
}

fn change_level(state: &Shared, subject: Option<&str>, body: &[u8]) -> Result<Value, Refusal> {
    let name = field(body, "compatibility").map_err(|_| Refusal::BadLevel)?;
    lock(state).set_level(subject, Level::parse(&name)?);
    Ok(json!({ "compatibility": name }))
}

async fn check_all(state: Shared, subject: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let reasons = field(&body, "schema").and_then(|text| lock(&state).check(&subject, None, &text));
    answer(reasons.map(verdict))
}

async fn check_one(
    state: Shared,
    path: web::Path<(String, String)>,
    body: web::Bytes,
) -> HttpResponse {
    let reasons =
        field(&body, "schema").and_then(|text| lock(&state).check(&path.0, Some(&path.1), &text));
    answer(reasons.map(verdict))
}

fn verdict(reasons: Vec<String>) -> Value {
    json!({ "is_compatible": reasons.is_empty(), "messages": reasons })
}

async fn no_route() -> HttpResponse {
    let body = json!({ "error_code": 404, "message": "HTTP 404 Not Found" });
    respond(StatusCode::NOT_FOUND, &body)
}
