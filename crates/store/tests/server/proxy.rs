//! A way to the server that can hang or break: what a paused machine or a cut cable looks like from here.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards bytes to the server while it is let.
pub struct Proxy {
    pub port: u16,
    target: String,
    gate: Arc<Gate>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Gate {
    paused: watch::Sender<bool>,
    /// Bytes until the proxy pauses by itself; negative: never.
    left: AtomicI64,
}

impl Proxy {
    pub async fn start(url: &str) -> Self {
        let options = PgConnectOptions::from_str(url).unwrap();
        let target = format!("{}:{}", options.get_host(), options.get_port());
        let gate = Arc::new(Gate {
            paused: watch::channel(false).0,
            left: AtomicI64::new(-1),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(accept(listener, target.clone(), gate.clone()));
        Self {
            port,
            target,
            gate,
            accepting,
        }
    }

    /// While paused, connections stay open and nothing comes through.
    pub fn pause(&self, paused: bool) {
        self.gate.left.store(-1, Ordering::SeqCst);
        self.gate.paused.send_replace(paused);
    }

    /// Pauses after that many more bytes to the server.
    pub fn pause_after(&self, bytes: i64) {
        self.gate.left.store(bytes, Ordering::SeqCst);
    }

    /// Ends all connections and refuses new ones.
    pub async fn cut(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Accepts again on the same port.
    pub async fn restart(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let listener = TcpListener::bind(address).await.unwrap();
        self.accepting = tokio::spawn(accept(listener, self.target.clone(), self.gate.clone()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, gate: Arc<Gate>) {
    // Dropped with this task, and its connections with it.
    let mut open = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (target, gate) = (target.clone(), gate.clone());
        open.spawn(async move {
            let server = TcpStream::connect(target).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                forward(from_client, to_server, &gate, true),
                forward(from_server, to_client, &gate, false),
            );
        });
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &Gate, counted: bool) {
    let mut paused = gate.paused.subscribe();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // The end of a connection waits behind a pause, too.
        paused.wait_for(|paused| !paused).await.unwrap();
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        let left = gate.left.load(Ordering::SeqCst);
        if counted && left >= 0 {
            let left = (left - read as i64).max(0);
            gate.left.store(left, Ordering::SeqCst);
            if left == 0 {
                gate.paused.send_replace(true);
            }
        }
    }
}
