//! A client of the gateway, as an application would use it.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::until;

/// Talks to one gateway.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    pub http: reqwest::Client,
}

/// An accepted job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: String,
    pub status_url: String,
}

impl Client {
    pub fn new(base: &str) -> Self {
        let http = Self::builder().build().expect("client");
        Self {
            base: base.to_owned(),
            http,
        }
    }

    /// With an API key in every request.
    pub fn with_key(base: &str, key: &'static str) -> Self {
        let headers = [(
            HeaderName::from_static("x-api-key"),
            HeaderValue::from_static(key),
        )];
        let http = Self::builder().default_headers(headers.into_iter().collect());
        Self {
            base: base.to_owned(),
            http: http.build().expect("client"),
        }
    }

    fn builder() -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(90))
    }

    /// The same connections to another gateway.
    pub fn to(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            http: self.http.clone(),
        }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base))
    }

    /// A submit of a type, without options.
    pub fn submit(&self, job_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let url = format!("{}/v1/jobs/{job_type}", self.base);
        self.http
            .post(url)
            .header("content-type", "application/json")
            .body(body)
    }

    /// A submit that waits.
    pub fn wait(
        &self,
        job_type: &str,
        body: impl Into<reqwest::Body>,
        seconds: u64,
    ) -> RequestBuilder {
        self.submit(job_type, body)
            .header("prefer", format!("wait={seconds}"))
    }

    /// A submit that does not wait; must be accepted.
    pub async fn accept(&self, job_type: &str, body: impl Into<reqwest::Body>) -> Job {
        let answer = self
            .submit(job_type, body)
            .header("prefer", "respond-async")
            .send()
            .await
            .expect("an answer");
        accepted(answer).await
    }

    /// The status document; `None` unless the answer is 200.
    pub async fn status(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("/v1/jobs/{id}")).send().await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        answer.json().await.ok()
    }

    /// Waits until a job has a status out of these, and gives the whole document.
    pub async fn until_status(&self, id: &str, statuses: &[&str], limit: Duration) -> Value {
        until(&format!("job {id} is {statuses:?}"), limit, || async {
            let document = self.status(id).await?;
            statuses
                .iter()
                .any(|status| document["status"] == **status)
                .then_some(document)
        })
        .await
    }

    pub async fn is_ready(&self) -> bool {
        matches!(self.get("/readyz").send().await, Ok(answer) if answer.status() == StatusCode::OK)
    }

    /// The readiness report, ready or not.
    pub async fn readiness(&self) -> Value {
        match self.get("/readyz").send().await {
            Ok(answer) => answer.json().await.unwrap_or(Value::Null),
            Err(_) => Value::Null,
        }
    }

    /// Waits until the gateway is not ready for a reason that contains `word`.
    pub async fn until_unready(&self, word: &str, limit: Duration) -> Value {
        until(&format!("not ready because of `{word}`"), limit, || async {
            let report = self.readiness().await;
            (report["ready"] == false && report.to_string().contains(word)).then_some(report)
        })
        .await
    }

    /// The value of a metric, summed over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self
            .get("/metrics")
            .send()
            .await
            .expect("metrics")
            .text()
            .await
            .expect("text");
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Reads a `202`.
pub async fn accepted(answer: Response) -> Job {
    let status = answer.status();
    let body = answer.text().await.expect("a body");
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let document: Value = serde_json::from_str(&body).expect("JSON");
    let text = |name: &str| {
        document[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} in {document}"))
            .to_owned()
    };
    Job {
        id: text("jobId"),
        status_url: text("statusUrl"),
    }
}
