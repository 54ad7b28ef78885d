//! Statuses and results.

use super::*;
use tidegate_contract::{FaultSource, Progress};

/// Submits a job and gives its id and row.
async fn submitted(bench: &Bench) -> (JobId, JobRow) {
    let answer = bench.post("later", &[], "x").await;
    let id: JobId = answer.json()["jobId"].as_str().unwrap().parse().unwrap();
    let row = bench.fake.found.lock().unwrap()[&id].clone().row().unwrap();
    (id, row)
}

fn put(bench: &Bench, row: &JobRow) {
    bench
        .fake
        .found
        .lock()
        .unwrap()
        .insert(row.id, Lookup::Row(Box::new(row.clone())));
}

fn completed(mut row: JobRow, content_type: &str, body: impl Into<Bytes>) -> JobRow {
    row.status = Status::Completed;
    row.attempt = 1;
    row.ended_at = Some(row.updated_at + 5);
    row.outcome = Some(Outcome {
        status: 201,
        content_type: Some(content_type.into()),
        headers: vec![],
        body: body.into(),
    });
    row
}

#[actix_web::test]
async fn ids_are_malformed_unknown_too_young_or_gone() {
    let bench = Bench::new();
    for path in ["/v1/jobs/nonsense", "/v1/jobs/nonsense/result", "/jobs/7"] {
        bench.get(path).await.problem(400, "malformed-job-id");
    }
    let id = JobId::generate();
    let path = format!("/v1/jobs/{id}");
    let doc = bench.get(&path).await.problem(404, "unknown-job");
    assert_eq!(doc["jobId"], id.to_string());
    bench
        .get(&format!("{path}/result"))
        .await
        .problem(404, "unknown-job");
    for horizon in [None, Some(id.created_at() - 1)] {
        *bench.fake.horizon.lock().unwrap() = horizon;
        bench.get(&path).await.problem(503, "status-behind");
    }
    let purged_of = |tenant: Option<&str>| {
        let tenant = tenant.map(|tenant| tenant.parse().unwrap());
        let status = Status::Completed;
        let gone = Lookup::Tombstone(Tombstone { status, tenant });
        bench.fake.found.lock().unwrap().insert(id, gone);
    };
    purged_of(Some("default"));
    let doc = bench.get(&path).await.problem(410, "job-gone");
    assert_eq!(doc["jobStatus"], "completed");
    // As unknown as a job of somebody else that is still kept, and as one of whoever knows whom.
    for tenant in [Some("acme"), None] {
        purged_of(tenant);
        let doc = bench.get(&path).await.problem(404, "unknown-job");
        assert_eq!(doc.get("jobStatus"), None);
    }
}

#[actix_web::test]
async fn a_status_shows_how_far_a_job_is() {
    let bench = Bench::new();
    let (id, mut row) = submitted(&bench).await;
    row.status = Status::Processing;
    row.attempt = 1;
    row.started_at = Some(row.updated_at);
    row.progress = Some(Progress {
        percent: 40.0,
        message: Some("reading".into()),
        partial: Some(Bytes::from_static(b"{\"rows\":7}")),
    });
    put(&bench, &row);
    let answer = bench.get(&format!("/jobs/{id}")).await;
    let doc = answer.json();
    assert_eq!(doc["status"], "processing");
    assert_eq!(doc["progress"]["partial"]["rows"], 7);
    assert_eq!(
        (&doc["type"], &doc["tier"], &doc["tenant"]),
        (&"later".into(), &"normal".into(), &"default".into())
    );
    assert_eq!(doc["statusUrl"], format!("/jobs/{id}"));
    assert!(doc["result"].is_null() && doc["resultUrl"].is_null());
    assert_eq!(answer.header("retry-after"), "1");
    let tag = answer.header("etag").to_owned();
    let again = |tag: &str| {
        TestRequest::get()
            .uri(&format!("/jobs/{id}"))
            .insert_header(("If-None-Match", tag.to_owned()))
    };
    let same = bench.ask(again(&format!("\"x\", W/{tag}"))).await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    row.attempt = 2;
    put(&bench, &row);
    assert_eq!(bench.ask(again(&tag)).await.status, 200);

    let doc = bench.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(doc.header("retry-after"), "1");
    assert_eq!(doc.problem(409, "not-ended")["jobStatus"], "processing");
}

#[actix_web::test]
async fn a_small_json_result_stands_in_the_status_and_any_at_its_url() {
    let bench = Bench::new();
    let (id, row) = submitted(&bench).await;
    let url = format!("/v1/jobs/{id}/result");
    put(
        &bench,
        &completed(row.clone(), "application/json", "{\"n\": 1.50}"),
    );
    let answer = bench.get(&format!("/v1/jobs/{id}")).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(
        text.contains("\"result\":{\"n\": 1.50}"),
        "as it was written: {text}"
    );
    assert_eq!(
        (
            answer.json()["resultUrl"].as_str(),
            answer.header("retry-after")
        ),
        (Some(&url[..]), "")
    );
    let result = bench.get(&url).await;
    assert_eq!(
        (result.status.as_u16(), &result.body[..]),
        (201, &b"{\"n\": 1.50}"[..])
    );

    let large = format!("\"{}\"", "x".repeat(64 << 10));
    for (content_type, body) in [
        ("text/csv", "a,b"),
        ("application/json", "no json"),
        ("application/json", &large[..]),
    ] {
        put(
            &bench,
            &completed(row.clone(), content_type, body.to_owned()),
        );
        let doc = bench.get(&format!("/v1/jobs/{id}")).await.json();
        assert!(doc["result"].is_null() && doc["resultUrl"] == url, "{doc}");
        let result = bench.get(&url).await;
        assert_eq!(
            (result.header("content-type"), &result.body[..]),
            (content_type, body.as_bytes())
        );
    }
}

#[actix_web::test]
async fn an_end_without_a_result_is_a_problem_there_too() {
    let bench = Bench::new();
    let (id, mut row) = submitted(&bench).await;
    row.status = Status::Failed;
    row.attempt = 1;
    row.ended_at = Some(row.updated_at);
    row.error = Some(JobError {
        code: "panic".into(),
        message: "handler panicked".into(),
        source: FaultSource::Job,
        retryable: false,
        retry_after_ms: None,
        details: Some("not json".into()),
        attempts: None,
    });
    put(&bench, &row);
    let doc = bench.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(
        (&doc["error"]["code"], &doc["error"]["details"]),
        (&"panic".into(), &"not json".into())
    );
    let doc = bench
        .get(&format!("/v1/jobs/{id}/result"))
        .await
        .problem(502, "job-failed");
    assert_eq!(
        (&doc["code"], &doc["jobStatus"]),
        (&"panic".into(), &"failed".into())
    );
}

#[actix_web::test]
async fn a_delayed_job_goes_to_the_ladder_and_is_scheduled() {
    let bench = Bench::new();
    let answer = bench.post("later", &[("Tidegate-Delay", "90s")], "x").await;
    assert_eq!(answer.status, 202);
    let body = answer.json();
    assert_eq!(body["status"], "scheduled");
    let out = bench.fake.sent.lock().unwrap()[0].clone();
    assert_eq!(out.topic, "t.delay.1m");
    assert_eq!(out.headers.target(), Ok(("t.jobs.normal", None)));
    let job: JobMessage = serde_json::from_slice(&out.payload).unwrap();
    let due = job.not_before.unwrap();
    assert_eq!(out.headers.due(), Ok(due));
    assert!((due - job.created_at - 90_000).abs() < 5_000);

    let id = job.job_id;
    let status = bench.get(&format!("/v1/jobs/{id}")).await.json();
    let shown = tidegate_contract::time::rfc3339(due);
    assert_eq!(
        (&status["status"], &status["nextAttemptAt"]),
        (&"scheduled".into(), &shown.into())
    );
}

#[actix_web::test]
async fn a_failed_attempt_is_shown_while_the_next_one_is_waited_for() {
    let bench = Bench::new();
    let (id, mut row) = submitted(&bench).await;
    row.status = Status::Retrying;
    row.attempt = 1;
    row.next_attempt_at = Some(1_738_315_800_000);
    row.error = Some(JobError {
        code: "busy".into(),
        message: "busy".into(),
        source: FaultSource::Job,
        retryable: true,
        retry_after_ms: None,
        details: None,
        attempts: Some(3),
    });
    row.error_attempt = Some(1);
    row.error_at = Some(1_738_315_799_000);
    put(&bench, &row);
    let status = bench.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(status["status"], "retrying");
    assert_eq!(status["nextAttemptAt"], "2025-01-31T09:30:00.000Z");
    let error = &status["error"];
    assert_eq!(
        (&error["attempt"], &error["attempts"]),
        (&1.into(), &3.into())
    );
    assert_eq!(error["at"], "2025-01-31T09:29:59.000Z");

    row.status = Status::DeadLettered;
    row.ended_at = Some(1_738_315_801_000);
    row.next_attempt_at = None;
    row.dead_letter = Some(tidegate_contract::DeadLetterPlace {
        partition: 3,
        offset: 17,
    });
    put(&bench, &row);
    let status = bench.get(&format!("/v1/jobs/{id}")).await.json();
    let place = &status["deadLetter"];
    assert_eq!(
        (&place["partition"], &place["offset"]),
        (&3.into(), &17.into())
    );
}
