//! Broker, registry, store and replies away.

use super::*;

#[actix_web::test]
async fn what_is_known_to_be_away_is_refused_at_once() {
    let bench = Bench::new();
    for (obstacle, kind, source) in [
        (
            ApiError::BrokerUnavailable("down".into()),
            "broker-unavailable",
            "broker",
        ),
        (
            ApiError::RegistryUnavailable("down".into()),
            "registry-unavailable",
            "broker",
        ),
        (
            ApiError::Topics("topic x is missing: run `tidegate topics create`".into()),
            "topics",
            "broker",
        ),
    ] {
        *bench.fake.obstacle.lock().unwrap() = Some(obstacle);
        let doc = bench.post("echo", &[], "{}").await.problem(503, kind);
        assert_eq!(
            (&doc["source"], &doc["repeatSafe"]),
            (&source.into(), &true.into())
        );
    }
    *bench.fake.obstacle.lock().unwrap() = None;
    bench.fake.no_home.store(true, Ordering::Relaxed);
    bench
        .post("echo", &[], "{}")
        .await
        .problem(503, "no-replies");
    bench.fake.no_home.store(false, Ordering::Relaxed);
    bench.fake.cold_codec.store(true, Ordering::Relaxed);
    bench
        .post("echo", &[], "{}")
        .await
        .problem(503, "registry-unavailable");
    assert!(bench.fake.sent.lock().unwrap().is_empty() && bench.state.waits.is_empty());
}

#[actix_web::test]
async fn each_failure_to_produce_says_whether_a_repeat_is_safe() {
    let bench = Bench::new();
    for (error, status, kind, safe) in [
        (ProduceError::QueueFull, 503, "broker-queue-full", true),
        (
            ProduceError::EmbeddedFull("4 of 5 MiB".into()),
            503,
            "broker-full",
            true,
        ),
        (ProduceError::Refused("no".into()), 503, "not-written", true),
        (
            ProduceError::Unknown("timed out".into()),
            503,
            "outcome-unknown",
            false,
        ),
        (
            ProduceError::TooLarge { bytes: 9, limit: 8 },
            413,
            "record-too-large",
            true,
        ),
    ] {
        for (at_once, prefer) in [
            (true, "wait=5"),
            (false, "wait=5"),
            (false, "respond-async"),
        ] {
            let slot = if at_once {
                &bench.fake.refuse_at_once
            } else {
                &bench.fake.refuse_later
            };
            *slot.lock().unwrap() = Some(error.clone());
            let answer = bench.post("echo", &[("Prefer", prefer)], "{}").await;
            let doc = answer.problem(status, kind);
            assert_eq!(doc["repeatSafe"], safe, "{doc}");
            if kind == "outcome-unknown" {
                assert_eq!(doc["jobId"], answer.header("tidegate-job-id"));
                assert!(doc["jobId"].is_string());
            }
            *slot.lock().unwrap() = None;
            assert!(bench.state.waits.is_empty());
        }
    }
    bench.state.tasks.ended().await;
    assert!(
        bench.fake.inserted.lock().unwrap().is_empty(),
        "no row of a job that may not exist"
    );
}

#[actix_web::test]
async fn without_the_store_waits_go_on_and_asynchronous_submits_do_not() {
    let bench = Bench::new();
    bench.fake.store_away.store(true, Ordering::Relaxed);
    assert_eq!(bench.post("echo", &[], "{}").await.status, 200);
    let doc = bench
        .post("later", &[], "x")
        .await
        .problem(503, "store-unavailable");
    assert_eq!(
        (&doc["source"], &doc["repeatSafe"]),
        (&"store".into(), &true.into())
    );
    assert_eq!(bench.fake.jobs().len(), 1, "refused before it was produced");
    let id = bench.fake.jobs()[0].job_id;
    bench
        .get(&format!("/v1/jobs/{id}"))
        .await
        .problem(503, "store-unavailable");
}

#[actix_web::test]
async fn a_row_that_cannot_be_made_is_told_to_the_log() {
    let settings = GatewaySettings {
        max_wait: Duration::from_millis(20),
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    bench.fake.handle(|_| None);
    bench.fake.store_away.store(true, Ordering::Relaxed);
    let answer = bench.post("echo", &[], "{}").await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["note"].is_string());
    let job = bench.fake.jobs().remove(0);
    let sent = bench.fake.sent.lock().unwrap();
    let accepted = sent.last().unwrap();
    assert_eq!(
        (accepted.topic.as_str(), accepted.partition),
        ("t.replies", Some(HOME))
    );
    assert_eq!(accepted.key, job.job_id.to_string());
    assert_eq!(accepted.headers.get("event"), Some("accepted"));
    let event: JobEvent = serde_json::from_slice(&accepted.payload).unwrap();
    assert_eq!(
        (event.kind, event.job.deadline),
        (EventKind::Accepted, job.deadline)
    );
}

/// The job is durable, so it is accepted; a `503` would make the client run it twice.
#[actix_web::test]
async fn a_job_that_cannot_be_shown_is_accepted_and_shown_as_soon_as_can_be() {
    let settings = GatewaySettings {
        max_wait: Duration::from_millis(20),
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    bench.fake.handle(|_| None);
    bench.fake.store_away.store(true, Ordering::Relaxed);
    bench.fake.refuse_events.store(true, Ordering::Relaxed);
    let answer = bench.post("echo", &[], "{}").await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["note"].as_str().unwrap().contains("broker"));
    bench.fake.store_away.store(false, Ordering::Relaxed);
    // The stop is what makes it try again without waiting for its turn.
    bench.state.stop.waits.cancel();
    bench.state.tasks.ended().await;
    assert_eq!(bench.fake.inserted.lock().unwrap().len(), 1);
}
