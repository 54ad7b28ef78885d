//! `GET /v1/job-types` and `GET /v1/tiers`: what there is, and what waits.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use humantime::format_duration;
use serde_json::{Value, json};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{
    Content, HandlerSpec, JobType, JobTypeSpec, Mode, Pool, RetryPolicy, Tier, now_millis,
};

use crate::auth::Principal;
use crate::pauses::Pause;
use crate::problem::ApiError;
use crate::state::AppState;

/// `GET /v1/job-types`.
#[utoipa::path(
    get,
    path = "/v1/job-types",
    tag = "job types",
    operation_id = "listJobTypes",
    summary = "The job types in force, and which are paused",
    description = "`types`, by name, each with `type`, `pool`, `tier`, `allowedTiers`, `mode`, `wait`, `content`, `handler` (its \
        kind alone), `maxRunning` (of one worker; absent: as many as it has slots), `attemptTimeout`, `deadline` and `retry`, as \
        in the configuration; and `paused`, with `until`. `paused` is null while this gateway has not read the orders.",
    responses(
        (status = 200, description = "All of them", body = Object),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn types(state: Data<AppState>, _principal: Principal) -> HttpResponse {
    let (types, now) = (state.types.now(), now_millis());
    let shown = types
        .iter()
        .map(|(name, spec)| shown(name, spec, state.engine.pause(name, now)));
    answer(json!({ "types": shown.collect::<Vec<_>>() }))
}

/// `GET /v1/tiers`.
#[utoipa::path(
    get,
    path = "/v1/tiers",
    tag = "job types",
    operation_id = "listTiers",
    summary = "How much waits in each tier",
    description = "`tiers`, the highest first, each with its `tier`, `backlog` and `pools`, which have one each. A backlog is how \
        many records of jobs, of all tenants, lie in Kafka that workers are not done with: those that run are among them, \
        those that wait for a time, another attempt or the end of a pause are not. It is a second old at most, and null \
        where the broker did not say in time.",
    responses(
        (status = 200, description = "The three of them", body = Object),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn tiers(state: Data<AppState>, _principal: Principal) -> Result<HttpResponse, ApiError> {
    let types = state.types.now();
    let pools: BTreeSet<&Pool> = types.values().map(|spec| &spec.pool).collect();
    let wanted = Tier::ALL.into_iter().flat_map(|tier| {
        let pools = pools.iter();
        pools.map(move |pool| (Pool::clone(pool), tier))
    });
    let wanted: Vec<_> = wanted.collect();
    let backlogs = state.engine.backlogs(&wanted).await;
    let found: Vec<_> = wanted.iter().zip(backlogs).collect();
    let tiers = Tier::ALL.map(|tier| {
        let own = found.iter().filter(|((_, of), _)| *of == tier);
        let sum: Option<u64> = own.clone().map(|(_, backlog)| *backlog).sum();
        let pools = own.map(|((pool, _), backlog)| json!({ "pool": pool, "backlog": backlog }));
        let pools: Vec<_> = pools.collect();
        json!({ "tier": tier.as_str(), "backlog": sum, "pools": pools })
    });
    Ok(answer(json!({ "tiers": tiers })))
}

fn answer(body: Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(body)
}

/// A type as it may be shown: of its handler the kind alone, since addresses and arguments may be secret.
fn shown(name: &JobType, spec: &JobTypeSpec, pause: Option<Pause>) -> Value {
    let text = |time: Duration| format_duration(time).to_string();
    let mut body = json!({
        "type": name.as_str(),
        "pool": spec.pool.as_str(),
        "tier": spec.tier.as_str(),
        "allowedTiers": spec.allowed_tiers.iter().map(|tier| tier.as_str()).collect::<Vec<_>>(),
        "mode": match spec.mode {
            Mode::Wait => "wait",
            Mode::Async => "async",
        },
        "wait": text(spec.wait),
        "content": match spec.content {
            Content::Json => "json",
            Content::Any => "any",
        },
        "handler": match spec.handler {
            HandlerSpec::Echo => "echo",
            HandlerSpec::Http { .. } => "http",
            HandlerSpec::Command { .. } => "command",
            HandlerSpec::Custom { .. } => "custom",
        },
        "attemptTimeout": text(spec.attempt_timeout),
        "deadline": text(spec.deadline),
        "retry": retry(&spec.retry),
        "paused": pause.map(|pause| pause != Pause::No),
    });
    if spec.max_running > 0 {
        body["maxRunning"] = json!(spec.max_running);
    }
    if let Some(Pause::Until(until)) = pause {
        body["until"] = json!(rfc3339(until));
    }
    body
}

fn retry(policy: &RetryPolicy) -> Value {
    let text = |time: Duration| format_duration(time).to_string();
    let mut body = json!({
        "attempts": policy.attempts,
        "first": text(policy.first),
        "factor": policy.factor,
        "cap": text(policy.cap),
        "jitter": policy.jitter,
        "retryCodes": policy.retry_codes,
        "finalCodes": policy.final_codes,
        "maxRetryAfter": text(policy.max_retry_after),
    });
    if let Some(budget) = policy.budget {
        body["budget"] = json!(text(budget));
    }
    body
}
