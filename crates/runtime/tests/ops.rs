//! The operations endpoints over real sockets.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::time::Duration;

use tidegate_contract::Tier;
use tidegate_runtime::{Metrics, OpsState, Readiness, ops, retry_forever};
use tokio_util::sync::CancellationToken;

async fn get(url: String) -> (u16, String, String) {
    let answer = reqwest::get(url).await.unwrap();
    let media = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (
        answer.status().as_u16(),
        media,
        answer.text().await.unwrap(),
    )
}

#[tokio::test]
async fn the_endpoints_answer_until_the_token_ends_them() {
    let readiness = Readiness::new();
    let broker = readiness.condition("broker");
    let metrics = Metrics::new(["echo"]);
    let stop = CancellationToken::new();
    let state = OpsState {
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        recent_spans: None,
    };
    let server = ops::serve("127.0.0.1:0", state, stop.clone())
        .await
        .unwrap();
    assert_ne!(server.addr().port(), 0);
    let url = |path: &str| format!("http://{}{path}", server.addr());

    assert_eq!(get(url("/healthz")).await.0, 200);
    let (status, media, body) = get(url("/readyz")).await;
    assert_eq!((status, media.as_str()), (503, "application/json"));
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(report["ready"], false);
    assert_eq!(report["conditions"][0]["name"], "broker");
    assert_eq!(report["conditions"][0]["reason"], "starting");
    assert!(
        report["conditions"][0]["since"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(report["notes"], serde_json::json!([]));

    broker.ok_with("durability is `single-broker`: one disk lost, jobs lost");
    let (status, _, body) = get(url("/readyz")).await;
    assert_eq!(status, 200);
    assert!(body.contains("single-broker"), "{body}");

    metrics.job_received(Tier::High);
    metrics.submit("no-such-type", "wait", "rejected");
    let (status, media, body) = get(url("/metrics")).await;
    assert_eq!(status, 200);
    assert!(
        media.starts_with("application/openmetrics-text; version=1.0.0"),
        "{media}"
    );
    for line in [
        "tidegate_ready 1",
        "tidegate_condition_ok{condition=\"broker\"} 1",
        "tidegate_jobs_received_total{tier=\"high\"} 1",
        "tidegate_submits_total{type=\"other\",mode=\"wait\",outcome=\"rejected\"} 1",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} in\n{body}");
    }
    assert!(body.ends_with("# EOF\n"));

    let addr = server.addr();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), server.stopped())
        .await
        .unwrap();
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = OpsState {
        readiness: Readiness::new(),
        metrics: Metrics::new(["echo"]),
        recent_spans: None,
    };
    let listen = taken.local_addr().unwrap().to_string();
    assert!(
        ops::serve(&listen, state, CancellationToken::new())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dependency_is_brought_up_while_readiness_says_why_not() {
    let readiness = Readiness::new();
    let registry = readiness.condition("registry");
    let stop = CancellationToken::new();
    let seen = readiness.clone();
    let mut calls = 0;
    let value = retry_forever(&registry, &stop, || {
        calls += 1;
        let call = calls;
        if call == 3 {
            assert_eq!(
                seen.report().conditions[0].reason.as_deref(),
                Some("away 2")
            );
        }
        async move {
            if call < 4 {
                Err(format!("away {call}"))
            } else {
                Ok(call)
            }
        }
    })
    .await;
    assert_eq!(value, Some(4));
    assert!(readiness.is_ready());

    stop.cancel();
    let never = retry_forever(&registry, &stop, || async { Err::<(), _>("away") }).await;
    assert_eq!(never, None);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_ends_when_it_comes_or_with_what_is_missing() {
    let readiness = Readiness::new();
    let (broker, store) = (readiness.condition("broker"), readiness.condition("store"));
    broker.ok();
    store.fail("store is away");
    let report = readiness
        .until_ready(Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(!report.ready);
    assert_eq!(
        report.conditions[1].reason.as_deref(),
        Some("store is away")
    );

    let waiting = tokio::spawn({
        let readiness = readiness.clone();
        async move {
            readiness
                .until_ready(Duration::from_secs(3600))
                .await
                .is_ok()
        }
    });
    tokio::task::yield_now().await;
    store.ok();
    assert!(waiting.await.unwrap());
    assert!(
        readiness.condition("store").is_ok(),
        "the same name is the same condition"
    );
}
