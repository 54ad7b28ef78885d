//! Dead letters: looked at, and done again.

use super::*;
use crate::settings::ApiKey;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidegate_contract::{DeadLetter, EmailSpec, FaultSource, Secret};

/// Puts the dead letter of a job into the fake, and its row.
fn bury(bench: &Bench, job: &JobMessage, reason: &str) -> DeadLetterPlace {
    let mut letters = bench.fake.letters.lock().unwrap();
    let place = DeadLetterPlace {
        partition: 0,
        offset: letters.len() as i64,
    };
    let error = JobError {
        code: "busy".into(),
        message: "busy".into(),
        source: FaultSource::Job,
        retryable: true,
        retry_after_ms: None,
        details: None,
        attempts: Some(3),
    };
    let readable = reason != "unreadable-record";
    letters.push(Found {
        place,
        letter: DeadLetter {
            job_id: readable.then_some(job.job_id),
            reason: reason.into(),
            message: "busy: busy".into(),
            at: now_millis(),
            source: "worker-1".into(),
            topic: "t.jobs.normal".into(),
            partition: 1,
            offset: 9,
            attempt: 3,
            key: Some(Bytes::from(job.job_id.to_string())),
            headers: Vec::new(),
            value: Some(serde_json::to_vec(job).unwrap().into()),
            job_type: readable.then(|| job.job_type.to_string()),
            tenant: readable.then(|| job.tenant.to_string()),
            attempts: 3,
            redrives: job.redrives,
            first_error: None,
            last_error: readable.then(|| error.clone()),
            trace_id: None,
        },
        whole: true,
    });
    let new = NewJob {
        id: job.job_id,
        summary: JobSummary::of(job, None),
        reply_partition: 3,
        not_before: None,
    };
    let row = JobRow {
        status: Status::DeadLettered,
        ended_at: Some(now_millis()),
        error: Some(error),
        dead_letter: Some(place),
        ..pending(&new)
    };
    let row = Lookup::Row(Box::new(row));
    bench.fake.found.lock().unwrap().insert(job.job_id, row);
    place
}

/// A job as the gateway made it.
async fn made(bench: &Bench) -> JobMessage {
    let answer = bench.post("later", &[], "x").await;
    assert_eq!(answer.status, 202);
    bench.fake.jobs().pop().unwrap()
}

async fn redrive(bench: &Bench, body: Value) -> Answer {
    let request = TestRequest::post()
        .uri("/v1/dead-letters/redrive")
        .set_payload(body.to_string());
    bench.ask(request).await
}

#[actix_web::test]
async fn a_job_that_is_done_again_tells_whom_the_old_one_told() {
    let bench = Bench::new();
    let email: EmailSpec = serde_json::from_value(json!({ "to": ["ops@example.com"] })).unwrap();
    let mut types = (*bench.state.types.now()).clone();
    for spec in types.values_mut() {
        spec.email = Some(email.clone());
    }
    bench.state.types.replace(types);
    let old = made(&bench).await;
    bury(&bench, &old, "attempts-exhausted");
    let path = format!("/v1/jobs/{}/retry", old.job_id);
    let answer = bench.ask(TestRequest::post().uri(&path)).await;
    assert_eq!(answer.status, 202);
    let new = bench.fake.jobs().pop().unwrap();
    assert_eq!(new.retry_of, Some(old.job_id));
    assert_eq!(new.follow_ups, [email.follow_up()]);
}

#[actix_web::test]
async fn a_failed_job_is_done_again_once_as_a_new_one() {
    let bench = Bench::new();
    let old = made(&bench).await;
    bury(&bench, &old, "attempts-exhausted");
    let path = format!("/v1/jobs/{}/retry", old.job_id);
    let answer = bench.ask(TestRequest::post().uri(&path)).await;
    assert_eq!(answer.status, 202);
    let new = bench.fake.jobs().pop().unwrap();
    assert_eq!(answer.json()["jobId"], new.job_id.to_string());
    assert_eq!(
        (new.retry_of, new.redrives, new.attempt),
        (Some(old.job_id), 1, 1)
    );
    assert_eq!((&new.body, &new.request), (&old.body, &old.request));
    assert!(new.deadline >= old.deadline && new.job_id != old.job_id);
    let status = bench.get(&format!("/v1/jobs/{}", new.job_id)).await.json();
    assert_eq!(status["retryOf"], old.job_id.to_string());

    let again = bench.ask(TestRequest::post().uri(&path)).await;
    let doc = again.problem(409, "already-retried");
    assert_eq!(doc["retriedAs"], new.job_id.to_string());

    // A claim whose job never got into Kafka is taken up again, with the same id.
    {
        let mut retries = bench.fake.retries.lock().unwrap();
        let retry = retries.get_mut(&old.job_id).unwrap();
        (retry.produced, retry.at) = (false, 0);
    }
    let answer = bench.ask(TestRequest::post().uri(&path)).await;
    assert_eq!(answer.json()["jobId"], new.job_id.to_string());
}

#[actix_web::test]
async fn what_cannot_be_done_again_is_told() {
    let bench = Bench::new();
    let job = made(&bench).await;
    let path = format!("/v1/jobs/{}/retry", job.job_id);
    let ask = async || bench.ask(TestRequest::post().uri(&path)).await;
    ask().await.problem(409, "not-ended");
    bury(&bench, &job, "not-retryable");
    bench.fake.letters.lock().unwrap()[0].letter.value = None;
    ask().await.problem(409, "not-retried");
    bench.fake.letters.lock().unwrap().clear();
    ask().await.problem(410, "dead-letter-gone");
    bench
        .get("/v1/dead-letters/0/5")
        .await
        .problem(404, "unknown-dead-letter");
    bench
        .get("/v1/dead-letters/a/b")
        .await
        .problem(404, "unknown-dead-letter");
}

#[actix_web::test]
async fn letters_are_listed_page_by_page_and_shown_with_their_record() {
    let bench = Bench::new();
    for reason in ["attempts-exhausted", "unreadable-record", "not-retryable"] {
        let job = made(&bench).await;
        bury(&bench, &job, reason);
    }
    let first = bench.get("/v1/dead-letters?limit=2").await.json();
    let reasons = |page: &Value| {
        let letters = page["deadLetters"].as_array().unwrap().clone();
        letters
            .iter()
            .map(|l| l["reason"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(&first), ["not-retryable", "unreadable-record"]);
    let cursor = first["cursor"].as_str().unwrap();
    let rest = bench
        .get(&format!("/v1/dead-letters?cursor={cursor}"))
        .await
        .json();
    assert_eq!(reasons(&rest), ["attempts-exhausted"]);
    assert_eq!(rest["cursor"], Value::Null);
    assert_eq!(rest["deadLetters"][0]["error"]["attempts"], 3);
    let filtered = bench
        .get("/v1/dead-letters?type=later&reason=not-retryable")
        .await;
    assert_eq!(reasons(&filtered.json()), ["not-retryable"]);

    let shown = bench.get("/v1/dead-letters/0/2").await.json();
    assert_eq!(shown["record"]["value"]["body"], "x");
    assert_eq!(shown["record"]["offset"], 9);
    for query in ["limit=0", "limit=x", "cursor=x", "since=today", "color=red"] {
        let answer = bench.get(&format!("/v1/dead-letters?{query}")).await;
        answer.problem(400, "malformed-query");
    }
}

#[actix_web::test]
async fn a_redrive_needs_a_filter_and_leaves_what_it_must() {
    let bench = Bench::new();
    let mut jobs = Vec::new();
    for redrives in [0, 5, 0] {
        let mut job = made(&bench).await;
        job.redrives = redrives;
        bury(&bench, &job, "attempts-exhausted");
        jobs.push(job);
    }
    let lost = made(&bench).await;
    bury(&bench, &lost, "unreadable-record");
    redrive(&bench, json!({})).await.problem(400, "redrive-all");
    for bad in [
        json!({"resaon": "x"}),
        json!({"all": true, "rate": 0}),
        json!({"type": "x", "limit": 0}),
    ] {
        redrive(&bench, bad).await.problem(400, "malformed-redrive");
    }
    let none = redrive(&bench, json!({"type": "nothing"})).await.json();
    assert_eq!(none["matched"], 0);
    let before = bench.fake.jobs().len();
    let dry = redrive(&bench, json!({"all": true, "dryRun": true}))
        .await
        .json();
    assert_eq!(
        (&dry["matched"], bench.fake.jobs().len()),
        (&4.into(), before)
    );

    let done = redrive(&bench, json!({"all": true, "rate": 1000}))
        .await
        .json();
    assert_eq!(done["redriven"].as_array().unwrap().len(), 2, "{done}");
    let why = done["skipped"].as_array().unwrap();
    assert!(
        why[0]["why"]
            .as_str()
            .unwrap()
            .contains("could not be read"),
        "{done}"
    );
    assert!(
        why[1]["why"]
            .as_str()
            .unwrap()
            .contains("over the limit of 5"),
        "{done}"
    );
    assert_eq!(bench.fake.jobs().len(), before + 2);

    // A second operator does nothing twice.
    let again = redrive(&bench, json!({"type": "later", "rate": 1000}))
        .await
        .json();
    assert_eq!(again["redriven"], json!([]));
    assert_eq!(bench.fake.jobs().len(), before + 2);
}

#[actix_web::test]
async fn a_tenant_sees_its_own_letters_only() {
    let key = |name: &str| ApiKey {
        name: name.into(),
        tenant: name.parse().unwrap(),
        sha256: Secret::new(
            Sha256::digest(name.as_bytes())
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        ),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key("shop"), key("bank")],
    };
    let bench = Bench::with(GatewaySettings::default(), auth);
    let answer = bench.post("later", &[("X-Api-Key", "shop")], "x").await;
    assert_eq!(answer.status, 202);
    let job = bench.fake.jobs().pop().unwrap();
    bury(&bench, &job, "attempts-exhausted");
    bury(&bench, &job, "unreadable-record");
    let listed = async |key: &str, path: &str| {
        let request = TestRequest::get()
            .uri(path)
            .insert_header(("X-Api-Key", key));
        bench.ask(request).await
    };
    let of = async |key: &str, path: &str| {
        listed(key, path).await.json()["deadLetters"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(of("shop", "/v1/dead-letters").await, 1);
    assert_eq!(of("bank", "/v1/dead-letters?tenant=shop").await, 0);
    assert_eq!(listed("bank", "/v1/dead-letters/0/0").await.status, 404);
    assert_eq!(listed("shop", "/v1/dead-letters/0/0").await.status, 200);
    let path = format!("/v1/jobs/{}/retry", job.job_id);
    let request = TestRequest::post()
        .uri(&path)
        .insert_header(("X-Api-Key", "bank"));
    bench.ask(request).await.problem(404, "unknown-job");
}
