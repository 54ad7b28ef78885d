//! Posts a message to a callback URL. The other side is whoever a client of ours names, so that nothing that it does may
//! cost us more than one attempt of bounded length: redirects are not followed, no proxy is asked, little is read.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::url::Url;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, redirect};
use tidegate_callbacks::{
    BadUrl, CallbackRules, Lookup, ResolveError, Resolver, Shared, SystemLookup,
};
use tidegate_contract::retry_after::retry_after;
use tokio::time::{Instant, timeout_at};

use crate::endpoint::Delivery;
use crate::settings::Limits;
use crate::sign::Signed;

/// What is kept of an answer's body, in bytes: enough to see what the other side says.
const KEEP: usize = 1024;
/// What is read of it, so that the connection of a short answer can be used again.
const READ: usize = 16 * 1024;

/// What the other side answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The pause that it asks for.
    pub retry_after: Option<Duration>,
    /// How its body begins, 1 KiB at most; foreign text.
    pub excerpt: String,
}

impl Answer {
    /// What that means: every 2xx takes the message, whatever the body says; redirects do not.
    pub fn delivery(&self) -> Delivery {
        match self.status {
            200..=299 => Delivery::Made,
            410 => Delivery::Gone,
            _ => Delivery::Failed,
        }
    }
}

/// Why there is no answer. No variant holds the URL, whose path or query may be a secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    /// The URL is not called. Nothing was sent.
    #[error(transparent)]
    Refused(#[from] BadUrl),
    /// Its name leads nowhere. Nothing was sent.
    #[error(transparent)]
    Unresolved(#[from] ResolveError),
    /// No connection. Nothing was sent.
    #[error("no connection to the callback: {0}")]
    Connect(String),
    /// The time was up. The message may have arrived.
    #[error("the callback did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection ended, or what came was no HTTP. The message may have arrived.
    #[error("the callback gave no whole answer: {0}")]
    Broken(String),
}

impl SendError {
    /// Which of them it is: stable, for traces and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            SendError::Refused(_) => "url-refused",
            SendError::Unresolved(_) => "unresolved",
            SendError::Connect(_) => "unreachable",
            SendError::Timeout(_) => "timeout",
            SendError::Broken(_) => "broken",
        }
    }
}

/// There is no client, and so no callbacks.
#[derive(Debug, thiserror::Error)]
#[error("no http client: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// The client of all endpoints.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    rules: CallbackRules,
    limits: Limits,
}

impl Client {
    /// A client that keeps to these rules and asks the resolver of the system.
    ///
    /// # Errors
    /// If there are no root certificates, say.
    pub fn new(rules: CallbackRules, limits: Limits) -> Result<Self, ClientError> {
        Self::with_lookup(rules, limits, SystemLookup::default())
    }

    /// A client with another way to find addresses. They are judged all the same.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_lookup(
        rules: CallbackRules,
        limits: Limits,
        lookup: impl Lookup,
    ) -> Result<Self, ClientError> {
        let resolver = Resolver::new(rules.policy.clone(), lookup);
        let http = reqwest::Client::builder()
            .dns_resolver(Shared(Arc::new(resolver)))
            .redirect(redirect::Policy::none())
            // A proxy would look names up, and reach addresses, that are not for us to reach.
            .no_proxy()
            .https_only(!rules.allow_http)
            .http1_only()
            // What is small here must not become large when it is unpacked.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(limits.connect)
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(2)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            rules,
            limits,
        })
    }

    /// Reads the text of a URL by the rules of this client.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(&self, text: &str) -> Result<Url, BadUrl> {
        self.rules.parse(text)
    }

    /// Makes one attempt; `trace` are further headers, which carry the trace on. When the head of an answer has come the attempt counts, even if its body never ends.
    ///
    /// # Errors
    /// [`SendError`]: all of them may pass, even the first, as names and settings change.
    pub async fn send(
        &self,
        url: &Url,
        signed: &Signed,
        trace: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, SendError> {
        // An address instead of a name is connected to without the resolver: this is where it is judged.
        self.rules.check(url)?;
        let deadline = Instant::now() + self.limits.total;
        let request = self
            .http
            .post(url.clone())
            .headers(trace)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &signed.id)
            .header("webhook-timestamp", signed.timestamp)
            .header("webhook-signature", &signed.signature)
            .body(body);
        let sent = timeout_at(deadline, request.send()).await;
        let sent = sent.map_err(|_| SendError::Timeout(self.limits.total))?;
        let response = sent.map_err(|error| failure(&error))?;
        let asked = response.headers().get(RETRY_AFTER);
        Ok(Answer {
            status: response.status().as_u16(),
            retry_after: asked
                .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now())),
            excerpt: excerpt(response, deadline).await,
        })
    }
}

/// How the body begins, as far as it comes in time.
async fn excerpt(mut response: Response, deadline: Instant) -> String {
    let (mut kept, mut read) = (Vec::new(), 0);
    while read < READ {
        let Ok(Ok(Some(piece))) = timeout_at(deadline, response.chunk()).await else {
            break;
        };
        read += piece.len();
        let wanted = piece.len().min(KEEP - kept.len());
        kept.extend_from_slice(&piece[..wanted]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn failure(error: &reqwest::Error) -> SendError {
    let mut cause = None;
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(unresolved) = inner.downcast_ref::<ResolveError>() {
            return unresolved.clone().into();
        }
        cause = Some(inner);
        source = inner.source();
    }
    // The outermost text would name the URL.
    let cause = cause.map_or_else(|| "unknown cause".to_owned(), ToString::to_string);
    if error.is_connect() {
        SendError::Connect(cause)
    } else {
        SendError::Broken(cause)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
