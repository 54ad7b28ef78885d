//! Asks for the status, with the tag of what is known already.

use anyhow::Result;
use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};

use crate::gateway::{Gateway, document, pause};

/// As seldom as the gateway says.
pub async fn poll(gateway: &Gateway, status_url: &str) -> Result<()> {
    let mut tag = None;
    loop {
        let mut request = gateway.get(gateway.url(status_url)?);
        if let Some(tag) = &tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let answer = request.send().await?;
        let wait = pause(&answer);
        if !nothing_new(answer.status()) {
            tag = answer.headers().get(ETAG).cloned();
            let job = document(answer, StatusCode::OK).await?;
            let status = job["status"].as_str().unwrap_or_default();
            if gateway.tell(status, &job).await? {
                return Ok(());
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// In requests that the gateway holds until something changes.
pub async fn long_poll(gateway: &Gateway, status_url: &str) -> Result<()> {
    // Not that of any status, so that the first answer comes at once.
    let mut tag = HeaderValue::from_static("\"none\"");
    let mut url = gateway.url(status_url)?;
    url.set_query(Some("wait=30"));
    loop {
        let request = gateway.get(url.clone());
        let answer = request.header(IF_NONE_MATCH, &tag).send().await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            tokio::time::sleep(pause(&answer)).await;
        } else if !nothing_new(answer.status()) {
            tag = answer.headers().get(ETAG).cloned().unwrap_or(tag);
            let job = document(answer, StatusCode::OK).await?;
            let status = job["status"].as_str().unwrap_or_default();
            if gateway.tell(status, &job).await? {
                return Ok(());
            }
        }
    }
}

/// Nothing has changed, or the status cannot be read for the moment.
fn nothing_new(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_MODIFIED | StatusCode::SERVICE_UNAVAILABLE
    )
}
