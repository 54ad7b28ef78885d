//! Jobs listed and erased.

use super::*;
use crate::settings::ApiKey;
use sha2::{Digest, Sha256};
use tidegate_contract::Secret;

/// A bench for the tenants `shop` and `bank`, whose keys are their names.
fn two_tenants() -> Bench {
    let key = |name: &str| ApiKey {
        name: name.into(),
        tenant: name.parse().unwrap(),
        sha256: Secret::new(format!("{:x}", Sha256::digest(name.as_bytes()))),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key("shop"), key("bank")],
    };
    Bench::with(GatewaySettings::default(), auth)
}

async fn submitted(bench: &Bench, key: &str) -> String {
    let answer = bench.post("later", &[("X-Api-Key", key)], "x").await;
    assert_eq!(answer.status, 202);
    answer.json()["jobId"].as_str().unwrap().to_owned()
}

async fn listed(bench: &Bench, key: &str, query: &str) -> Answer {
    let uri = format!("/v1/jobs{query}");
    let request = TestRequest::get().uri(&uri);
    bench.ask(request.insert_header(("X-Api-Key", key))).await
}

async fn erase(bench: &Bench, key: &str, id: &str) -> Answer {
    let uri = format!("/v1/jobs/{id}");
    let request = TestRequest::delete().uri(&uri);
    bench.ask(request.insert_header(("X-Api-Key", key))).await
}

fn ids(page: &Value) -> Vec<String> {
    let jobs = page["jobs"].as_array().unwrap().iter();
    jobs.map(|job| job["jobId"].as_str().unwrap().to_owned())
        .collect()
}

/// Ends a job in the fake's store.
fn ended(bench: &Bench, id: &str) {
    let id: JobId = id.parse().unwrap();
    let mut found = bench.fake.found.lock().unwrap();
    let mut row = found[&id].clone().row().unwrap();
    row.status = Status::Completed;
    row.ended_at = Some(now_millis());
    found.insert(id, Lookup::Row(Box::new(row)));
}

#[actix_web::test]
async fn a_tenants_jobs_come_newest_first_with_a_cursor_to_the_rest() {
    let bench = two_tenants();
    let mut own = Vec::new();
    for _ in 0..5 {
        own.insert(0, submitted(&bench, "shop").await);
        submitted(&bench, "bank").await;
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    for more in [true, true, false] {
        let answer = listed(&bench, "shop", &query).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "no-store");
        let page = answer.json();
        seen.extend(ids(&page));
        assert_eq!(page["next"].is_string(), more, "{page}");
        let next = page["next"].as_str().unwrap_or_default();
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(seen, own);

    ended(&bench, &own[3]);
    let page = listed(&bench, "shop", "?status=completed,failed").await;
    let job = &page.json()["jobs"][0];
    assert_eq!(ids(&page.json()), own[3..4]);
    let status = bench.ask(
        TestRequest::get()
            .uri(&format!("/v1/jobs/{}", own[3]))
            .insert_header(("X-Api-Key", "shop")),
    );
    // The same words as in its status.
    assert_eq!(*job, status.await.json());
    assert_eq!(
        (&job["type"], &job["tenant"], &job["status"]),
        (&"later".into(), &"shop".into(), &"completed".into())
    );
    assert_eq!(listed(&bench, "nobody", "").await.status, 401);
    assert_eq!(
        ids(&listed(&bench, "bank", "?limit=200").await.json()).len(),
        5
    );
}

#[actix_web::test]
async fn a_list_asks_the_store_for_what_the_query_says() {
    let bench = Bench::new();
    let query = "?type=echo&tier=low&since=2025-01-31T09:30:00Z&until=2025-02-01T00:00:00Z";
    assert_eq!(bench.get(&format!("/v1/jobs{query}")).await.status, 200);
    let asked = bench.fake.listings.lock().unwrap().pop().unwrap();
    let expected = Listing {
        job_type: "echo".parse().ok(),
        tier: Some(Tier::Low),
        since: Some(1_738_315_800_000),
        until: Some(1_738_368_000_000),
        ..Listing::of("default".parse().unwrap(), 50)
    };
    assert_eq!(asked, expected);

    for (query, words) in [
        ("limit=201", "limit must be from 1 to 200"),
        ("status=done", "status `done` is none"),
        ("cursor=x", "cursor is malformed"),
        ("color=red", "`color` is not known"),
    ] {
        let answer = bench.get(&format!("/v1/jobs?{query}")).await;
        let doc = answer.problem(400, "malformed-query");
        assert!(doc["detail"].as_str().unwrap().contains(words), "{doc}");
    }
    bench.fake.store_away.store(true, Ordering::Relaxed);
    bench
        .get("/v1/jobs")
        .await
        .problem(503, "store-unavailable");
}

#[actix_web::test]
async fn an_ended_job_is_erased_once_and_by_its_tenant_only() {
    let bench = two_tenants();
    let (id, other) = (
        submitted(&bench, "shop").await,
        submitted(&bench, "shop").await,
    );
    let doc = erase(&bench, "shop", &id).await.problem(409, "not-ended");
    assert_eq!(doc["jobStatus"], "pending");
    ended(&bench, &id);
    erase(&bench, "bank", &id).await.problem(404, "unknown-job");
    assert_eq!(ids(&listed(&bench, "shop", "").await.json()).len(), 2);

    let answer = erase(&bench, "shop", &id).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    let doc = erase(&bench, "shop", &id).await.problem(410, "job-gone");
    assert_eq!(doc["jobStatus"], "completed");
    erase(&bench, "bank", &id).await.problem(404, "unknown-job");
    assert_eq!(
        ids(&listed(&bench, "shop", "").await.json()),
        std::slice::from_ref(&other)
    );

    erase(&bench, "shop", "7")
        .await
        .problem(400, "malformed-job-id");
    let unknown = JobId::generate().to_string();
    erase(&bench, "shop", &unknown)
        .await
        .problem(404, "unknown-job");
    ended(&bench, &other);
    bench.fake.store_away.store(true, Ordering::Relaxed);
    erase(&bench, "shop", &other)
        .await
        .problem(503, "store-unavailable");
}
