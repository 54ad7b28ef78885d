//! What the commands that talk HTTP have in common.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};
use tidegate_contract::JobId;

use crate::cli::GatewayArgs;
use crate::exit::Failure;
use crate::output;

/// Longest call: an operator is waiting.
pub const LIMIT: Duration = Duration::from_secs(9);
/// Longest call that does something, page by page.
const POST_LIMIT: Duration = Duration::from_secs(600);

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
    let client = client(Some(LIMIT))?;
    answered(url, client.get(url.clone()), authorization).await
}

/// The same for a `POST` of JSON, which may take its time.
pub async fn post(
    url: &Url,
    authorization: Option<HeaderValue>,
    body: &Value,
) -> Result<(StatusCode, String), String> {
    let client = client(Some(POST_LIMIT))?;
    answered(url, client.post(url.clone()).json(body), authorization).await
}

/// What asks, with a limit on each whole call.
pub fn client(limit: Option<Duration>) -> Result<reqwest::Client, String> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(4))
        .redirect(reqwest::redirect::Policy::none());
    if let Some(limit) = limit {
        client = client.timeout(limit);
    }
    client.build().map_err(|error| error.to_string())
}

async fn answered(
    url: &Url,
    mut request: reqwest::RequestBuilder,
    authorization: Option<HeaderValue>,
) -> Result<(StatusCode, String), String> {
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

/// A list that a gateway gives in pages.
pub struct Pages<'a> {
    pub path: &'a str,
    /// What is said when there is nothing.
    pub none: &'a str,
    /// What it is shown as on a terminal.
    pub columns: &'a [&'a str],
    pub row: fn(&Value) -> Vec<String>,
    /// What the pages call their items, and where the next one begins.
    pub items: &'a str,
    pub next: &'a str,
    /// Items of one page at most.
    pub page: usize,
}

impl Pages<'_> {
    /// Prints the first `limit` items that the filter takes.
    pub async fn show(
        &self,
        gateway: &GatewayArgs,
        filter: &Map<String, Value>,
        limit: usize,
        json: bool,
    ) -> Result<(), Failure> {
        let mut rows = Vec::new();
        let more = self.ask(gateway, filter, limit, |item| match json {
            // Whoever reads has what there is so far, however long the rest takes.
            true => output::is_read(item.to_string()),
            false => {
                rows.push((self.row)(item));
                true
            }
        });
        let more = more.await?;
        if json {
            return Ok(());
        }
        output::rows(self.none, self.columns, &rows);
        if more && !rows.is_empty() {
            output::complain(format!(
                "these are the newest {}: give --limit for more",
                rows.len()
            ));
        }
        Ok(())
    }

    /// Hands out items until there are `limit` of them, or `take` wants no more. Whether there may be others.
    async fn ask(
        &self,
        gateway: &GatewayArgs,
        filter: &Map<String, Value>,
        limit: usize,
        mut take: impl FnMut(&Value) -> bool,
    ) -> Result<bool, Failure> {
        let (mut taken, mut cursor) = (0, None);
        // A page may be short, or empty, while there is more.
        while taken < limit {
            let mut query = filter.clone();
            query.insert("limit".to_owned(), (limit - taken).min(self.page).into());
            query.extend(cursor.map(|next| ("cursor".to_owned(), next)));
            let mut body = ask(gateway, self.path, query).await?;
            for item in body[self.items].as_array().into_iter().flatten() {
                taken += 1;
                if !take(item) {
                    return Ok(true);
                }
            }
            match body[self.next].take() {
                Value::Null => return Ok(false),
                next => cursor = Some(next),
            }
        }
        Ok(true)
    }
}

/// Asks a gateway to do something: what it answers.
pub async fn order(gateway: &GatewayArgs, path: &str, body: &Value) -> Result<Value, Failure> {
    let url = under("--url", &gateway.url, path)?;
    let authorization = authorization(gateway.api_key.as_deref())?;
    let answer = post(&url, authorization, body).await;
    judged(answer.map_err(Failure::failed)?)
}

/// Asks a gateway for what lies under a path, with a query.
pub async fn ask(
    gateway: &GatewayArgs,
    path: &str,
    query: Map<String, Value>,
) -> Result<Value, Failure> {
    let mut url = under("--url", &gateway.url, path)?;
    for (name, value) in &query {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        url.query_pairs_mut().append_pair(name, &value);
    }
    let authorization = authorization(gateway.api_key.as_deref())?;
    let answer = get(&url, authorization).await;
    judged(answer.map_err(Failure::failed)?)
}

/// A text of an answer, for a cell.
pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or("-").to_owned()
}

/// The body of a success; what else it is in the words of the gateway.
pub fn judged((status, text): (StatusCode, String)) -> Result<Value, Failure> {
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() && !body.is_null() {
        return Ok(body);
    }
    let said = detail(&body, status);
    Err(match status {
        StatusCode::BAD_REQUEST => Failure::usage(said),
        StatusCode::UNAUTHORIZED => Failure::failed(format!("{said}: give --api-key")),
        _ => Failure::failed(said),
    })
}
