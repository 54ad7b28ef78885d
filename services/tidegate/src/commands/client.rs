//! What the commands that talk HTTP have in common.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde_json::Value;
use tidegate_contract::JobId;

use crate::cli::GatewayArgs;
use crate::exit::Failure;

/// Longest call: an operator is waiting.
const LIMIT: Duration = Duration::from_secs(9);

/// The header for an API key, given or from the environment.
pub fn authorization(key: Option<&str>) -> Result<Option<HeaderValue>, Failure> {
    let given = key.map(str::to_owned);
    let Some(key) = given.or_else(|| std::env::var("TIDEGATE_API_KEY").ok()) else {
        return Ok(None);
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| Failure::usage("--api-key: not text that a header can carry"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The innermost cause says what is wrong; reqwest's own text only says that something is.
pub fn unreachable(url: &Url, error: &reqwest::Error) -> String {
    let mut url = url.clone();
    url.set_query(None);
    if error.is_timeout() {
        return format!("{url} did not answer in time");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("cannot reach {url}: {cause}")
}

/// A URL under a base; `name` is the option or setting that the base comes from.
pub fn under(name: &str, base: &str, path: &str) -> Result<Url, Failure> {
    let url: Url = format!("{}{path}", base.trim_end_matches('/'))
        .parse()
        .map_err(|error| Failure::usage(format!("{name} {base}: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Failure::usage(format!(
            "{name} {base}: `{other}` is not a scheme to ask with: http or https"
        ))),
    }
}

/// An answer, or in one line why there is none.
pub async fn get(
    url: &Url,
    authorization: Option<HeaderValue>,
) -> Result<(StatusCode, String), String> {
    let client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(4))
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let mut request = client.get(url.clone());
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let answer = request
        .send()
        .await
        .map_err(|error| unreachable(url, &error))?;
    let status = answer.status();
    let text = answer
        .text()
        .await
        .map_err(|error| unreachable(url, &error))?;
    Ok((status, text))
}

/// What a gateway says of a job.
#[derive(Debug)]
pub enum Told {
    /// The body of its status.
    Status(Value),
    /// There is no row, in the gateway's words.
    None(String),
    /// No answer to the question, and why.
    Nothing(String),
}

/// Asks a gateway for the status of a job.
pub async fn status(gateway: &GatewayArgs, id: JobId) -> Result<Told, Failure> {
    let url = under("--url", &gateway.url, &format!("/v1/jobs/{id}"))?;
    let authorization = authorization(gateway.api_key.as_deref())?;
    let (status, text) = match get(&url, authorization).await {
        Ok(answer) => answer,
        Err(reason) => return Ok(Told::Nothing(reason)),
    };
    let body = serde_json::from_str::<Value>(&text)
        .with_context(|| format!("{url} answered {status} and no JSON: is it a gateway?"));
    let body = match body {
        Ok(body) => body,
        Err(error) => return Ok(Told::Nothing(format!("{error:#}"))),
    };
    Ok(match status {
        StatusCode::OK => Told::Status(body),
        StatusCode::NOT_FOUND | StatusCode::GONE => Told::None(detail(&body, status)),
        StatusCode::UNAUTHORIZED => {
            Told::Nothing(format!("{}: give --api-key", detail(&body, status)))
        }
        _ => Told::Nothing(format!(
            "{url} answered {status}: {}",
            detail(&body, status)
        )),
    })
}

/// The sentence of a problem document.
pub fn detail(body: &Value, status: StatusCode) -> String {
    let detail = body["detail"].as_str().or(body["title"].as_str());
    detail.map_or_else(|| status.to_string(), str::to_owned)
}
