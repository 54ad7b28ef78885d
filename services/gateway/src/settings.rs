//! Sections `gateway`, `auth` and `routes` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::{JobType, Secret, Tenant};

/// Section `gateway`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// `host:port`; port 0 picks one.
    pub listen: String,
    /// Scheme and host that clients use, such as `https://jobs.example.com`, put in front of the URLs in answers.
    /// Without it they are paths, which every client can resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Largest body of a request, in bytes.
    pub body_limit: usize,
    /// A body that has not arrived whole within this time is given up.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Longest wait, whatever a client prefers.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// Requests that may wait at once; further ones get `202` right away.
    pub max_waits: usize,
    /// A job that is waited for gets its row in the store after this time, so that others can see it.
    #[serde(with = "humantime_serde")]
    pub row_after: Duration,
    /// Longest that a request for a status is held until it changes, whatever a client asks for.
    #[serde(with = "humantime_serde")]
    pub max_long_poll: Duration,
    /// Streams of jobs' events at once; 0: none.
    pub max_streams: usize,
    /// The same of one tenant. 0: no limit of its own.
    pub tenant_streams: usize,
    /// A stream on which nothing happens says so after this time, so that nobody takes the connection for dead.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// A client that takes nothing of what it is sent for this long is cut off.
    #[serde(with = "humantime_serde")]
    pub stalled_after: Duration,
    /// The least that `Retry-After` says while a job has not ended; whole seconds.
    #[serde(with = "humantime_serde")]
    pub retry_after: Duration,
    /// From the request to stop until the end of the process, at most.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The first part of it: not ready any more, and jobs are still taken, until a balancer has seen that.
    #[serde(with = "humantime_serde")]
    pub leave_after: Duration,
    /// A JSON result up to this size, in bytes, stands in the status itself.
    pub inline_result_limit: usize,
    /// Bytes of request bodies that may be in memory at once; beyond that submits get `503`.
    pub body_memory: usize,
    /// Connections at once, over all threads.
    pub max_connections: usize,
    /// A connection on which nothing is asked for this long is closed.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// Bytes of replies that may wait for the store, a partition.
    pub reply_queue_bytes: usize,
    /// Partitions of each jobs topic that the jobs of one tenant go to; 0: all. All as well where there is only one
    /// tenant.
    pub tenant_partitions: usize,
    /// Unfinished jobs a tenant, as the store counts them once a second: over it, its submits get `429`. 0: no limit.
    pub tenant_backlog: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            public_url: None,
            body_limit: 896 << 10,
            body_timeout: Duration::from_secs(30),
            max_wait: Duration::from_secs(30),
            max_waits: 20_000,
            row_after: Duration::from_secs(1),
            max_long_poll: Duration::from_secs(60),
            max_streams: 10_000,
            tenant_streams: 0,
            heartbeat: Duration::from_secs(15),
            stalled_after: Duration::from_secs(30),
            retry_after: Duration::from_secs(1),
            grace: Duration::from_secs(20),
            leave_after: Duration::ZERO,
            inline_result_limit: 64 << 10,
            body_memory: 256 << 20,
            max_connections: 25_000,
            keep_alive: Duration::from_secs(60),
            reply_queue_bytes: 8 << 20,
            tenant_partitions: 4,
            tenant_backlog: 0,
        }
    }
}

/// Section `auth`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Without it every request is of the tenant `default`.
    pub enabled: bool,
    pub keys: Vec<ApiKey>,
}

/// A key that a caller may show. The key itself is nowhere in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose it is, for logs.
    pub name: String,
    pub tenant: Tenant,
    /// SHA-256 of the key, 64 hexadecimal digits: `printf %s "$KEY" | sha256sum`.
    pub sha256: Secret,
}

/// One of `routes`: a path of an existing API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// `POST` for submits and `GET` for statuses, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Such as `/orders/{order}/report`; parameters are passed to the handler. A status route has `{id}`.
    pub path: String,
    pub kind: RouteKind,
    /// What a submit route submits.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<JobType>,
}

/// What a configured route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// Takes a job of one type.
    Submit,
    /// Tells the status of a job.
    Status,
}

/// Why a gateway cannot be made: always something in the configuration, and always one sentence.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("{0}")]
    Settings(String),
    #[error("cannot listen on {listen}: {error}")]
    Listen {
        listen: String,
        error: std::io::Error,
    },
    #[error(transparent)]
    Kafka(#[from] tidegate_kafka::KafkaError),
}

impl GatewaySettings {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// One sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), GatewayError> {
        let refuse = |text: String| Err(GatewayError::Settings(text));
        if self.body_limit == 0 {
            return refuse("gateway.body_limit is 0: give it at least 1 byte".to_owned());
        }
        if self.body_memory < self.body_limit {
            return refuse(format!(
                "gateway.body_memory is {} and gateway.body_limit {}: the first must be at least the second",
                self.body_memory, self.body_limit
            ));
        }
        if self.max_connections == 0 {
            return refuse("gateway.max_connections is 0: give it at least 1".to_owned());
        }
        for (name, time) in [
            ("heartbeat", self.heartbeat),
            ("stalled_after", self.stalled_after),
        ] {
            if time < Duration::from_secs(1) {
                return refuse(format!(
                    "gateway.{name} is {}: give it at least 1s",
                    humantime::format_duration(time)
                ));
            }
        }
        if self.leave_after > self.grace / 4 {
            return refuse(format!(
                "gateway.leave_after is {} and gateway.grace {}: the first must be at most a quarter of the second",
                humantime::format_duration(self.leave_after),
                humantime::format_duration(self.grace)
            ));
        }
        if let Some(url) = &self.public_url {
            let rest = url.strip_prefix("http://").or(url.strip_prefix("https://"));
            if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' '])) {
                return refuse(format!(
                    "gateway.public_url is `{url}`: expected http:// or https:// and a host"
                ));
            }
        }
        Ok(())
    }

    /// `public_url` and a path.
    pub fn url_of(&self, path: &str) -> String {
        match &self.public_url {
            Some(url) => format!("{}{path}", url.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }

    /// The value of `Retry-After` while a job runs: at least a second.
    pub fn retry_after_seconds(&self) -> u64 {
        self.retry_after.as_secs().max(1)
    }
}
