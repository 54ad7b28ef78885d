//! TCP proxies on loopback that make trouble: a server that is away, slow or silent for those who come through them,
//! and only for them.
//!
//! Clients of Kafka follow the addresses that a broker advertises; [`Proxy::to_brokers`] puts its own in their place.

mod kafka;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How it is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Every piece comes so much later, in both directions.
    Slow(Duration),
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing moves; what waits goes on later.
    Still,
    /// Connections stay open and nothing is heard through them, now or later; those that are made after it work.
    HalfOpen,
}

/// A proxy to one server. It ends with this value.
pub struct Proxy {
    pub address: SocketAddr,
    way: Arc<watch::Sender<Way>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Forwards a free port to `target`.
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::forward(listener, target, Arc::default())
    }

    /// One proxy for each broker of a cluster on this machine, given as `127.0.0.1:PORT`, comma separated. Whoever begins
    /// at one of them never gets past them.
    pub async fn to_brokers(bootstrap: &str) -> Vec<Self> {
        let (mut listeners, mut ports) = (Vec::new(), Vec::new());
        for broker in bootstrap.split(',') {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let own = listener.local_addr().expect("an address").port();
            let (_, port) = broker.rsplit_once(':').expect("host:port");
            ports.push((port.parse().expect("a port"), own));
            listeners.push((listener, broker.to_owned()));
        }
        let ports = Arc::new(ports);
        let proxies = listeners
            .into_iter()
            .map(|(listener, broker)| Self::forward(listener, broker, Arc::clone(&ports)));
        proxies.collect()
    }

    fn forward(listener: TcpListener, target: String, ports: Arc<kafka::Ports>) -> Self {
        let address = listener.local_addr().expect("an address");
        let way = Arc::new(watch::Sender::new(Way::Open));
        let gate = way.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, ports) = (target.clone(), Arc::clone(&ports));
                tokio::spawn(connection(client, target, ports, gate.subscribe()));
            }
        });
        Self { address, way, task }
    }

    /// Changes how it is on the way, for what is connected and what comes.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.set(Way::Cut);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.set(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn connection(
    mut client: TcpStream,
    target: String,
    ports: Arc<kafka::Ports>,
    mut way: watch::Receiver<Way>,
) {
    let now = *way.borrow();
    match now {
        Way::Cut => return,
        Way::HalfOpen => return deaf(&mut client).await,
        Way::Open | Way::Slow(_) | Way::Still => {}
    }
    let Ok(mut server) = TcpStream::connect(&target).await else {
        return;
    };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = pump(from_client, to_server, way.clone());
    let back_way = way.clone();
    let back = async {
        match ports.is_empty() {
            true => pump(from_server, to_client, back_way).await,
            false => kafka::pump(from_server, to_client, &ports, back_way).await,
        }
    };
    let ended = tokio::select! {
        // One side has closed: so does the other.
        _ = there => Way::Cut,
        _ = back => Way::Cut,
        ended = over(&mut way) => ended,
    };
    if ended == Way::HalfOpen {
        drop(server);
        deaf(&mut client).await;
    }
}

/// Waits until no connection that is open now goes on.
async fn over(way: &mut watch::Receiver<Way>) -> Way {
    let ended = way
        .wait_for(|way| matches!(way, Way::Cut | Way::HalfOpen))
        .await;
    ended.map_or(Way::Cut, |way| *way)
}

/// Takes what comes and says nothing, until the other side gives up.
async fn deaf(client: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while matches!(client.read(&mut bytes).await, Ok(count) if count > 0) {}
}

/// Forwards one direction to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        pass(&mut way).await;
        to.write_all(&bytes[..count]).await?;
    }
}

/// Waits until a piece may go on.
async fn pass(way: &mut watch::Receiver<Way>) {
    let now = way.wait_for(|way| *way != Way::Still).await.map(|way| *way);
    if let Ok(Way::Slow(slower)) = now {
        tokio::time::sleep(slower).await;
    }
}
