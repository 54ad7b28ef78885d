//! A server that nobody vouches for but itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// The server; it ends with the program.
pub struct SelfSigned {
    pub url: String,
    met: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
}

impl SelfSigned {
    /// Listens on a free port, with a certificate for this address.
    pub async fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a key");
        let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private.into())
            .expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let (met, read) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let server = Self {
            url,
            met: Arc::clone(&met),
            read: Arc::clone(&read),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                met.fetch_add(1, Ordering::Relaxed);
                let (acceptor, read) = (acceptor.clone(), Arc::clone(&read));
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let bytes = stream.read(&mut [0; 4096]).await?;
                    read.fetch_add(bytes, Ordering::Relaxed);
                    std::io::Result::Ok(())
                });
            }
        });
        server
    }

    /// How many have connected.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    /// How many bytes of theirs were read.
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}
