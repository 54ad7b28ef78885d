//! The small part of the Confluent schema registry interface that Tidegate needs, in memory.

mod routes;
mod state;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};

/// Largest schema that is taken, in bytes.
const MAX_BODY: usize = 1 << 20;

/// A schema registry in this process, on a port and a thread of its own. It forgets on exit; it stops when dropped.
pub struct EmbeddedRegistry {
    url: String,
    server: ServerHandle,
}

impl EmbeddedRegistry {
    /// Starts on a free port of 127.0.0.1. Blocks for some milliseconds.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let (started, start) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("embedded-registry".to_owned())
            .spawn(move || {
                actix_web::rt::System::new().block_on(async move {
                    let state = Arc::new(Mutex::new(state::State::default()));
                    let server = HttpServer::new(move || {
                        App::new()
                            .app_data(web::Data::from(state.clone()))
                            .app_data(web::PayloadConfig::new(MAX_BODY))
                            .configure(routes::configure)
                    })
                    .workers(1)
                    .shutdown_timeout(0)
                    .disable_signals()
                    .listen(listener);
                    match server {
                        Ok(server) => {
                            let server = server.run();
                            if started.send(Ok(server.handle())).is_ok()
                                && let Err(error) = server.await
                            {
                                tracing::warn!(%error, "embedded registry");
                            }
                        }
                        Err(error) => drop(started.send(Err(error))),
                    }
                });
            })?;
        let server = start
            .recv()
            .map_err(|_| io::Error::other("embedded registry did not start"))??;
        Ok(Self { url, server })
    }

    /// Base of its interface, for [`RegistrySettings`](crate::RegistrySettings).
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for EmbeddedRegistry {
    fn drop(&mut self) {
        // The command is on its way when the call returns; the future only waits for the end.
        drop(self.server.stop(false));
    }
}
