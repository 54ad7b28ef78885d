//! Statuses that are waited for.

use super::watching::{put, step, stored};
use super::*;

async fn poll(bench: &Bench, path: &str, tag: &str) -> Answer {
    let mut request = TestRequest::get().uri(path);
    if !tag.is_empty() {
        request = request.insert_header(("If-None-Match", tag.to_owned()));
    }
    bench.ask(request).await
}

/// Changes the row as soon as a request is held.
async fn once_held(bench: &Bench, mut row: JobRow, kind: EventKind) {
    until("held", || bench.state.watcher.len() == 1).await;
    step(&mut row, kind);
    put(bench, &row);
}

#[actix_web::test]
async fn a_held_request_is_answered_when_the_status_changes() {
    let bench = Bench::new();
    let mut row = stored(&bench);
    let id = row.id;
    let tag = bench.get(&format!("/jobs/{id}")).await;
    let tag = tag.header("etag").to_owned();
    // On a configured route too, with and without a tag.
    for (path, tag) in [
        (format!("/jobs/{id}?wait=30"), tag),
        (format!("/v1/jobs/{id}?wait=30"), String::new()),
    ] {
        let asked = poll(&bench, &path, &tag);
        let (answer, ()) = tokio::join!(asked, once_held(&bench, row.clone(), EventKind::Started));
        step(&mut row, EventKind::Started);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["status"], "processing");
        assert_ne!(answer.header("etag"), tag);
        assert!(!answer.header("retry-after").is_empty());
    }
    let path = format!("/v1/jobs/{id}?wait=30");
    let asked = poll(&bench, &path, "");
    let ending = once_held(&bench, row.clone(), EventKind::Completed);
    let (answer, ()) = tokio::join!(asked, ending);
    assert_eq!(answer.json()["status"], "completed");
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(bench.state.watcher.len(), 0);
}

#[actix_web::test]
async fn what_is_known_already_is_answered_at_once() {
    let bench = Bench::new();
    let mut row = stored(&bench);
    let path = format!("/v1/jobs/{}?wait=30", row.id);
    // Another status than the client knows.
    let answer = poll(&bench, &path, "\"old\"").await;
    assert_eq!(answer.json()["status"], "pending");
    step(&mut row, EventKind::Completed);
    put(&bench, &row);
    let answer = poll(&bench, &path, "").await;
    assert_eq!(answer.json()["status"], "completed");
    // Of an ended job there is nothing to be waited for.
    let tag = answer.header("etag").to_owned();
    assert_eq!(poll(&bench, &path, &tag).await.status, 304);
    let unknown = format!("/v1/jobs/{}?wait=30", JobId::generate());
    bench.get(&unknown).await.problem(404, "unknown-job");
}

#[actix_web::test]
async fn a_wait_that_runs_out_tells_what_there_is() {
    let settings = GatewaySettings {
        max_long_poll: Duration::from_millis(30),
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    let path = format!(
        "/v1/jobs/{}?wait=99999999999999999999999",
        stored(&bench).id
    );
    let answer = poll(&bench, &path, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after")),
        (200, "1")
    );
    let tag = answer.header("etag").to_owned();
    let answer = poll(&bench, &path, &tag).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
    assert_eq!(answer.header("retry-after"), "1");
    // Without room for one more it is answered at once.
    let settings = GatewaySettings {
        max_waits: 0,
        ..Default::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    let path = format!("/v1/jobs/{}?wait=60", stored(&bench).id);
    assert_eq!(poll(&bench, &path, "").await.status, 200);
}

#[actix_web::test]
async fn a_malformed_wait_is_refused() {
    let bench = Bench::new();
    let id = stored(&bench).id;
    for wait in ["", "-1", "soon", "1.5", "1s"] {
        let answer = bench.get(&format!("/v1/jobs/{id}?wait={wait}")).await;
        let doc = answer.problem(400, "malformed-query");
        assert!(doc["detail"].as_str().unwrap().contains("whole seconds"));
    }
    assert_eq!(
        bench.get(&format!("/v1/jobs/{id}?wait=0")).await.status,
        200
    );
}

#[actix_web::test]
async fn a_stop_answers_held_requests() {
    let bench = Bench::new();
    let path = format!("/v1/jobs/{}?wait=60", stored(&bench).id);
    let stopping = async {
        until("held", || bench.state.watcher.len() == 1).await;
        bench.state.stop.intake.cancel();
    };
    let (answer, ()) = tokio::join!(poll(&bench, &path, ""), stopping);
    assert_eq!(answer.json()["status"], "pending");
}

#[actix_web::test]
async fn who_polls_is_told_to_come_back_when_jobs_of_the_type_have_usually_ended() {
    let bench = Bench::new();
    let row = stored(&bench);
    let mut event = end(&a_job("default"), EventKind::Completed);
    event.job.created_at = event.at - 20_000;
    bench.state.usual.learn(&[event]);
    let answer = bench.get(&format!("/v1/jobs/{}", row.id)).await;
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((18..=20).contains(&seconds), "{seconds}");
}

#[actix_web::test]
async fn so_is_who_submits_and_does_not_get_the_end() {
    let settings = GatewaySettings {
        max_wait: Duration::from_millis(50),
        ..GatewaySettings::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    bench.fake.handle(|_| None);
    let mut event = end(&a_job("default"), EventKind::Completed);
    event.job.created_at = event.at - 20_000;
    bench.state.usual.learn(&[event]);
    let key = ("Idempotency-Key", "k");
    let asynchronous = ("Prefer", "respond-async");
    let after = async |headers: &[(&str, &str)], expected: std::ops::RangeInclusive<u64>| {
        let answer = bench.post("echo", headers, "{}").await;
        assert_eq!(answer.status, 202);
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!(expected.contains(&seconds), "{headers:?}: {seconds} s");
    };
    after(&[asynchronous], 18..=20).await;
    after(&[("Prefer", "wait=5")], 18..=20).await;
    after(&[("Tidegate-Delay", "30s"), asynchronous], 48..=50).await;
    // A repeat is told of the first one's age, whether it waits or not.
    after(&[key, asynchronous], 18..=20).await;
    for key in bench.fake.keys.lock().unwrap().values_mut() {
        key.wanted.job.created_at -= 10_000;
    }
    after(&[key, asynchronous], 8..=10).await;
    after(&[key], 8..=10).await;
    // Of another type nothing has been seen.
    let answer = bench.post("later", &[], "{}").await;
    assert_eq!(answer.header("retry-after"), "1");
}
