//! From an HTTP request to a job.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Data, Payload, Query};
use tidegate_contract::{
    Content, JobId, JobMessage, JobType, JobTypeSpec, JobTypes, Mode, Pair, RequestInfo, job_type,
    now_millis,
};

use super::body;
use crate::auth::Principal;
use crate::prefer::{self, Waiting};
use crate::problem::{ApiError, clip};
use crate::state::AppState;
use crate::{json_body, options};

/// What a submit asks for.
pub struct Ask {
    /// Complete but for its reply partition.
    pub job: JobMessage,
    pub waiting: Waiting,
}

/// Reads and judges a submit. The head is judged before any of the body is read.
pub async fn read(
    state: &Data<AppState>,
    req: &HttpRequest,
    payload: Payload,
    principal: Principal,
    type_name: &str,
    configured: bool,
) -> Result<Ask, ApiError> {
    if state.stop.intake.is_cancelled() {
        return Err(ApiError::ShuttingDown);
    }
    // One version of the types for the whole request, whatever comes in force while its body is read.
    let types = state.types.now();
    let (job_type, spec) = known_type(&types, type_name)?;
    let headers = req.headers();
    let now = now_millis();
    let named = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes()));
    let options = options::parse(named, job_type, spec, now)?;
    let waiting = waiting(headers, spec, state.settings.max_wait)?;
    let query = Query::<Vec<(String, String)>>::from_query(req.query_string())
        .map_err(|error| ApiError::MalformedQuery(clip(&error.to_string())))?;
    let settings = &state.settings;
    let (body, memory) = body::read(
        headers,
        payload,
        settings.body_limit,
        settings.body_timeout,
        &state.body_memory,
    )
    .await?;
    if spec.content == Content::Json {
        json_body::check(&body).map_err(|bad| ApiError::NotJson {
            line: bad.line,
            column: bad.column,
            reason: bad.reason,
        })?;
    }
    // From here on the producer's own bounds hold.
    drop(memory);
    let query = query.into_inner().into_iter();
    let job = JobMessage {
        job_id: JobId::generate(),
        job_type: job_type.clone(),
        pool: spec.pool.clone(),
        tier: options.tier,
        tenant: principal.tenant,
        attempt: 1,
        created_at: now_millis(),
        deadline: options.deadline,
        reply_partition: -1,
        request: RequestInfo {
            method: req.method().as_str().to_owned(),
            path: req.path().to_owned(),
            path_params: path_params(req, configured),
            query: query.map(|(name, value)| Pair { name, value }).collect(),
            headers: passed_on(headers, spec, state.auth.is_enabled()),
        },
        content_type: media_type(headers, spec.content),
        body,
    };
    Ok(Ask { job, waiting })
}

fn known_type<'a>(
    types: &'a JobTypes,
    name: &str,
) -> Result<(&'a JobType, &'a JobTypeSpec), ApiError> {
    let known = name
        .parse::<JobType>()
        .ok()
        .and_then(|name| types.get_key_value(&name));
    known.ok_or_else(|| ApiError::UnknownJobType {
        given: clip(name),
        nearest: job_type::nearest_type(types, name).map(str::to_owned),
    })
}

fn waiting(
    headers: &HeaderMap,
    spec: &JobTypeSpec,
    longest: std::time::Duration,
) -> Result<Waiting, ApiError> {
    let mut values = Vec::new();
    for value in headers.get_all("prefer") {
        // A byte that is no text breaks the grammar like any other.
        values.push(value.to_str().unwrap_or("="));
    }
    let prefer = prefer::parse(values)?;
    let default = match spec.mode {
        Mode::Wait => Some(spec.wait),
        Mode::Async => None,
    };
    Ok(prefer::decide(prefer, default, longest))
}

fn path_params(req: &HttpRequest, configured: bool) -> BTreeMap<String, String> {
    if !configured {
        return BTreeMap::new();
    }
    let params = req.match_info().iter();
    params
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The headers that the type lets through. A key that was shown to us is for us alone, whatever the type says.
fn passed_on(headers: &HeaderMap, spec: &JobTypeSpec, auth: bool) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for name in &spec.pass_headers {
        let name = name.to_ascii_lowercase();
        if auth && (name == "authorization" || name == "x-api-key") {
            continue;
        }
        for value in headers.get_all(&name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            pairs.push(Pair::new(name.clone(), value));
        }
    }
    pairs
}

/// The media type of the body. A JSON type has checked what it is: clients that say something else (`curl -d` says
/// it is a form) are put right, so that no handler has to guess.
fn media_type(headers: &HeaderMap, content: Content) -> Option<String> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    match content {
        Content::Any => given,
        Content::Json => given
            .filter(|given| is_json(given))
            .or_else(|| Some("application/json".to_owned())),
    }
}

/// `application/json` or anything that ends in `+json`, with or without parameters.
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}
