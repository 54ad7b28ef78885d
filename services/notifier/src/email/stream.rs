//! The connection before it is encrypted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that is read byte by byte until it is encrypted. What somebody on the way puts behind the reply to
/// `STARTTLS` is in no buffer then, where it would be taken for a reply that came encrypted: it breaks the handshake.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    whole: Arc<AtomicBool>,
}

/// Says that a connection is encrypted.
pub(super) struct Encrypted(Arc<AtomicBool>);

impl Encrypted {
    pub(super) fn now(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stream {
    pub(super) fn new(tcp: TcpStream) -> (Self, Encrypted) {
        let whole = Arc::new(AtomicBool::new(false));
        let stream = Self {
            tcp,
            whole: Arc::clone(&whole),
        };
        (stream, Encrypted(whole))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.whole.load(Ordering::Relaxed) || buf.remaining() == 0 {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Stream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}
