//! Submits jobs, reads answers, and prints what becomes of a job.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

/// Statuses that never change again.
const ENDS: [&str; 5] = [
    "completed",
    "failed",
    "dead-lettered",
    "cancelled",
    "expired",
];

/// Where jobs are posted, and as whom.
pub struct Gateway {
    base: Url,
    http: Client,
    /// Sent with each request, also with those that this client does not make: a key, if there is one.
    pub headers: HeaderMap,
}

/// An accepted job.
pub struct Accepted {
    pub id: String,
    pub status_url: String,
}

impl Gateway {
    pub fn from_environment() -> Result<Self> {
        let base = std::env::var("TIDEGATE_URL");
        let base = base.as_deref().unwrap_or("http://127.0.0.1:8080");
        let mut headers = HeaderMap::new();
        if let Ok(key) = std::env::var("TIDEGATE_API_KEY") {
            let mut key = HeaderValue::from_str(&key).context("TIDEGATE_API_KEY")?;
            key.set_sensitive(true);
            headers.insert("x-api-key", key);
        }
        let http = Client::builder().default_headers(headers.clone());
        Ok(Self {
            base: base
                .parse()
                .with_context(|| format!("TIDEGATE_URL is {base}"))?,
            http: http.build()?,
            headers,
        })
    }

    /// An address of the gateway; those that it answers with may be whole already.
    pub fn url(&self, path: &str) -> Result<Url> {
        Ok(self.base.join(path)?)
    }

    pub fn get(&self, url: Url) -> RequestBuilder {
        self.http.get(url)
    }

    pub fn submit(&self, job_type: &str, body: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("/v1/jobs/{job_type}"));
        let request = self.http.post(url).body(body.to_owned());
        request.header("content-type", "application/json")
    }

    /// Submits a job without waiting for it.
    pub async fn accept(&self, job_type: &str, body: &str) -> Result<Accepted> {
        let request = self
            .submit(job_type, body)
            .header("prefer", "respond-async");
        let body = document(request.send().await?, StatusCode::ACCEPTED).await?;
        let text = |name: &str| {
            body[name]
                .as_str()
                .map(str::to_owned)
                .context("an accepted job")
        };
        Ok(Accepted {
            id: text("jobId")?,
            status_url: text("statusUrl")?,
        })
    }

    /// Prints what a job's status says. Whether it has ended.
    ///
    /// # Errors
    /// It ended, and not well.
    pub async fn tell(&self, kind: &str, job: &Value) -> Result<bool> {
        let status = job["status"].as_str().unwrap_or_default();
        if let Some(percent) = job["progress"]["percent"]
            .as_f64()
            .filter(|_| !ENDS.contains(&status))
        {
            let message = job["progress"]["message"].as_str().unwrap_or_default();
            println!("{kind} {percent:.0} % {message}");
        } else if !ENDS.contains(&status) {
            println!("{kind}");
        } else if status != "completed" {
            bail!("{status}: {}", job["error"]);
        } else if let Some(result) = job.get("result") {
            println!("completed: {result}");
        } else {
            // A result that is large or no JSON does not stand in the status.
            let url = self.url(job["resultUrl"].as_str().context("a result")?)?;
            println!("completed: {}", self.get(url).send().await?.text().await?);
        }
        Ok(ENDS.contains(&status))
    }
}

/// The JSON of an answer, which must have this status.
///
/// # Errors
/// With the problem document of another one, which says why.
pub async fn document(answer: Response, expected: StatusCode) -> Result<Value> {
    let status = answer.status();
    let text = answer.text().await?;
    if status != expected {
        bail!("{status}: {text}");
    }
    Ok(serde_json::from_str(&text)?)
}

/// How long the gateway asks to wait.
pub fn pause(answer: &Response) -> Duration {
    let header = answer.headers().get(RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
