//! The harness of the end-to-end tests: real Kafka, registry and PostgreSQL, and the real program.
//!
//! `scripts/test` starts the servers and says where they are ([`Servers`]). Each test makes a [`Stack`] of its own:
//! a topic prefix, a database and a configuration file, so that tests run side by side. The stack starts roles as
//! processes ([`Process`]) that can be asked to stop, killed, paused and resumed; everything ends when the test
//! does. [`until`] waits for conditions, [`http`] talks to gateways and [`load`] does so many times at once, [`kafka`]
//! looks into topics and [`rows`] into the store, [`otlp`] takes traces and [`jaeger`] shows them, [`proxy`] cuts
//! connections, [`receiver`] is called back by a [`callbacks::Installation`], [`misbehave`], [`tls`] and [`lookups`] stand for
//! those who mean harm, [`languages`] starts workers that are not written in Rust, [`examples`] runs the example clients and
//! receivers, [`browser`] a browser and [`doctor`] the doctor. [`documents`] runs the commands of the documentation.

// A harness fails its test by a panic, and says what it measured.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

pub mod balancer;
pub mod browser;
pub mod callbacks;
pub mod churn;
pub mod doctor;
pub mod documents;
pub mod examples;
pub mod http;
pub mod jaeger;
pub mod kafka;
pub mod languages;
pub mod load;
pub mod lookups;
pub mod mailbox;
pub mod misbehave;
pub mod otlp;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod receiver;
pub mod records;
pub mod rows;
pub mod scripts;
pub mod stack;
pub mod stall;
pub mod storm;
pub mod tls;
pub mod topics;
pub mod traffic;
pub mod unreadable;

use std::time::{Duration, Instant};

pub use http::{Client, Job};
pub use process::Process;
pub use scripts::{Broker, Postgres};
pub use stack::{Servers, Stack};

/// Asks again and again until the answer is there, at most for `limit`; panics with `what` otherwise.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same for a yes or no.
pub async fn until_true<F: Future<Output = bool>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) {
    until(what, limit, || {
        let asked = ask();
        async { asked.await.then_some(()) }
    })
    .await
}

/// Seconds, to keep tests short.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
