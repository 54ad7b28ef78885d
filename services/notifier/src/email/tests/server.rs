//! A mail server of this process, as good or as bad as a test wants it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What it says to a command; `greeting` and `.` (the end of a mail) are among them.
#[derive(Clone, Copy)]
pub(crate) enum Say {
    /// A reply, whole but for the end of its last line.
    Reply(&'static str),
    /// Nothing at all.
    Hang,
    /// It goes away.
    HangUp,
}

/// What it says to the commands that begin so, instead of what a good one would.
pub(crate) type Script = Vec<(&'static str, Say)>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    None,
    Starttls,
    Tls,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    /// Its certificate, as a file.
    pub(crate) ca_file: PathBuf,
    /// Commands and mails, with the number of their connection, from 1.
    seen: mpsc::UnboundedReceiver<(usize, String)>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Answers the connections by the scripts, one after the other; the last one is for all that follow.
    pub(crate) async fn start(encryption: Encryption, scripts: Vec<Script>) -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, key.cert.pem()).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                let script = scripts.get(number - 1).or(scripts.last());
                let session = Session {
                    number,
                    script: script.cloned().unwrap_or_default(),
                    encryption,
                    acceptor: acceptor.clone(),
                    log: log.clone(),
                };
                tokio::spawn(session.run(stream));
            }
        });
        Self {
            port,
            ca_file,
            seen,
            _folder: folder,
        }
    }

    /// What it was told so far.
    pub(crate) fn seen(&mut self) -> Vec<(usize, String)> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// The same, but only what begins so.
    pub(crate) fn count(&mut self, begin: &str) -> usize {
        let seen = self.seen();
        seen.iter().filter(|(_, it)| it.starts_with(begin)).count()
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}
type Wire = BufReader<Box<dyn Both>>;

struct Session {
    number: usize,
    script: Script,
    encryption: Encryption,
    acceptor: TlsAcceptor,
    log: mpsc::UnboundedSender<(usize, String)>,
}

impl Session {
    /// `None` when it is over, for whatever reason.
    async fn run(self, stream: TcpStream) -> Option<()> {
        let mut encrypted = self.encryption == Encryption::Tls;
        let stream: Box<dyn Both> = match encrypted {
            true => Box::new(self.acceptor.accept(stream).await.ok()?),
            false => Box::new(stream),
        };
        let mut wire = BufReader::new(stream);
        self.say(&mut wire, "greeting", "220 test").await?;
        loop {
            let mut line = String::new();
            if wire.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            self.log.send((self.number, line.to_owned())).ok()?;
            let word = line.split(' ').next().unwrap_or_default();
            let starttls = self.encryption == Encryption::Starttls && !encrypted;
            let usual = match word {
                "EHLO" if starttls => "250-test\r\n250 STARTTLS",
                "EHLO" => "250-test\r\n250 AUTH PLAIN",
                "AUTH" => "235 welcome",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 good",
            };
            self.say(&mut wire, line, usual).await?;
            if word == "STARTTLS" {
                let stream = self.acceptor.accept(wire.into_inner()).await.ok()?;
                wire = BufReader::new(Box::new(stream));
                encrypted = true;
            }
            if word == "DATA" && !self.script.iter().any(|(begin, _)| *begin == "DATA") {
                let mail = mail(&mut wire).await?;
                self.log.send((self.number, mail)).ok()?;
                self.say(&mut wire, ".", "250 queued as 7").await?;
            }
        }
    }

    async fn say(&self, wire: &mut Wire, line: &str, usual: &'static str) -> Option<()> {
        let told = self
            .script
            .iter()
            .find(|(begin, _)| line.starts_with(begin));
        match told.map_or(Say::Reply(usual), |(_, say)| *say) {
            Say::Reply(reply) => {
                let reply = format!("{reply}\r\n");
                wire.write_all(reply.as_bytes()).await.ok()?;
                wire.flush().await.ok()
            }
            Say::Hang => std::future::pending().await,
            Say::HangUp => None,
        }
    }
}

/// A mail without its last line, which is a dot.
async fn mail(wire: &mut Wire) -> Option<String> {
    let mut mail = String::new();
    while !mail.ends_with("\r\n.\r\n") {
        if wire.read_line(&mut mail).await.ok()? == 0 {
            return None;
        }
    }
    Some(mail)
}
