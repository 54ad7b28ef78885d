//! A mail server on this host that takes every mail and keeps it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The server; it ends with the program.
#[derive(Clone)]
pub struct Mailbox {
    pub port: u16,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    /// Listens on a free port, without encryption.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mails = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&kept)));
            }
        });
        Self { port, mails }
    }

    /// The mails that came, with their headers.
    pub fn mails(&self) -> Vec<String> {
        let mails = self.mails.lock();
        mails.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(stream: TcpStream, mails: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut wire = BufReader::new(stream);
    wire.write_all(b"220 test\r\n").await?;
    let mut line = String::new();
    while wire.read_line(&mut line).await? > 0 {
        let command = line.to_ascii_uppercase();
        line.clear();
        let reply = match command.split_whitespace().next() {
            Some("DATA") => {
                wire.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") && wire.read_line(&mut mail).await? > 0 {}
                let mut kept = mails.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(mail);
                "250 taken\r\n"
            }
            _ => "250 ok\r\n",
        };
        wire.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}
