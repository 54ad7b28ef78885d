//! One kept connection to a gateway, and one request after the other on it.
//!
//! As little as possible between the clock and the socket: the generator shares its processors with what it measures.

use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use reqwest::header::{HOST, HeaderMap, HeaderValue};
use tokio::net::TcpStream;

use super::load::Target;
use crate::exit::Failure;

/// What every request is.
#[derive(Clone)]
pub struct Shot {
    /// `host:port`.
    address: String,
    /// Path and query.
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// `202` is what was asked for, not a wait that ran out.
    is_async: bool,
    timeout: Duration,
}

impl Shot {
    /// A job posted to that address.
    pub fn new(
        url: &Url,
        mut headers: HeaderMap,
        body: Vec<u8>,
        is_async: bool,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        if url.scheme() != "http" {
            return Err(Failure::usage(
                "--url: bench speaks plain HTTP, so that it measures the gateway and not TLS: http://…",
            ));
        }
        let host = url.host_str().context("--url has no host")?;
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        let host = HeaderValue::from_str(&address).map_err(Failure::usage)?;
        headers.insert(HOST, host);
        Ok(Self {
            address,
            path: url.path().to_owned(),
            headers,
            body: body.into(),
            is_async,
            timeout,
        })
    }
}

/// A connection, made when it is needed and again after a failure.
pub struct Connection {
    shot: Shot,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub fn new(shot: Shot) -> Self {
        Self { shot, sender: None }
    }

    async fn exchange(&mut self) -> Result<(StatusCode, Bytes), String> {
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            slot => slot.insert(connect(&self.shot.address).await?),
        };
        let mut request = Request::post(&self.shot.path)
            .body(Full::new(self.shot.body.clone()))
            .map_err(|error| format!("request: {error}"))?;
        *request.headers_mut() = self.shot.headers.clone();
        let broken = |_| "connection broken".to_owned();
        sender.ready().await.map_err(broken)?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    }
}

impl Target for Connection {
    /// Sends one request. A failure is a status with the problem's code, or what became of the connection.
    async fn ask(&mut self) -> Result<(), String> {
        let timeout = self.shot.timeout;
        let answer = match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        };
        if answer.is_err() {
            self.sender = None;
        }
        let (status, body) = answer?;
        match status {
            StatusCode::ACCEPTED if !self.shot.is_async => Err("202 the wait ran out".to_owned()),
            status if status.is_success() => Ok(()),
            status => Err(kind(status, &body)),
        }
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot connect: {error}");
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| failed(&error.kind()))?;
    stream
        .set_nodelay(true)
        .map_err(|error| failed(&error.kind()))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    // Ends with the sender; what goes wrong is told to the request.
    tokio::spawn(connection);
    Ok(sender)
}

/// Status and, of a problem document, its code.
fn kind(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!("{} {}", status.as_u16(), problem.code),
        Err(_) => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_by_status_and_code() {
        let problem = br#"{"code":"broker-unavailable","status":503,"title":"x"}"#;
        let status = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(kind(status, problem), "503 broker-unavailable");
        assert_eq!(kind(StatusCode::BAD_GATEWAY, b"<html>"), "502");
    }

    #[test]
    fn addresses_have_a_port_and_no_tls() {
        let shot = |url: &str| {
            let url = url.parse().unwrap();
            Shot::new(&url, HeaderMap::new(), Vec::new(), false, Duration::ZERO)
        };
        let local = shot("http://localhost/v1/jobs/echo").unwrap();
        assert_eq!(local.address, "localhost:80");
        assert_eq!(local.path, "/v1/jobs/echo");
        assert!(shot("https://localhost/v1/jobs/echo").is_err());
    }
}
