//! An HTTP worker that does what its path says, which is mostly wrong.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of an answer that no worker should give.
const HUGE: usize = 100 << 20;
/// Bytes of an answer that fits no record.
const BIG: usize = 3 << 20;

/// The server. It ends with this value.
pub struct HttpWorker {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl HttpWorker {
    /// Serves `/error`, `/hang`, `/reset`, `/half`, `/huge`, `/endless`, `/big`, and echoes on every other path.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What the other side makes of it is the test's affair.
                tokio::spawn(async move { drop(serve(stream).await) });
            }
        });
        Self { address, task }
    }

    /// `http://127.0.0.1:PORT/PATH`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for HttpWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let (path, body) = request(&mut stream).await?;
        let length = match path.as_str() {
            "/hang" => std::future::pending().await,
            "/reset" => return stream.set_zero_linger(),
            "/half" => body.len() + 1,
            "/huge" => HUGE,
            "/big" => BIG,
            _ => body.len(),
        };
        let status = if path == "/error" {
            "500 Oops"
        } else {
            "200 OK"
        };
        let framing = match path.as_str() {
            "/endless" => "transfer-encoding: chunked".to_owned(),
            _ => format!("content-length: {length}"),
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let piece = [b' '; 0x10000];
        match path.as_str() {
            "/half" => return stream.write_all(&body).await,
            "/endless" => loop {
                stream.write_all(b"10000\r\n").await?;
                stream.write_all(&piece).await?;
                stream.write_all(b"\r\n").await?;
            },
            "/huge" | "/big" => {
                for _ in 0..length / piece.len() {
                    stream.write_all(&piece).await?;
                }
            }
            _ => stream.write_all(&body).await?,
        }
    }
}

/// The path and the body of the next request.
async fn request(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        let body = &bytes[end + 4..];
        if body.len() >= length {
            let path = head.split(' ').nth(1).expect("a path").to_owned();
            return Ok((path, body.to_vec()));
        }
    }
}
