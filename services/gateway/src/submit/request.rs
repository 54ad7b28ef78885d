//! From an HTTP request to a job.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Data, Payload};
use tidegate_contract::media::is_json;
use tidegate_contract::{
    Content, JobId, JobMessage, JobTypeSpec, Mode, Pair, RequestInfo, now_millis,
};

use super::body;
use super::fingerprint::fingerprint;
use super::keyed::Key;
use crate::auth::Principal;
use crate::callbacks::Wanted;
use crate::options::OnDisconnect;
use crate::prefer::{self, Waiting};
use crate::problem::ApiError;
use crate::state::AppState;
use crate::types::known_type;
use crate::{json_body, options, query};

/// What a submit asks for.
pub struct Ask {
    /// Complete but for its reply partition.
    pub job: JobMessage,
    pub waiting: Waiting,
    pub key: Option<Key>,
    pub on_disconnect: OnDisconnect,
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
    let limit = state.settings.tenant_backlog;
    if limit > 0
        && let Some(jobs) = state.engine.tenant_backlog(&principal.tenant)
        && jobs >= limit
    {
        return Err(ApiError::TenantBacklog { jobs, limit });
    }
    // One version of the types for the whole request, whatever comes in force while its body is read.
    let types = state.types.now();
    let (job_type, spec) = known_type(&types, type_name)?;
    let headers = req.headers();
    let now = now_millis();
    let named = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes()));
    let options = options::parse(named, job_type, spec, now)?;
    let waiting = waiting(headers, spec, state.settings.max_wait)?;
    let query = query::pairs(req)?;
    let asked = options.asked.callback.as_ref();
    let Wanted { follow_ups, name } = state.callbacks.wanted(asked, spec, &principal.tenant)?;
    // Under a key that is for the request that makes the job: a repeat is told of it, whatever has become of the name.
    if let (Some(name), None) = (&name, &options.key) {
        state.callbacks.look_up(name).await?;
    }
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
    let query = query.into_iter();
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
        serial_key: options.serial_key,
        not_before: options.not_before,
        retry_of: None,
        redrives: 0,
        follow_ups,
    };
    let key = options.key.map(|text| Key {
        text,
        fingerprint: fingerprint(&job, &options.asked),
        delay: options.asked.delay,
        callback_name: name,
    });
    Ok(Ask {
        job,
        waiting,
        key,
        on_disconnect: options.on_disconnect.unwrap_or_default(),
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
