//! Submits under an idempotency key.

use super::*;
use crate::settings::ApiKey;
use futures::future::join_all;
use sha2::{Digest, Sha256};
use tidegate_contract::Secret;

const KEY: (&str, &str) = ("Idempotency-Key", "order-7");

/// The job of a key ends, and its row shows it.
fn end_row(bench: &Bench, id: JobId, event: &JobEvent) {
    let mut found = bench.fake.found.lock().unwrap();
    let row = found.get(&id).cloned().and_then(Lookup::row);
    let mut row = row.expect("a row");
    row.status = Status::Completed;
    row.ended_at = Some(event.at);
    row.attempt = 1;
    row.outcome = event.outcome.clone();
    found.insert(id, Lookup::Row(Box::new(row)));
}

async fn metric(bench: &Bench, result: &str) -> String {
    let text = String::from_utf8(bench.get("/metrics").await.body.to_vec()).unwrap();
    let name = format!("tidegate_keyed_submits_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or("0").to_owned()
}

#[actix_web::test]
async fn twenty_requests_with_one_key_are_one_job_and_twenty_same_answers() {
    let bench = Bench::new();
    // Nobody answers until all are there.
    bench.fake.handle(|_| None);
    let (fake, state) = (bench.fake.clone(), bench.state.clone());
    let answering = tokio::spawn(async move {
        until("everybody waits", || {
            (state.waits.len(), state.watcher.len()) == (1, 19)
        })
        .await;
        let job = fake.jobs().remove(0);
        let event = echo(&job);
        until("a row", || {
            fake.found.lock().unwrap().contains_key(&job.job_id)
        })
        .await;
        (job.job_id, event)
    });
    let requests = (0..20).map(|_| bench.post("echo", &[KEY], "{\"n\":1}"));
    let ending = async {
        let (id, event) = answering.await.unwrap();
        end_row(&bench, id, &event);
        assert!(bench.state.waits.complete(Arc::new(event), Instant::now()));
        id
    };
    let (answers, id) = tokio::join!(join_all(requests), ending);
    for answer in &answers {
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"{\"n\":1}"[..])
        );
        assert_eq!(answer.header("tidegate-job-id"), id.to_string());
        assert_eq!(answer.header("content-type"), "application/json");
    }
    assert_eq!(bench.fake.jobs().len(), 1);
    assert_eq!(
        (
            metric(&bench, "first").await,
            metric(&bench, "joined").await
        ),
        ("1".into(), "19".into())
    );
    // And long after that, waiting or not.
    let again = bench.post("echo", &[KEY], "{\"n\":1}").await;
    assert_eq!(again.body, answers[0].body);
    let later = bench
        .post("echo", &[KEY, ("Prefer", "respond-async")], "{\"n\":1}")
        .await;
    assert_eq!(
        (later.status.as_u16(), later.json()["jobId"].as_str()),
        (202, Some(&id.to_string()[..]))
    );
    assert_eq!(bench.fake.jobs().len(), 1);
    until("nobody watches", || bench.state.watcher.len() == 0).await;
}

#[actix_web::test]
async fn another_request_under_the_key_is_refused_and_another_tenants_is_not() {
    let key = |tenant: &str| ApiKey {
        name: tenant.into(),
        tenant: tenant.parse().unwrap(),
        sha256: Secret::new(format!("{:x}", Sha256::digest(tenant.as_bytes()))),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key("acme"), key("other")],
    };
    let bench = Bench::with(GatewaySettings::default(), auth);
    let acme = ("X-Api-Key", "acme");
    assert_eq!(bench.post("later", &[acme, KEY], "x").await.status, 202);
    for (job_type, extra, body) in [
        ("later", ("x-nothing", ""), "y"),
        ("later", ("Tidegate-Priority", "high"), "x"),
        ("later", ("Tidegate-Deadline", "1h"), "x"),
        ("later", ("Accept", "text/csv"), "x"),
        ("echo", ("x-nothing", ""), "1"),
    ] {
        let answer = bench.post(job_type, &[acme, KEY, extra], body).await;
        let doc = answer.problem(422, "idempotency-key-reused");
        assert_eq!(doc["source"], "client");
        assert!(
            !doc.to_string().contains("order-7"),
            "a key is not told: {doc}"
        );
    }
    assert_eq!(metric(&bench, "conflict").await, "5");
    let other = bench
        .post("later", &[("X-Api-Key", "other"), KEY], "y")
        .await;
    assert_eq!(other.status, 202);
    assert_eq!(bench.fake.jobs().len(), 2);
}

#[actix_web::test]
async fn without_the_store_there_is_no_telling_and_no_job() {
    let bench = Bench::new();
    bench.fake.store_away.store(true, Ordering::Relaxed);
    let doc = bench
        .post("echo", &[KEY], "{}")
        .await
        .problem(503, "store-unavailable");
    assert_eq!(
        (&doc["source"], &doc["repeatSafe"]),
        (&"store".into(), &true.into())
    );
    assert!(bench.fake.jobs().is_empty() && bench.state.waits.is_empty());
    assert_eq!(bench.post("echo", &[], "{}").await.status, 200);
}

#[actix_web::test]
async fn a_job_that_was_certainly_not_written_leaves_its_key_free() {
    let bench = Bench::new();
    for at_once in [true, false] {
        let slot = match at_once {
            true => &bench.fake.refuse_at_once,
            false => &bench.fake.refuse_later,
        };
        for error in [
            ProduceError::QueueFull,
            ProduceError::TooLarge { bytes: 9, limit: 8 },
            ProduceError::Refused("no".into()),
        ] {
            *slot.lock().unwrap() = Some(error);
            assert!(bench.post("echo", &[KEY], "{}").await.status.as_u16() >= 413);
            assert!(bench.fake.keys.lock().unwrap().is_empty());
        }
        *slot.lock().unwrap() = None;
    }
    // Another request may have it now.
    assert_eq!(
        bench.post("echo", &[KEY], "{\"other\":1}").await.status,
        200
    );
}

#[actix_web::test]
async fn a_job_that_may_have_been_written_is_written_again_as_it_was() {
    let bench = Bench::new();
    *bench.fake.refuse_later.lock().unwrap() = Some(ProduceError::Unknown("timed out".into()));
    let headers = [KEY, ("Tidegate-Deadline", "1h")];
    let answer = bench.post("later", &headers, "x").await;
    let doc = answer.problem(503, "outcome-unknown");
    assert_eq!(doc["repeatSafe"], true, "{doc}");
    assert!(
        doc["detail"].as_str().unwrap().contains("same key"),
        "{doc}"
    );
    *bench.fake.refuse_later.lock().unwrap() = None;
    let first = bench
        .fake
        .keys
        .lock()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .clone();
    assert_eq!(first.reserved_at, 0, "nobody is at it any more");
    let again = bench.post("later", &headers, "x").await;
    assert_eq!(again.json()["jobId"], doc["jobId"]);
    let [job] = &bench.fake.jobs()[..] else {
        panic!("one job")
    };
    let kept = &first.wanted.job;
    assert_eq!(
        (
            job.job_id,
            job.created_at,
            job.deadline,
            job.reply_partition
        ),
        (
            kept.id,
            kept.created_at,
            kept.deadline,
            kept.reply_partition
        )
    );
    assert_eq!(metric(&bench, "again").await, "1");
}

/// What a gateway leaves that was killed between key and produce.
#[actix_web::test]
async fn a_reservation_that_was_left_behind_is_taken_over_when_its_time_is_up() {
    let bench = Bench::new();
    *bench.fake.refuse_later.lock().unwrap() = Some(ProduceError::Unknown("died".into()));
    bench
        .post("echo", &[KEY], "{}")
        .await
        .problem(503, "outcome-unknown");
    *bench.fake.refuse_later.lock().unwrap() = None;
    let begun = Instant::now();
    let id = {
        let mut keys = bench.fake.keys.lock().unwrap();
        let key = keys.values_mut().next().unwrap();
        key.reserved_at = now_millis();
        key.wanted.job.id
    };
    // The job ends as soon as it is there; by the store, like any that was joined.
    bench.fake.handle(|_| None);
    let fake = bench.fake.clone();
    let waiting = async {
        let answers = join_all((0..5).map(|_| bench.post("echo", &[KEY], "{}"))).await;
        (begun.elapsed(), answers)
    };
    let ending = async {
        until("a row", || fake.found.lock().unwrap().contains_key(&id)).await;
        let job = fake.jobs().remove(0);
        end_row(&bench, id, &echo(&job));
    };
    let ((took, answers), ()) = tokio::join!(waiting, ending);
    let until = LEASE - Duration::from_millis(1); // the clock of leases has whole milliseconds
    assert!(took >= until, "nobody was in a hurry: {took:?}");
    for answer in answers {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("tidegate-job-id"), id.to_string());
    }
    assert_eq!(bench.fake.jobs().len(), 1);
}

#[actix_web::test]
async fn a_joined_wait_that_runs_out_is_202_like_any() {
    let settings = GatewaySettings {
        max_wait: Duration::from_millis(50),
        ..GatewaySettings::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    bench.fake.handle(|_| None);
    let first = bench.post("echo", &[KEY], "{}").await;
    let second = bench.post("echo", &[KEY], "{}").await;
    for answer in [&first, &second] {
        assert_eq!(answer.status, 202);
        assert!(answer.json()["reason"].is_string());
        assert_eq!(
            answer.header("preference-applied"),
            first.header("preference-applied")
        );
    }
    assert_eq!(first.json()["jobId"], second.json()["jobId"]);
    assert_eq!(bench.state.watcher.len(), 0);
}
