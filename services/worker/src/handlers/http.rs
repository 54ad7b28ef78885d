//! `http`: posts the job to a URL; the answer is the outcome.
//!
//! What the other side gets: `POST`, the body as accepted with its `Content-Type`, the headers that the type
//! allows, and of the original request `Tidegate-Method`, `Tidegate-Path`, `Tidegate-Path-Params` (as in a query
//! string: `id=7&name=a+b`) and its query, appended to the URL's own. `Tidegate-Job-Id`, `-Job-Type`, `-Tenant`,
//! `-Attempt`, `-Repeat` (`true` where this worker knows that it has started the attempt before) and `-Deadline`
//! (RFC 3339) say what the job is; `traceparent` carries the trace on. docs/http-workers.md tells it all.
//!
//! What its answer means: 2xx completes the job. A 4xx fails it for good, except 408, 425 and 429, which may be
//! tried again after `Retry-After`; so may every 5xx. Redirects are not followed: the URL is the operator's choice,
//! and no answer may change it.

use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url, redirect};
use tidegate_contract::retry_after::retry_after;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{Outcome, Pair};

use super::limit::Limited;
use crate::handler::{Handler, JobContext, JobFailure};

/// Headers of an answer that say something about its body; the others are the affair of one hop.
const KEPT: [HeaderName; 9] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
];

/// Headers of the request that a type cannot pass on, because they belong to the hop to us or are set here.
const NOT_PASSED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The client that all types share. Redirects are not followed and the environment's proxies not used. The attempt's
/// timeout limits the whole exchange, so only the connection has a limit of its own.
pub(super) fn client() -> Result<Client, String> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| format!("no http client: {e}"))
}

pub(super) struct Http {
    client: Client,
    url: Url,
    max_answer_bytes: usize,
}

impl Http {
    pub(super) fn new(client: Client, url: &str, max_answer_bytes: usize) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|e| format!("url `{url}`: {e}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("url `{url}`: must begin with http:// or https://"));
        }
        Ok(Self {
            client,
            url: parsed,
            max_answer_bytes,
        })
    }

    fn url_for(&self, cx: &JobContext) -> Url {
        let mut url = self.url.clone();
        append_query(&mut url, &cx.job().request.query);
        url
    }

    async fn outcome(&self, mut response: Response) -> Result<Outcome, JobFailure> {
        let status = response.status();
        let too_large = || {
            let limit = self.max_answer_bytes;
            JobFailure::permanent(
                "http-answer-too-large",
                format!("the http worker's answer is over max_answer_bytes ({limit})"),
            )
            .with_details(serde_json::json!({ "status": status.as_u16(), "limit": limit }))
        };
        // What is announced as too large is not read at all; what is not announced is read up to the limit.
        if response
            .content_length()
            .is_some_and(|length| length > self.max_answer_bytes as u64)
        {
            return Err(too_large());
        }
        let mut body = Limited::new(self.max_answer_bytes);
        while let Some(piece) = response.chunk().await.map_err(|e| transport(&e))? {
            body.push(&piece).map_err(|_| too_large())?;
        }
        let headers = response.headers();
        Ok(Outcome {
            status: i32::from(status.as_u16()),
            content_type: text(headers, &header::CONTENT_TYPE),
            headers: kept_headers(headers),
            body: body.into_bytes(),
        })
    }
}

#[async_trait::async_trait]
impl Handler for Http {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let request = self
            .client
            .post(self.url_for(&cx))
            .headers(request_headers(&cx))
            .body(cx.body().clone());
        let response = request.send().await.map_err(|e| transport(&e))?;
        let status = response.status();
        if status.is_redirection() {
            let failure = JobFailure::permanent(
                "http-redirect",
                format!(
                    "the http worker answered {}: redirects are not followed, name the final url in the job type",
                    status.as_u16()
                ),
            );
            return Err(failure.with_details(serde_json::json!({ "status": status.as_u16() })));
        }
        let pause = text(response.headers(), &header::RETRY_AFTER)
            .and_then(|value| retry_after(&value, SystemTime::now()));
        let outcome = self.outcome(response).await?;
        if status.is_success() {
            return Ok(outcome);
        }
        let mut failure = JobFailure::permanent(
            "http-status",
            format!("the http worker answered {}", status.as_u16()),
        )
        .with_details(serde_json::json!({ "status": status.as_u16() }));
        failure.retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        failure.retry_after = pause.filter(|_| failure.retryable);
        Err(failure.with_outcome(outcome))
    }
}

/// What went wrong on the way, without the URL: it may hold a secret.
fn transport(error: &reqwest::Error) -> JobFailure {
    let mut cause = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        cause = error.to_string();
        source = error.source();
    }
    if error.is_connect() {
        JobFailure::retryable(
            "http-connect",
            format!("no connection to the http worker: {cause}"),
        )
    } else if error.is_timeout() {
        JobFailure::retryable("timeout", "the http worker did not answer in time")
    } else if error.is_builder() {
        JobFailure::permanent(
            "http-request",
            format!("the request cannot be made: {cause}"),
        )
    } else {
        JobFailure::retryable(
            "http-reset",
            format!("the http worker ended the connection before its answer was whole: {cause}"),
        )
    }
}

fn request_headers(cx: &JobContext) -> HeaderMap {
    let job = cx.job();
    let request = &job.request;
    let mut headers = HeaderMap::new();
    for pair in &request.headers {
        let Ok(name) = HeaderName::try_from(pair.name.as_str()) else {
            continue;
        };
        let ours = NOT_PASSED.contains(&name) || name.as_str().starts_with("tidegate-");
        if let (false, Ok(value)) = (ours, HeaderValue::try_from(pair.value.as_str())) {
            headers.append(name, value);
        }
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(content_type) = &job.content_type {
        set("content-type", content_type);
    }
    set("tidegate-job-id", &job.job_id.to_string());
    set("tidegate-job-type", job.job_type.as_str());
    set("tidegate-tenant", job.tenant.as_str());
    set("tidegate-attempt", &cx.attempt().to_string());
    set("tidegate-repeat", super::truth(cx.is_repeat()));
    set("tidegate-deadline", &rfc3339(job.deadline));
    set("tidegate-method", &request.method);
    set("tidegate-path", &request.path);
    if !request.path_params.is_empty() {
        let params: Vec<Pair> = request
            .path_params
            .iter()
            .map(|(name, value)| Pair::new(name, value))
            .collect();
        set("tidegate-path-params", &super::form_encoded(&params));
    }
    for (name, value) in cx.trace_headers() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

fn append_query(url: &mut Url, query: &[Pair]) {
    if query.is_empty() {
        return;
    }
    let mut pairs = url.query_pairs_mut();
    for pair in query {
        pairs.append_pair(&pair.name, &pair.value);
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<Pair> {
    let mut kept = Vec::new();
    for name in &KEPT {
        for value in headers.get_all(name) {
            if let Ok(value) = value.to_str() {
                kept.push(Pair::new(name.as_str(), value));
            }
        }
    }
    kept
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_appended_to_the_url_of_the_type() {
        let mut url = Url::parse("http://h/p?a=1").unwrap();
        append_query(&mut url, &[Pair::new("b", "x y"), Pair::new("b", "&")]);
        assert_eq!(url.as_str(), "http://h/p?a=1&b=x+y&b=%26");
    }

    #[test]
    fn only_http_urls_are_taken() {
        let client = client().unwrap();
        for url in ["ftp://h/", "nonsense", "file:///etc/passwd"] {
            assert!(Http::new(client.clone(), url, 1).is_err(), "{url}");
        }
    }
}
