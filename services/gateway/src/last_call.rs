//! Who connects while the gateway stops is told so.
//!
//! When the HTTP server has stopped taking connections, the kernel goes on completing handshakes until the socket is
//! closed, and would then reset what nobody accepted. So the socket is kept, and everybody who still comes gets
//! `503` until the process ends: that is all that is served here.
//!
//! At the end the socket is closed without a reset too: the kernel is asked to drop what would begin a handshake, those
//! that are under way are answered, and only then, with nobody left in its queue, it is closed. Whose handshake was
//! dropped repeats it after a second, as TCP does, and is refused; and who is refused knows that nothing was taken.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use actix_web::ResponseError;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::problem::ApiError;

/// One connection takes no longer.
const LIMIT: Duration = Duration::from_secs(1);
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a handshake that is under way may need when no others are taken any more: the round trip to a client.
const HANDSHAKE: Duration = Duration::from_millis(100);
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
    stop.run_until_cancelled(take(&listener, &open)).await;
    drop_handshakes(&listener);
    let _ = tokio::time::timeout(HANDSHAKE, take(&listener, &open)).await;
    // What the kernel has and the runtime has not told of yet.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(stream) = nonblocking(stream) {
                answer(stream, &open);
            }
        }
    }
    open.close();
    open.wait().await;
}

/// Answers everybody who comes.
async fn take(listener: &tokio::net::TcpListener, open: &TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, open),
            // Out of descriptors, say: the next one would fail as well.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn answer(stream: TcpStream, open: &TaskTracker) {
    open.spawn(async move {
        let _ = tokio::time::timeout(LIMIT, refuse(stream)).await;
    });
}

fn nonblocking(stream: std::net::TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Has the kernel drop, from now on, each segment to `listener` that would begin a handshake. Where it cannot, a client
/// that connects in the moment of the close is reset.
fn drop_handshakes(listener: &impl AsFd) {
    #[cfg(target_os = "linux")]
    {
        use socket2::SockFilter;
        // A classic BPF program; a filter on a TCP socket sees a segment from its header on.
        const LOAD_BYTE: u16 = 0x30;
        const JUMP_IF_SET: u16 = 0x45;
        const RETURN: u16 = 0x06;
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        let filter = [
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
            tracing::debug!(%error, "the port closes with handshakes under way");
        }
    }
}

async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while head.len() < HEAD && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(text().as_bytes()).await?;
    stream.shutdown().await?;
    // A close with bytes unread would reset the connection under the answer.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn text() -> String {
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
    use std::io::ErrorKind;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::sync::Barrier;

    use super::*;

    fn listener() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// A client that asks again and again, on a new connection each time, until it is refused. How often it was answered;
    /// after the first time it waits for the others.
    async fn until_refused(to: SocketAddr, others: Arc<Barrier>) -> std::io::Result<usize> {
        let mut answered = 0;
        loop {
            let mut stream = match TcpStream::connect(to).await {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(answered),
                Err(error) => return Err(error),
            };
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            assert!(answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
            answered += 1;
            if answered == 1 {
                others.wait().await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_connects_is_answered_or_refused_but_never_reset() {
        for _ in 0..10 {
            let listener = listener();
            let to = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            let serving = tokio::spawn(serve(listener, stop.clone()));
            let all = Arc::new(Barrier::new(17));
            let client = |_| tokio::spawn(until_refused(to, all.clone()));
            let clients: Vec<_> = (0..16).map(client).collect();
            all.wait().await;
            stop.cancel();
            serving.await.unwrap();
            for client in clients {
                assert!(client.await.unwrap().expect("answered or refused") > 0);
            }
        }
    }

    #[tokio::test]
    async fn late_clients_read_a_503() {
        let listener = listener();
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
