//! Waits: outcomes, ends without one, waits that run out.

use super::*;
use tidegate_contract::{FaultSource, Pair};

#[actix_web::test]
async fn an_outcome_in_time_is_the_answer() {
    let bench = Bench::new();
    bench.fake.handle(|job| {
        let mut event = echo(job);
        let outcome = event.outcome.as_mut().unwrap();
        outcome.status = 201;
        outcome.headers = vec![Pair::new("X-Report", "7"), Pair::new("Connection", "close")];
        Some(event)
    });
    let answer = bench
        .post("echo", &[("Prefer", "wait=90")], "{\"a\": 1}")
        .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (201, &b"{\"a\": 1}"[..])
    );
    assert_eq!(answer.header("preference-applied"), "wait=30");
    assert_eq!(
        (answer.header("x-report"), answer.header("connection")),
        ("7", "")
    );
    let id = bench.fake.jobs()[0].job_id;
    assert_eq!(answer.header("tidegate-job-id"), id.to_string());
    let timing = answer.header("server-timing");
    for part in [
        "produce;dur=",
        "queue;dur=",
        "handler;dur=2.000",
        "reply;dur=",
    ] {
        assert!(timing.contains(part), "{timing}");
    }
    assert!(bench.state.waits.is_empty());
    bench.state.tasks.ended().await;
    assert!(
        bench.fake.inserted.lock().unwrap().is_empty(),
        "no row before the outcome"
    );
}

#[actix_web::test]
async fn each_end_without_an_answer_of_its_own_has_its_status() {
    let bench = Bench::new();
    for (kind, status, problem) in [
        (EventKind::Failed, 502, "job-failed"),
        (EventKind::DeadLettered, 502, "job-dead-lettered"),
        (EventKind::Expired, 504, "job-expired"),
        (EventKind::Cancelled, 409, "job-cancelled"),
    ] {
        bench.fake.handle(move |job| {
            let error = JobError {
                code: "why".into(),
                message: "because".into(),
                source: FaultSource::Worker,
                retryable: false,
                retry_after_ms: None,
                details: None,
                attempts: None,
            };
            Some(ended_with(job, kind, error))
        });
        let answer = bench.post("echo", &[], "{}").await;
        let doc = answer.problem(status, problem);
        assert_eq!(
            (&doc["code"], &doc["source"]),
            (&"why".into(), &"worker".into())
        );
        assert_eq!(doc["jobId"], answer.header("tidegate-job-id"));
        assert_eq!(doc["error"]["message"], "because");
    }
}

#[actix_web::test]
async fn a_failure_with_an_answer_of_its_own_gives_that() {
    let bench = Bench::new();
    bench.fake.handle(|job| {
        let mut event = JobEvent {
            outcome: echo(job).outcome,
            ..end(job, EventKind::Failed)
        };
        event.outcome.as_mut().unwrap().status = 422;
        Some(event)
    });
    let answer = bench.post("echo", &[], "{\"bad\":1}").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (422, &b"{\"bad\":1}"[..])
    );
    bench.fake.handle(|job| {
        let mut event = echo(job);
        event.outcome.as_mut().unwrap().status = 42;
        Some(event)
    });
    let doc = bench
        .post("echo", &[], "{}")
        .await
        .problem(502, "bad-outcome");
    assert_eq!(doc["source"], "worker");
}

fn soon() -> GatewaySettings {
    GatewaySettings {
        max_wait: Duration::from_millis(30),
        ..GatewaySettings::default()
    }
}

#[actix_web::test]
async fn a_wait_that_runs_out_is_202_with_the_cause_and_a_readable_status() {
    let bench = Bench::with(soon(), AuthSettings::default());
    bench.fake.handle(|_| None);
    *bench.fake.workers.lock().unwrap() = Some(0);
    let answer = bench.post("echo", &[], "{}").await;
    assert_eq!(answer.status, 202);
    let doc = answer.json();
    assert_eq!(doc["status"], "pending");
    assert_eq!(
        doc["reason"],
        "no worker is connected for pool default, tier normal"
    );
    let url = doc["statusUrl"].as_str().unwrap();
    assert_eq!(
        (answer.header("location"), answer.header("retry-after")),
        (url, "1")
    );
    assert!(answer.header("server-timing").starts_with("produce;dur="));
    let status = bench.get(url).await;
    assert_eq!(status.json()["status"], "pending");
    assert_eq!(status.header("retry-after"), "1");
    assert!(bench.state.waits.is_empty());

    *bench.fake.workers.lock().unwrap() = Some(2);
    let doc = bench.post("echo", &[], "{}").await.json();
    assert_eq!(doc["reason"], "no worker has started this job yet");
    let text = String::from_utf8(bench.get("/metrics").await.body.to_vec()).unwrap();
    assert!(
        text.contains("tidegate_waits_ended_total{reason=\"timeout\"} 2"),
        "{text}"
    );
    assert!(text.contains("tidegate_waits_open 0"), "{text}");
}

#[actix_web::test]
async fn an_outcome_at_the_last_moment_is_still_the_answer() {
    let bench = Bench::with(soon(), AuthSettings::default());
    bench.fake.handle(|_| None);
    let (fake, waits) = (bench.fake.clone(), bench.state.waits.clone());
    let answering = tokio::spawn(async move {
        // As soon as the row is made, which the end of the wait asks for.
        until("row", || !fake.inserted.lock().unwrap().is_empty()).await;
        let job = fake.jobs().remove(0);
        waits.complete(Arc::new(echo(&job)), Instant::now())
    });
    let answer = bench.post("echo", &[], "{\"late\":1}").await;
    // Either is right; what must not be is an outcome that nobody gets and a status that nobody finds.
    let served = answering.await.unwrap();
    assert_eq!(answer.status.as_u16(), if served { 200 } else { 202 });
}

#[actix_web::test]
async fn preferences_choose_between_waiting_and_202() {
    let bench = Bench::new();
    for (job_type, prefer, status, applied) in [
        ("echo", "respond-async", 202, "respond-async"),
        ("echo", "wait=0", 202, "wait=0"),
        ("later", "wait=5", 200, "wait=5"),
        (
            "later",
            "respond-async, wait=5",
            200,
            "respond-async, wait=5",
        ),
        ("later", "unknown-preference", 202, ""),
        ("echo", "", 200, ""),
    ] {
        let answer = bench.post(job_type, &[("Prefer", prefer)], "{}").await;
        let got = (answer.status.as_u16(), answer.header("preference-applied"));
        assert_eq!(got, (status, applied), "{job_type} {prefer}");
    }
}

#[actix_web::test]
async fn a_long_wait_makes_the_row_that_others_see() {
    let settings = GatewaySettings {
        row_after: Duration::from_millis(10),
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    bench.fake.handle(|_| None);
    let (fake, waits) = (bench.fake.clone(), bench.state.waits.clone());
    let answering = tokio::spawn(async move {
        until("row", || !fake.inserted.lock().unwrap().is_empty()).await;
        let job = fake.jobs().remove(0);
        assert!(waits.complete(Arc::new(echo(&job)), Instant::now()));
    });
    let answer = bench.post("echo", &[], "{}").await;
    answering.await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(bench.fake.inserted.lock().unwrap().len(), 1);
}

#[actix_web::test]
async fn more_waits_than_allowed_become_202_at_once() {
    let settings = GatewaySettings {
        max_waits: 0,
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    let answer = bench.post("echo", &[], "{}").await;
    assert_eq!(answer.status, 202);
    assert!(answer.json()["reason"].as_str().unwrap().contains("limit"));
}

#[actix_web::test]
async fn a_stop_refuses_jobs_and_turns_waits_into_202() {
    let bench = Bench::new();
    bench.fake.handle(|_| None);
    let stop = bench.state.stop.clone();
    let waits = bench.state.waits.clone();
    let stopping = tokio::spawn(async move {
        until("wait", || waits.len() == 1).await;
        stop.intake.cancel();
        stop.waits.cancel();
    });
    let answer = bench.post("echo", &[], "{}").await;
    stopping.await.unwrap();
    assert_eq!(answer.status, 202);
    assert!(
        answer.json()["reason"]
            .as_str()
            .unwrap()
            .contains("shutting down")
    );
    let refused = bench.post("echo", &[], "{}").await;
    assert_eq!(refused.problem(503, "shutting-down")["repeatSafe"], true);
}
