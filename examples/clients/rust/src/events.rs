//! Follows a job as server-sent events. A stream that breaks is taken up again where it was.

use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt;
use reqwest::{Response, StatusCode};

use crate::gateway::{Gateway, document};
use crate::sse::Reader;

/// Heartbeats come every 15 s: a stream that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(45);

pub async fn follow(gateway: &Gateway, id: &str) -> Result<()> {
    let (mut last, mut failures) = (None, 0);
    while failures < 10 {
        failures += 1;
        let mut request = gateway.get(gateway.url(&format!("/v1/jobs/{id}/events"))?);
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        match request.send().await {
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {}
            Ok(answer) if answer.status() == StatusCode::OK => {
                if read(gateway, answer, &mut last, &mut failures).await? {
                    return Ok(());
                }
            }
            Ok(answer) => {
                document(answer, StatusCode::OK).await?;
            }
            Err(error) => eprintln!("no stream: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bail!("no stream can be had")
}

/// Reads one stream. Whether the job has ended; otherwise the stream has.
async fn read(
    gateway: &Gateway,
    answer: Response,
    last: &mut Option<String>,
    failures: &mut u32,
) -> Result<bool> {
    let (mut pieces, mut reader) = (answer.bytes_stream(), Reader::default());
    while let Ok(Some(piece)) = tokio::time::timeout(SILENCE, pieces.next()).await {
        let Ok(piece) = piece else { break };
        for event in reader.push(&piece) {
            *failures = 0;
            *last = Some(event.id);
            let job = serde_json::from_str(&event.data)?;
            if gateway.tell(&event.kind, &job).await? {
                return Ok(true);
            }
        }
    }
    eprintln!("the stream broke");
    Ok(false)
}
