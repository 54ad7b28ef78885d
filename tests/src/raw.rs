//! HTTP by hand, for what a well-behaved client does not do: half a request, an endless one, a socket that closes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// Whole, by its `content-length`.
    pub body: String,
}

/// A connection to a gateway.
pub struct Connection(pub TcpStream);

impl Connection {
    pub async fn to(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Writes, whether or not the other side takes it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.write_all(bytes.as_ref()).await
    }

    /// A request with this much of its body; `headers` end in line breaks.
    pub async fn request(&mut self, line: &str, headers: &str, body: &str) {
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
        self.write(head).await.expect("written");
    }

    /// A submit that waits, whole.
    pub async fn wait(&mut self, job_type: &str, body: &str, seconds: u64) {
        let length = body.len();
        let headers = format!("prefer: wait={seconds}\r\ncontent-length: {length}\r\n");
        self.request(&format!("POST /v1/jobs/{job_type}"), &headers, body)
            .await;
    }

    /// Reads one whole answer.
    pub async fn answer(&mut self, limit: Duration) -> std::io::Result<Answer> {
        let read = tokio::time::timeout(limit, self.read()).await;
        read.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    async fn read(&mut self) -> std::io::Result<Answer> {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .and_then(|length| length.trim().parse::<usize>().ok())
                    .unwrap_or_default();
                if body.len() >= length {
                    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
                    return Ok(Answer {
                        status: status.unwrap_or_default(),
                        head,
                        body: body.to_owned(),
                    });
                }
            }
            let mut piece = [0; 4096];
            match self.0.read(&mut piece).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }
}
