//! Who connects while the gateway stops is told so.
//!
//! When the HTTP server has stopped taking connections, the kernel goes on completing handshakes until the socket is
//! closed, and would then reset what nobody accepted. So the socket is kept, and everybody who still comes gets
//! `503` until the process ends: that is all that is served here.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::ResponseError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::problem::ApiError;

/// One connection takes no longer.
const LIMIT: Duration = Duration::from_secs(1);
/// As much of a request is read as a head may be long.
const HEAD: usize = 16 << 10;

/// Answers on `listener`, which another server listens on and has paused, until `stop`.
pub async fn serve(listener: TcpListener, stop: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "late connections are not answered");
            return;
        }
    };
    let open = TaskTracker::new();
    loop {
        // Those who wait already come before the stop.
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        if let Ok((stream, _)) = accepted {
            open.spawn(async move {
                let _ = tokio::time::timeout(LIMIT, refuse(stream)).await;
            });
        }
    }
    drop(listener);
    open.close();
    open.wait().await;
}

async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer().as_bytes()).await?;
    stream.shutdown().await?;
    // A close with bytes unread would reset the connection under the answer.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn answer() -> String {
    let error = ApiError::ShuttingDown;
    let body = error.document().to_string();
    format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
        error.status_code(),
        body.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_clients_read_a_503() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/v1/jobs/echo", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client
            .post(&url)
            .body(vec![b'x'; 300_000])
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        let doc: serde_json::Value = response.json().await.unwrap();
        assert_eq!(doc["type"], "/problems/shutting-down");
        stop.cancel();
        serving.await.unwrap();
    }
}
