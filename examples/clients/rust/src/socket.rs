//! Follows a job over a WebSocket. One that breaks is opened again where it was.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use futures::StreamExt;
use reqwest::StatusCode;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::gateway::Gateway;

/// Pings come every 15 s: a socket that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(45);

pub async fn follow(gateway: &Gateway, id: &str) -> Result<()> {
    let mut url = gateway.url(&format!("/v1/jobs/{id}/events"))?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| anyhow!("{url}"))?;
    let mut failures = 0;
    while failures < 10 {
        failures += 1;
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().extend(gateway.headers.clone());
        match connect_async(request).await {
            Ok((mut socket, _)) => {
                // Answers pings by itself while it is read.
                while let Ok(Some(Ok(message))) = tokio::time::timeout(SILENCE, socket.next()).await
                {
                    let Message::Text(text) = message else {
                        continue;
                    };
                    let job: Value = serde_json::from_str(&text)?;
                    failures = 0;
                    url.set_query(Some(&format!("after={}", job["id"])));
                    let kind = job["event"].as_str().unwrap_or_default();
                    if gateway.tell(kind, &job).await? {
                        return Ok(());
                    }
                }
                eprintln!("the socket broke");
            }
            Err(Error::Http(answer)) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                let body = answer.body().as_deref().unwrap_or_default();
                bail!("{}: {}", answer.status(), String::from_utf8_lossy(body));
            }
            Err(error) => eprintln!("no socket: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bail!("no socket can be had")
}
