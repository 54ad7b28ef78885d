//! `GET /v1/callback-endpoints`, `POST /v1/callback-endpoints/enable` and `POST /v1/callbacks/recover`.

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_contract::time::{parse_rfc3339, rfc3339};
use tidegate_contract::{FollowUpKind, now_millis};
use tidegate_store::{EndpointRow, Recover, endpoint_key};

use super::{away, malformed, read};
use crate::auth::Principal;
use crate::problem::{ApiError, clip};
use crate::query;
use crate::state::AppState;

/// Endpoints of one answer.
const MOST: u32 = 200;
/// Without a `limit`.
const PAGE: u32 = 100;
/// Callbacks and e-mails that one statement makes due again, and statements of one request.
const PORTION: u32 = 1_000;
const PORTIONS: u32 = 20;

/// `GET /v1/callback-endpoints`.
#[utoipa::path(
    get,
    path = "/v1/callback-endpoints",
    tag = "callbacks",
    operation_id = "callbackEndpoints",
    summary = "Where callbacks fail",
    description = "The endpoints of the caller's tenant that have failed and not come right since; those with `endedAt` are \
        not called any more until they are enabled.",
    params(
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 200 endpoints, 100 if nothing is said"),
    ),
    responses(
        (status = 200, description = "A page: `endpoints`, and `next`, null at the end", body = Object),
        (status = 400, description = "Malformed query", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn list(
    state: Data<AppState>,
    principal: Principal,
    req: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (mut after, mut limit) = (None, None);
    for (name, value) in query::pairs(&req)? {
        match name.as_str() {
            "cursor" if after.is_none() => after = Some(value),
            "limit" if limit.is_none() => {
                let asked = value.parse().ok().filter(|n| (1..=MOST).contains(n));
                let bad = || ApiError::MalformedQuery(format!("limit must be from 1 to {MOST}"));
                limit = Some(asked.ok_or_else(bad)?);
            }
            _ => {
                let why = format!("`{}` is not known or comes twice", clip(&name));
                return Err(ApiError::MalformedQuery(why));
            }
        }
    }
    let limit = limit.unwrap_or(PAGE);
    let rows = state
        .engine
        .endpoints(&principal.tenant, after.as_deref(), limit);
    let rows = rows.await.map_err(away)?;
    let next = rows.get(limit as usize - 1).map(|last| last.key.clone());
    let endpoints: Vec<_> = rows.iter().map(shown).collect();
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({ "endpoints": endpoints, "next": next })))
}

fn shown(row: &EndpointRow) -> Value {
    // As the notifier writes it; what is not there is not known.
    let record: Value = serde_json::from_str(&row.record).unwrap_or_default();
    let ended = &record["ended"];
    let since = ended["failing-since"].as_i64().map(rfc3339);
    json!({
        "endpoint": row.key,
        "url": row.url,
        "state": if row.ended_at.is_some() { "disabled" } else { "failing" },
        "failures": record["failures"],
        "failingSince": record["failingSince"].as_i64().map(rfc3339),
        "reason": match since {
            Some(at) => Some(format!("it has failed since {at} without one success")),
            None => (ended == "gone").then(|| "it answered 410".to_owned()),
        },
        "endedAt": row.ended_at.map(rfc3339),
        "updatedAt": rfc3339(row.updated_at),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enable {
    endpoint: Option<String>,
    url: Option<String>,
}

/// `POST /v1/callback-endpoints/enable`.
#[utoipa::path(
    post,
    path = "/v1/callback-endpoints/enable",
    tag = "callbacks",
    operation_id = "enableCallbackEndpoint",
    summary = "Call an endpoint again",
    description = "Forgets that it has failed. What was given up meanwhile stays so: see `recover`.",
    request_body(description = "`endpoint` as the list has it, or its `url`", content((Object = "application/json"))),
    responses(
        (status = 200, description = "It is called again: `endpoint`", body = Object),
        (status = 400, description = "Malformed body", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "It is not known to have failed", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn enable(
    state: Data<AppState>,
    principal: Principal,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let tenant = &principal.tenant;
    let key = match read::<Enable>(&body)? {
        Enable {
            endpoint: Some(key),
            url: None,
        } => key,
        Enable {
            endpoint: None,
            url: Some(url),
        } => endpoint_key(tenant, &url),
        _ => return Err(malformed("give `endpoint` or `url`")),
    };
    let forgotten = state.engine.forget_endpoint(tenant, &key).await;
    if !forgotten.map_err(away)? {
        return Err(ApiError::UnknownEndpoint(clip(&key)));
    }
    tracing::info!(endpoint = key, "endpoint enabled by request");
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({ "endpoint": key })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Again {
    since: String,
    #[serde(default, deserialize_with = "super::kind")]
    kind: Option<FollowUpKind>,
    url: Option<String>,
}

/// `POST /v1/callbacks/recover`.
#[utoipa::path(
    post,
    path = "/v1/callbacks/recover",
    tag = "callbacks",
    operation_id = "recoverCallbacks",
    summary = "Send callbacks and e-mails again that were given up",
    description = "Those of the caller's tenant that were given up at `since` or later: of one `kind`, `callback` or `email`, or \
        the callbacks of one `url`, or all. At most 20,000 at a time; `more`: ask again.",
    request_body(description = "`since`, RFC 3339 in UTC; `kind` or `url`", content((Object = "application/json"))),
    responses(
        (status = 200, description = "They are due: `recovered` says how many", body = Object),
        (status = 400, description = "Malformed body", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away: some may be due already", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn recover(
    state: Data<AppState>,
    principal: Principal,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let asked = read::<Again>(&body)?;
    let since = parse_rfc3339(&asked.since);
    let since = since.ok_or_else(|| malformed("`since` is a time in RFC 3339 in UTC"))?;
    // Nobody learns by this what the addresses of e-mails are.
    let kind = match (&asked.url, asked.kind) {
        (Some(_), Some(FollowUpKind::Email)) => {
            return Err(malformed("`url` is of callbacks: leave it or `kind` out"));
        }
        (Some(_), _) => Some(FollowUpKind::Callback),
        (None, kind) => kind,
    };
    let which = Recover {
        endpoint: asked.url.map(|url| endpoint_key(&principal.tenant, &url)),
        kind,
        tenant: principal.tenant,
        since,
    };
    let (mut recovered, mut more) = (0, true);
    for _ in 0..PORTIONS {
        let due = state.engine.recover(&which, now_millis(), PORTION).await;
        let due = due.map_err(away)?;
        recovered += due;
        more = due == u64::from(PORTION);
        if !more {
            break;
        }
    }
    tracing::info!(recovered, tenant = %which.tenant, "callbacks and e-mails recovered by request");
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({ "recovered": recovered, "more": more })))
}
