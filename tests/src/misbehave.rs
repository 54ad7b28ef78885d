//! An HTTP server that does what its path says, which is mostly wrong.

use std::collections::BTreeMap;
use std::io::Result;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of an answer that nobody should read.
const HUGE: usize = 2 << 30;
/// Bytes of an answer that fits no record.
const BIG: usize = 3 << 20;
/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(100);

/// Of each answer that has ended, by its path: how many bytes the other side took.
type Ended = Arc<Mutex<BTreeMap<String, Vec<usize>>>>;

/// The server. It ends with this value.
pub struct Server {
    address: SocketAddr,
    ended: Ended,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves `/hang`, `/reset`, `/half`, `/huge`, `/endless`, `/big`, `/drip`, `/drip-head` and `/once`, and echoes on every
    /// other path. A path may begin with a status, `/503/huge`, and end with anything, `/503/huge/7`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let ended = Ended::default();
        let noted = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                // What the other side makes of it is the test's affair.
                tokio::spawn(async move { drop(serve(stream, noted).await) });
            }
        });
        Self {
            address,
            ended,
            task,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT/PATH`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How many bytes the other side took of each answer of a path that has ended.
    pub fn taken(&self, path: &str) -> Vec<usize> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let of_path = ended.get(&format!("/{path}"));
        of_path.cloned().unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, ended: Ended) -> Result<()> {
    loop {
        let (path, body) = request(&mut stream).await?;
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let (status, way) = match (parts[0].parse(), parts.get(1)) {
            (Ok(status), Some(way)) => (status, *way),
            _ => (200, parts[0]),
        };
        let mut answer = Answer {
            stream: &mut stream,
            taken: 0,
        };
        let whole = answer.write(status, way, &body).await;
        let taken = answer.taken;
        {
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.entry(path.clone()).or_default().push(taken);
        }
        whole?;
        if ["reset", "half", "once"].contains(&way) {
            return Ok(());
        }
    }
}

struct Answer<'a> {
    stream: &'a mut TcpStream,
    taken: usize,
}

impl Answer<'_> {
    async fn write(&mut self, status: u16, way: &str, body: &[u8]) -> Result<()> {
        match way {
            "hang" => std::future::pending().await,
            "reset" => return self.stream.set_zero_linger(),
            "drip-head" => {
                self.send(format!("HTTP/1.1 {status} \r\nslow: ").as_bytes())
                    .await?;
                return self.drip().await;
            }
            _ => {}
        }
        let length = match way {
            "half" => body.len() + 1,
            "huge" | "drip" => HUGE,
            "big" => BIG,
            _ => body.len(),
        };
        let framing = match way {
            "endless" => "transfer-encoding: chunked".to_owned(),
            "once" => format!("connection: close\r\ncontent-length: {length}"),
            _ => format!("content-length: {length}"),
        };
        let head =
            format!("HTTP/1.1 {status} \r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
        self.send(head.as_bytes()).await?;
        let piece = [b' '; 0x10000];
        match way {
            "drip" => self.drip().await,
            "endless" => loop {
                self.send(b"10000\r\n").await?;
                self.send(&piece).await?;
                self.send(b"\r\n").await?;
            },
            "huge" | "big" => {
                for _ in 0..length / piece.len() {
                    self.send(&piece).await?;
                }
                Ok(())
            }
            _ => self.send(body).await,
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        self.taken += bytes.len();
        Ok(())
    }

    /// A byte now and then, until the other side hangs up.
    async fn drip(&mut self) -> Result<()> {
        let mut ticks = tokio::time::interval(DRIP);
        loop {
            ticks.tick().await;
            self.send(b".").await?;
        }
    }
}

/// The path and the body of the next request.
async fn request(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
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
