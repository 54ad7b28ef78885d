//! `/v1/dead-letters` and `POST /v1/jobs/{id}/retry`: what lies among the dead letters, and doing it again.

pub mod again;
pub mod filter;
pub mod read;

use std::time::Duration;

use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_contract::time::rfc3339;
use tidegate_contract::{DeadLetterPlace, Pair, Status};
use tidegate_kafka::{base64_as_json, bytes_as_json};

use self::again::{Again, again};
use self::filter::{Cursor, Filter, Wanted};
use self::read::{Ask, Found, Page};
use crate::auth::Principal;
use crate::problem::{self, ApiError, clip};
use crate::query;
use crate::state::AppState;
use crate::status;
use crate::submit::Context;

/// Letters of one answer, if nothing is said, and at most.
const LIMIT: usize = 50;
const MOST: usize = 500;
/// Jobs a second that are made again, if nothing is said, and at most.
const RATE: f64 = 20.0;
const FASTEST: f64 = 1_000.0;
/// How often a job may be redriven along its chain, if nothing is said.
const REDRIVES: i32 = 5;

/// `GET /v1/dead-letters`.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "dead letters",
    operation_id = "listDeadLetters",
    summary = "Dead letters, newest first",
    description = "What nothing more is done with: jobs that failed for good, and records that could not be read. With \
        API keys, those of the caller's tenant only. A page may be short, or empty, while there is a `cursor`.",
    params(
        ("type" = Option<String>, Query, description = "Of this job type"),
        ("tenant" = Option<String>, Query, description = "Of this tenant"),
        ("reason" = Option<String>, Query, description = "With this reason, such as `attempts-exhausted`"),
        ("since" = Option<String>, Query, description = "Set aside at this time or later, RFC 3339 in UTC"),
        ("until" = Option<String>, Query, description = "Set aside before this time, RFC 3339 in UTC"),
        ("limit" = Option<u32>, Query, description = "1 to 500 letters, 50 if nothing is said"),
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
    ),
    responses(
        (status = 200, description = "A page: `deadLetters`, `lookedAt`, and `cursor` if there is more", body = Object),
        (status = 400, description = "Malformed query", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn list(
    state: Data<AppState>,
    req: HttpRequest,
    principal: Principal,
) -> Result<HttpResponse, ApiError> {
    let malformed = |why: String| ApiError::MalformedQuery(clip(&why));
    let pairs = query::pairs(&req)?;
    let (mut wanted, mut limit, mut from) = (Wanted::default(), LIMIT, Cursor::default());
    for (name, value) in pairs {
        match name.as_str() {
            "type" => wanted.job_type = Some(value),
            "tenant" => wanted.tenant = Some(value),
            "reason" => wanted.reason = Some(value),
            "since" => wanted.since = Some(value),
            "until" => wanted.until = Some(value),
            "limit" => limit = value.parse().unwrap_or(0),
            "cursor" => from = cursor(&value).map_err(malformed)?,
            _ => return Err(malformed(format!("`{name}` is not known"))),
        }
    }
    let ask = Ask {
        filter: filter(&state, &principal, wanted).map_err(malformed)?,
        from,
        limit: bounded(limit).map_err(malformed)?,
        values: false,
    };
    let page = letters(&state, ask).await?;
    let mut body = json!({
        "deadLetters": page.found.iter().map(|found| summary(&state, found)).collect::<Vec<_>>(),
        "lookedAt": page.looked_at,
    });
    goes_on(&mut body, &page);
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(body))
}

/// `GET /v1/dead-letters/{partition}/{offset}`.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{partition}/{offset}",
    tag = "dead letters",
    operation_id = "deadLetter",
    summary = "One dead letter, with the record that it keeps",
    params(
        ("partition" = i32, Path, description = "Of the dead-letters topic"),
        ("offset" = i64, Path, description = "In that partition"),
    ),
    responses(
        (status = 200, description = "The letter; `record` has key, headers and value", body = Object),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none, or none any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn show(
    state: Data<AppState>,
    principal: Principal,
    place: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (partition, offset) = place.into_inner();
    let unknown = || ApiError::UnknownDeadLetter(clip(&format!("{partition}/{offset}")));
    let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
        return Err(unknown());
    };
    let place = DeadLetterPlace { partition, offset };
    let found = one(&state, place).await?.ok_or_else(unknown)?;
    let filter = filter(&state, &principal, Wanted::default());
    if !filter.is_ok_and(|filter| filter.takes(&found.letter)) {
        return Err(unknown());
    }
    let letter = &found.letter;
    let mut body = summary(&state, &found);
    let value = match &letter.value {
        None => Value::Null,
        Some(value) => match state.engine.decode_job(value).await {
            Ok(job) => {
                let media = job.content_type.clone();
                let shown = bytes_as_json(&job.body, media.as_deref());
                let mut job = serde_json::to_value(&job).unwrap_or_default();
                job["body"] = shown;
                job
            }
            Err(_) => base64_as_json(value),
        },
    };
    let headers = letter.headers.iter();
    let headers: Map<_, _> = headers
        .map(|Pair { name, value }| (name.clone(), json!(value)))
        .collect();
    body["record"] = json!({
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
        "key": letter.key.as_ref().map(|key| String::from_utf8_lossy(key)),
        "headers": headers, "value": value,
    });
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(body))
}

/// What a redrive is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Redrive {
    #[serde(rename = "type")]
    job_type: Option<String>,
    tenant: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    until: Option<String>,
    all: bool,
    dry_run: bool,
    rate: Option<f64>,
    limit: Option<usize>,
    max_redrives: Option<i32>,
    cursor: Option<String>,
}

/// `POST /v1/dead-letters/redrive`.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/redrive",
    tag = "dead letters",
    operation_id = "redrive",
    summary = "Do dead-lettered jobs again",
    description = "For each letter that the filter takes a new job, linked to the old one by `retryOf` and `retriedAs`; \
        the old one stays as it ended. Each is done again once, whoever asks. Works off one page a call, newest first: call \
        again with `cursor` while there is one. Members: `type`, `tenant`, `reason`, `since`, `until` as for the list; \
        `all` (needed without a filter); `dryRun`; `rate` (jobs a second, 20); `limit` (1 to 500, 50); `maxRedrives` (jobs on \
        one chain, 5); `cursor`.",
    request_body(content = Object),
    responses(
        (status = 200, description = "What was done: `matched`, `redriven`, `skipped` with reasons, `cursor`", body = Object),
        (status = 400, description = "Malformed, or no filter and not `all`", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka or the store is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn redrive(
    state: Data<AppState>,
    principal: Principal,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let malformed = |why: String| ApiError::MalformedRedrive(clip(&why));
    if state.stop.intake.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let body = if body.is_empty() {
        &b"{}"[..]
    } else {
        &body[..]
    };
    let ask: Redrive =
        serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let wanted = Wanted {
        job_type: ask.job_type,
        tenant: ask.tenant,
        reason: ask.reason,
        since: ask.since,
        until: ask.until,
    };
    let asked = wanted.clone().read().map_err(malformed)?;
    if asked.is_all() && !ask.all {
        return Err(ApiError::RedriveAll);
    }
    let rate = ask.rate.unwrap_or(RATE);
    if !(rate > 0.0 && rate <= FASTEST) {
        return Err(malformed(format!(
            "rate must be above 0 and at most {FASTEST}"
        )));
    }
    let most = ask.max_redrives.unwrap_or(REDRIVES);
    let page = letters(
        &state,
        Ask {
            filter: filter(&state, &principal, wanted).map_err(malformed)?,
            from: match ask.cursor.as_deref() {
                None => Cursor::default(),
                Some(text) => cursor(text).map_err(malformed)?,
            },
            limit: bounded(ask.limit.unwrap_or(LIMIT)).map_err(malformed)?,
            values: true,
        },
    );
    let page = page.await?;
    let mut done =
        json!({ "matched": page.found.len(), "dryRun": ask.dry_run, "lookedAt": page.looked_at });
    goes_on(&mut done, &page);
    let (mut redriven, mut skipped) = (Vec::new(), Vec::new());
    for found in page.found {
        let about = |more: Value| {
            let mut about = json!({
                "partition": found.place.partition, "offset": found.place.offset,
                "type": found.letter.job_type, "retryOf": found.letter.job_id,
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                about[name] = value.clone();
            }
            about
        };
        if ask.dry_run {
            redriven.push(about(json!({})));
            continue;
        }
        match again(&state, found.clone(), most).await {
            Ok(Again::Made { job, .. }) => {
                redriven.push(about(json!({ "jobId": job })));
                tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)).await;
            }
            Ok(Again::Already(job)) => {
                skipped.push(about(
                    json!({ "why": "it was done again already", "retriedAs": job }),
                ));
            }
            Ok(Again::Not(why)) => skipped.push(about(json!({ "why": why }))),
            // What was done is told all the same, unless it is nothing.
            Err(error) if redriven.is_empty() => return Err(error),
            Err(error) => {
                skipped.push(about(json!({ "why": error.to_string() })));
                done["stopped"] = json!(error.to_string());
                break;
            }
        }
    }
    done["redriven"] = Value::Array(redriven);
    done["skipped"] = Value::Array(skipped);
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(done))
}

/// `POST /v1/jobs/{id}/retry`.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/retry",
    tag = "jobs",
    operation_id = "retryJob",
    summary = "Do a failed job again",
    description = "A new job with the old one's request and body, linked by `retryOf` and `retriedAs`. The old one stays as \
        it ended. Each job is done again once.",
    params(("id" = String, Path, description = "The id of a job that failed or was dead-lettered")),
    responses(
        (status = 202, description = "The new job is accepted", body = crate::status::AcceptedBody,
            headers(("Location" = String), ("Retry-After" = String))),
        (status = 400, description = "Not a job id", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown job", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has not ended, was done again already, or left no dead letter", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 410, description = "The job or its dead letter is not kept any more", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "Kafka or the store is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn retry(
    state: Data<AppState>,
    principal: Principal,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    if state.stop.intake.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    let row = status::find(&state, &principal, &id).await?;
    let (id, ended) = (row.id, row.status);
    if !ended.is_terminal() {
        return Err(ApiError::NotEnded { id, status: ended });
    }
    if let Some(job) = row.retried_as {
        return Err(ApiError::RetriedAlready { id, job });
    }
    let refused = |why: &str| ApiError::NotRetried {
        id,
        why: why.to_owned(),
    };
    let Some(place) = row.dead_letter else {
        return Err(match ended {
            Status::Completed => refused("it completed"),
            _ => refused("its record is not among the dead letters: submit it anew"),
        });
    };
    let found = one(&state, place).await?;
    let found = found.filter(|found| found.letter.job_id == Some(id));
    let Some(found) = found else {
        return Err(ApiError::DeadLetterGone(id));
    };
    match again(&state, found, i32::MAX).await? {
        Again::Made { submitted, .. } => Context {
            state: &state,
            applied: None,
            configured: false,
            scheduled: false,
        }
        .respond(*submitted),
        Again::Already(job) => Err(ApiError::RetriedAlready { id, job }),
        Again::Not(why) => Err(refused(&why)),
    }
}

/// What a caller may see of what was asked for: with API keys, that of its own tenant.
fn filter(state: &AppState, principal: &Principal, wanted: Wanted) -> Result<Filter, String> {
    let mut filter = wanted.read()?;
    if state.auth.is_enabled() {
        filter.within(principal.tenant.as_str());
    }
    Ok(filter)
}

fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text).ok_or_else(|| "cursor is malformed: give one that an answer had".to_owned())
}

fn bounded(limit: usize) -> Result<usize, String> {
    match (1..=MOST).contains(&limit) {
        true => Ok(limit),
        false => Err(format!("limit must be from 1 to {MOST}")),
    }
}

async fn letters(state: &AppState, ask: Ask) -> Result<Page, ApiError> {
    let page = state.engine.letters(ask).await;
    page.map_err(|error| ApiError::BrokerUnavailable(error.to_string()))
}

async fn one(state: &AppState, place: DeadLetterPlace) -> Result<Option<Found>, ApiError> {
    let found = state.engine.letter(place).await;
    found.map_err(|error| ApiError::BrokerUnavailable(error.to_string()))
}

fn goes_on(body: &mut Value, page: &Page) {
    if let Some(next) = &page.next {
        body["cursor"] = json!(next.text());
    }
}

fn summary(state: &AppState, found: &Found) -> Value {
    let letter = &found.letter;
    let mut body = json!({
        "partition": found.place.partition,
        "offset": found.place.offset,
        "at": rfc3339(letter.at),
        "reason": letter.reason,
        "message": letter.message,
        "topic": letter.topic,
        "attempt": letter.attempt,
        "redrives": letter.redrives,
        "source": letter.source,
        "whole": found.whole,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    set("jobId", letter.job_id.map(|id| json!(id)));
    set(
        "statusUrl",
        letter.job_id.map(|id| json!(state.status_url(id, false))),
    );
    set("type", letter.job_type.as_ref().map(|name| json!(name)));
    set("tenant", letter.tenant.as_ref().map(|name| json!(name)));
    set("traceId", letter.trace_id.as_ref().map(|id| json!(id)));
    set(
        "firstError",
        letter.first_error.as_ref().map(|text| json!(text)),
    );
    let error = letter.last_error.as_ref();
    set(
        "error",
        error.map(|error| problem::error_json(error, letter.attempt, letter.at)),
    );
    body
}
