//! What became of callbacks and e-mails, and sending them again.

use super::callbacks::{PUBLIC, spec};
use super::*;
use crate::settings::ApiKey;
use actix_web::test::TestRequest;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidegate_contract::{FollowUpKind, FollowUpSpec, Secret, Tenant};
use tidegate_store::{Attempt, EndpointRow, FollowUp, FollowUpState, endpoint_key};

/// A row of a job with a callback that was given up.
fn given_up(bench: &Bench, tenant: &str) -> JobId {
    let job = JobMessage {
        follow_ups: vec![spec(PUBLIC, "")],
        ..a_job(tenant)
    };
    let mut row = pending(&NewJob {
        id: job.job_id,
        summary: JobSummary::of(&job, None),
        reply_partition: HOME,
        not_before: None,
    });
    row.status = Status::Completed;
    row.ended_at = Some(1_000);
    let tenant = row.summary.tenant.clone();
    let follow_up = FollowUp {
        job: job.job_id,
        kind: FollowUpKind::Callback,
        endpoint: endpoint_key(&tenant, PUBLIC),
        tenant,
        target: PUBLIC.to_owned(),
        trace: None,
        created_at: 1_000,
        state: FollowUpState::Failed,
        due_at: 2_000,
        attempts: 1,
        number: 1,
        settled_at: Some(2_000),
        reason: Some("410 Gone".to_owned()),
    };
    let attempt = Attempt {
        number: 1,
        at: 1_500,
        duration: 500,
        status: Some(410),
        error: None,
        excerpt: "gone".to_owned(),
    };
    let fake = &bench.fake;
    fake.put(Lookup::Row(Box::new(row)), job.job_id);
    let mut follow_ups = fake.follow_ups.lock().unwrap();
    follow_ups.push((follow_up, vec![attempt]));
    job.job_id
}

fn keys() -> AuthSettings {
    let key = |tenant: &str| ApiKey {
        name: tenant.to_owned(),
        tenant: tenant.parse().unwrap(),
        sha256: Secret::new(format!("{:x}", Sha256::digest(tenant.as_bytes()))),
    };
    AuthSettings {
        enabled: true,
        keys: vec![key("acme"), key("umbrella")],
    }
}

fn as_tenant(tenant: &str, request: TestRequest) -> TestRequest {
    request.append_header(("x-api-key", tenant))
}

#[actix_web::test]
async fn what_became_of_a_callback_is_shown_and_sent_again() {
    let bench = Bench::with(GatewaySettings::default(), keys());
    let id = given_up(&bench, "acme");
    let path = format!("/v1/jobs/{id}/callbacks");
    let get = || TestRequest::get().uri(&path);
    let resend = || TestRequest::post().uri(&format!("/v1/jobs/{id}/callbacks/resend"));
    bench.ask(get()).await.problem(401, "unauthenticated");
    for request in [get(), resend()] {
        let theirs = bench.ask(as_tenant("umbrella", request)).await;
        theirs.problem(404, "unknown-job");
    }
    let doc = bench.ask(as_tenant("acme", get())).await.json();
    assert_eq!(doc["asked"][0]["target"], PUBLIC);
    let shown = &doc["callbacks"][0];
    assert_eq!(
        (&shown["state"], &shown["reason"], &shown["nextAttemptAt"]),
        (&json!("failed"), &json!("410 Gone"), &Value::Null)
    );
    let attempt = json!({
        "number": 1, "at": "1970-01-01T00:00:01.500Z", "durationMs": 500, "status": 410, "error": null, "answer": "gone",
    });
    assert_eq!(shown["attempts"], json!([attempt]));
    let answer = bench.ask(as_tenant("acme", resend())).await;
    assert_eq!(answer.status, 202);
    let doc = bench.ask(as_tenant("acme", get())).await.json();
    assert_eq!(doc["callbacks"][0]["state"], "pending");
    assert!(doc["callbacks"][0]["nextAttemptAt"].is_string(), "{doc}");
}

#[actix_web::test]
async fn of_an_e_mail_neither_addresses_nor_the_words_of_the_server_are_shown() {
    let bench = Bench::new();
    let id = given_up(&bench, "default");
    let found = bench.fake.found.lock().unwrap().remove(&id);
    let mut job = found.and_then(Lookup::row).unwrap();
    let address = "ops@inside.example".to_owned();
    job.summary.follow_ups = vec![FollowUpSpec::new(
        FollowUpKind::Email,
        address.clone(),
        Default::default(),
    )];
    bench.fake.put(Lookup::Row(Box::new(job)), id);
    for (it, attempts) in bench.fake.follow_ups.lock().unwrap().iter_mut() {
        it.kind = FollowUpKind::Email;
        it.endpoint = endpoint_key(&it.tenant, &address);
        it.target = address.clone();
        it.reason = Some(format!("{address}: 550 no such user"));
        let [attempt] = attempts.as_mut_slice() else {
            panic!("{attempts:?}");
        };
        attempt.status = Some(550);
        attempt.error = Some(address.clone());
        attempt.excerpt = format!("{address}: 550 no such user");
    }
    let path = format!("/v1/jobs/{id}/callbacks");
    let doc = bench.ask(TestRequest::get().uri(&path)).await.json();
    assert_eq!(doc["asked"][0]["kind"], "email");
    let shown = &doc["callbacks"][0];
    assert_eq!(
        (&shown["kind"], &shown["state"]),
        (&json!("email"), &json!("failed"))
    );
    assert_eq!(shown["attempts"][0]["status"], 550);
    assert_eq!(shown["reason"], "the mail server's last reply was 550");
    let text = doc.to_string();
    assert!(
        !text.contains("inside") && !text.contains("no such"),
        "{text}"
    );
}

#[actix_web::test]
async fn only_a_callback_that_there_is_is_sent_again() {
    let bench = Bench::new();
    let id = given_up(&bench, "default");
    let order = |id, body: &'static str| {
        let path = format!("/v1/jobs/{id}/callbacks/resend");
        bench.ask(TestRequest::post().uri(&path).set_payload(body))
    };
    let resend = |id| order(id, "");
    for body in [r#"{"kind":"fax"}"#, r#"{"kinds":[]}"#, "7"] {
        order(id, body).await.problem(400, "malformed-body");
    }
    let email = order(id, r#"{"kind":"email"}"#).await;
    let doc = email.problem(404, "no-callback");
    assert!(doc["detail"].to_string().contains("no e-mail"), "{doc}");
    bench.fake.store_away.store(true, Ordering::SeqCst);
    resend(id).await.problem(503, "store-unavailable");
    bench.fake.store_away.store(false, Ordering::SeqCst);
    bench.fake.follow_ups.lock().unwrap().clear();
    resend(id).await.problem(404, "no-callback");
    resend(JobId::generate()).await.problem(404, "unknown-job");
    let open = a_job("default");
    let row = pending(&NewJob {
        id: open.job_id,
        summary: JobSummary::of(&open, None),
        reply_partition: HOME,
        not_before: None,
    });
    bench.fake.put(Lookup::Row(Box::new(row)), open.job_id);
    resend(open.job_id).await.problem(409, "not-ended");
}

#[actix_web::test]
async fn endpoints_are_listed_and_enabled_by_their_tenant() {
    let bench = Bench::with(GatewaySettings::default(), keys());
    let tenant: Tenant = "acme".parse().unwrap();
    let url = "https://a.example/hook";
    let row = EndpointRow {
        key: endpoint_key(&tenant, url),
        tenant,
        url: url.to_owned(),
        record: "{}".to_owned(),
        ended_at: Some(5_000),
        updated_at: 5_000,
    };
    bench.fake.endpoints.lock().unwrap().push(row);
    let list = || TestRequest::get().uri("/v1/callback-endpoints");
    let theirs = bench.ask(as_tenant("umbrella", list())).await.json();
    assert_eq!(theirs, json!({ "endpoints": [], "next": null }));
    for limit in ["0", "201", "x", ""] {
        let uri = format!("/v1/callback-endpoints?limit={limit}");
        let answer = bench
            .ask(as_tenant("acme", TestRequest::get().uri(&uri)))
            .await;
        answer.problem(400, "malformed-query");
    }
    let ours = bench.ask(as_tenant("acme", list())).await.json();
    assert_eq!(ours["endpoints"][0]["state"], "disabled");
    assert_eq!(ours["endpoints"][0]["endedAt"], "1970-01-01T00:00:05.000Z");
    let enable = |body: Value| {
        let request = TestRequest::post().uri("/v1/callback-endpoints/enable");
        request.set_payload(body.to_string())
    };
    let key = ours["endpoints"][0]["endpoint"].clone();
    for body in [json!({}), json!({ "url": url, "endpoint": key }), json!([])] {
        let answer = bench.ask(as_tenant("acme", enable(body))).await;
        answer.problem(400, "malformed-body");
    }
    let theirs = bench.ask(as_tenant("umbrella", enable(json!({ "endpoint": key }))));
    theirs.await.problem(404, "unknown-endpoint");
    let ours = bench
        .ask(as_tenant("acme", enable(json!({ "url": url }))))
        .await;
    assert_eq!(
        (ours.status.as_u16(), &ours.json()["endpoint"]),
        (200, &key)
    );
    let again = bench.ask(as_tenant("acme", enable(json!({ "endpoint": key }))));
    again.await.problem(404, "unknown-endpoint");
}

#[actix_web::test]
async fn what_was_given_up_since_then_is_recovered() {
    let bench = Bench::with(GatewaySettings::default(), keys());
    for tenant in ["acme", "acme", "umbrella"] {
        given_up(&bench, tenant);
    }
    let recover = |body: Value| {
        let request = TestRequest::post().uri("/v1/callbacks/recover");
        bench.ask(as_tenant("acme", request.set_payload(body.to_string())))
    };
    for body in [json!({}), json!({ "since": "yesterday" })] {
        recover(body).await.problem(400, "malformed-body");
    }
    let since = "1970-01-01T00:00:02.000Z";
    let none = recover(json!({ "since": "1970-01-01T00:00:02.001Z" })).await;
    assert_eq!(none.json()["recovered"], 0);
    let other = recover(json!({ "since": since, "url": "https://b.example/" })).await;
    assert_eq!(other.json()["recovered"], 0);
    let both = recover(json!({ "since": since, "url": PUBLIC })).await;
    assert_eq!(both.json(), json!({ "recovered": 2, "more": false }));
}

#[actix_web::test]
async fn one_kind_is_sent_again_or_all_and_no_address_is_guessed() {
    const ADDRESS: &str = "ops@inside.example";
    let bench = Bench::new();
    let id = given_up(&bench, "default");
    {
        let mut kept = bench.fake.follow_ups.lock().unwrap();
        let mut email = kept[0].clone();
        email.0.kind = FollowUpKind::Email;
        email.0.endpoint = endpoint_key(&Tenant::default(), ADDRESS);
        kept.push(email);
    }
    let post = async |path: &str, body: Value| {
        let request = TestRequest::post().uri(path);
        bench.ask(request.set_payload(body.to_string())).await
    };
    let resend = format!("/v1/jobs/{id}/callbacks/resend");
    for (body, kinds) in [
        (json!({ "kind": "email" }), json!(["email"])),
        (json!({ "kind": "callback" }), json!(["callback"])),
        (json!({}), json!(["callback", "email"])),
    ] {
        let doc = post(&resend, body).await.json();
        assert_eq!((&doc["kinds"], &doc["state"]), (&kinds, &json!("pending")));
    }

    let since = "1970-01-01T00:00:00.000Z";
    let recover = async |body: Value| {
        for (it, _) in bench.fake.follow_ups.lock().unwrap().iter_mut() {
            (it.state, it.settled_at) = (FollowUpState::Failed, Some(1_000));
        }
        post("/v1/callbacks/recover", body).await
    };
    for (body, recovered) in [
        (json!({ "since": since }), 2),
        (json!({ "since": since, "kind": "email" }), 1),
        (json!({ "since": since, "kind": "callback" }), 1),
        (json!({ "since": since, "url": PUBLIC }), 1),
        (json!({ "since": since, "url": ADDRESS }), 0),
    ] {
        let doc = recover(body.clone()).await.json();
        assert_eq!(doc["recovered"], recovered, "{body}");
    }
    for body in [
        json!({ "since": since, "kind": "email", "url": ADDRESS }),
        json!({ "since": since, "kind": "fax" }),
    ] {
        recover(body).await.problem(400, "malformed-body");
    }
}
