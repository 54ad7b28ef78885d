//! A receiver that takes connections and never answers; a process of its own, since tracing has one subscriber in each.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::time::{Duration, Instant};

use tidegate_runtime::telemetry::{self, TelemetrySettings};
use tracing::info_span;

#[tokio::test]
async fn a_receiver_that_never_answers_does_not_hold_up_the_stop() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let settings = TelemetrySettings {
        otlp_endpoint: Some(endpoint),
        ..TelemetrySettings::default()
    };
    let telemetry = telemetry::init(&settings, "worker", "host-3-abc").unwrap();
    info_span!("lost").in_scope(|| ());
    let began = Instant::now();
    telemetry.shutdown(Duration::from_millis(500)).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}
