//! Bad input, and input that is right.

use super::*;
use crate::settings::ApiKey;
use sha2::{Digest, Sha256};
use tidegate_contract::Secret;

#[actix_web::test]
async fn unknown_types_and_routes_are_named_with_the_nearest() {
    let bench = Bench::new();
    let doc = bench
        .post("ecoh", &[], "{}")
        .await
        .problem(404, "unknown-job-type");
    assert_eq!(
        (&doc["given"], &doc["nearest"]),
        (&"ecoh".into(), &"echo".into())
    );
    assert_eq!(doc["source"], "client");
    let doc = bench.post("Not%20A%20Name", &[], "{}").await;
    assert_eq!(doc.status, 404);
    let doc = bench
        .get("/shop/3/report")
        .await
        .problem(404, "unknown-route");
    assert_eq!(doc["nearest"], "/shops/{shop}/report");
    assert!(doc["detail"].as_str().unwrap().contains("/shop/3/report"));
    assert_eq!(bench.get("/v1/dead-letter").await.status, 404);
}

#[actix_web::test]
async fn another_method_is_told_which_ones_there_are() {
    let bench = Bench::new();
    for (request, allow) in [
        (TestRequest::put().uri("/v1/jobs/echo"), "GET, POST, DELETE"),
        (TestRequest::post().uri("/v1/jobs"), "GET"),
        (TestRequest::post().uri("/v1/jobs/x/result"), "GET"),
        (TestRequest::get().uri("/v1/jobs/x/cancel"), "POST"),
        (TestRequest::get().uri("/shops/3/report"), "POST"),
        (TestRequest::post().uri("/jobs/3"), "GET"),
        (TestRequest::post().uri("/openapi.json"), "GET"),
    ] {
        let answer = bench.ask(request).await;
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow);
    }
}

#[actix_web::test]
async fn malformed_headers_are_named_with_what_is_allowed() {
    let bench = Bench::new();
    for (name, value, allowed) in [
        ("Prefer", "wait=soon", "respond-async"),
        ("Prefer", "wait", "wait=N"),
        ("Tidegate-Priority", "urgent", "normal"),
        ("Tidegate-Deadline", "yesterday", "RFC 3339"),
        ("Tidegate-Deadline", "2001-01-01T00:00:00Z", "7days"),
        ("Idempotency-Key", "two words", "1 to 255"),
    ] {
        let answer = bench.post("echo", &[(name, value)], "{}").await;
        let doc = answer.problem(400, "malformed-header");
        assert_eq!(doc["header"], name);
        assert!(doc["allowed"].as_str().unwrap().contains(allowed), "{doc}");
        assert!(doc["detail"].as_str().unwrap().contains(name), "{doc}");
    }
    let doc = bench
        .post("echo", &[("Tidegate-Priority", "high")], "{}")
        .await;
    assert_eq!(doc.problem(403, "tier-not-allowed")["allowed"], "normal");
    for name in ["Tidegate-Cron", "Tidegate-Stream"] {
        let doc = bench.post("echo", &[(name, "x")], "{}").await;
        let doc = doc.problem(400, "unsupported-option");
        assert_eq!(doc["header"], name.to_lowercase());
    }
    assert!(bench.fake.jobs().is_empty());
}

#[actix_web::test]
async fn a_body_that_is_not_json_is_placed() {
    let bench = Bench::new();
    let doc = bench
        .post("echo", &[], "{\"a\":1,\n \"secret\": nope}")
        .await;
    let doc = doc.problem(400, "not-json");
    assert_eq!((&doc["line"], &doc["column"]), (&2.into(), &13.into()));
    assert!(
        !doc.to_string().contains("secret"),
        "a body never comes back: {doc}"
    );
    let doc = bench.post("echo", &[], "").await.problem(400, "not-json");
    assert_eq!((&doc["line"], &doc["column"]), (&1.into(), &0.into()));
    assert_eq!(bench.post("later", &[], "not json").await.status, 202);
    let gzip = bench
        .post("echo", &[("Content-Encoding", "gzip")], "{}")
        .await;
    gzip.problem(415, "content-encoding");
}

#[actix_web::test]
async fn a_job_carries_what_its_type_lets_through() {
    let bench = Bench::new();
    let request = TestRequest::post()
        .uri("/shops/42/report?from=2025-01&to=2025-02&to=x%20y")
        .insert_header(("Accept", "text/csv"))
        .insert_header(("Authorization", "Basic x"))
        .insert_header(("Cookie", "c=1"))
        .insert_header(("Content-Type", "text/plain"))
        .insert_header(("Tidegate-Priority", "high"))
        .insert_header(("Tidegate-Deadline", "1h"))
        .set_payload("a body");
    let answer = bench.ask(request).await;
    assert_eq!(answer.status, 202);
    let [job] = &bench.fake.jobs()[..] else {
        panic!("one job")
    };
    assert_eq!(answer.json()["statusUrl"], format!("/jobs/{}", job.job_id));
    assert_eq!(
        (job.request.method.as_str(), job.request.path.as_str()),
        ("POST", "/shops/42/report")
    );
    assert_eq!(job.request.path_params["shop"], "42");
    let query: Vec<_> = job
        .request
        .query
        .iter()
        .map(|p| (p.name.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(
        query,
        [("from", "2025-01"), ("to", "2025-02"), ("to", "x y")]
    );
    let names: Vec<_> = job
        .request
        .headers
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["accept", "authorization"]);
    assert_eq!(
        (job.tier, job.reply_partition, job.attempt),
        (Tier::High, HOME, 1)
    );
    assert_eq!(job.content_type.as_deref(), Some("text/plain"));
    assert!((job.deadline - job.created_at - 3_600_000).abs() < 1_000);
    assert_eq!(&job.body[..], b"a body");
    let sent = bench.fake.sent.lock().unwrap();
    assert_eq!(sent[0].topic, "t.jobs.high");
    assert_eq!(sent[0].key, job.job_id.to_string());
    assert_eq!(sent[0].headers.get("job-type"), Some("later"));
}

#[actix_web::test]
async fn json_has_its_media_type_whatever_the_client_calls_it() {
    let bench = Bench::new();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let answer = bench.post("echo", &[form], "{\"a\":1}").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let own = ("Content-Type", "application/vnd.shop+json; v=1");
    let answer = bench.post("echo", &[own], "{}").await;
    assert_eq!(answer.header("content-type"), own.1);
}

#[actix_web::test]
async fn keys_have_tenants_and_tenants_do_not_see_each_other() {
    let key = |tenant: &str, key: &str| ApiKey {
        name: tenant.into(),
        tenant: tenant.parse().unwrap(),
        sha256: Secret::new(format!("{:x}", Sha256::digest(key.as_bytes()))),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key("acme", "k1"), key("other", "k2")],
    };
    let bench = Bench::with(GatewaySettings::default(), auth);
    let answer = bench.post("later", &[], "x").await;
    answer.problem(401, "unauthenticated");
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"tidegate\""
    );
    let answer = bench.post("later", &[("X-Api-Key", "k3")], "x").await;
    assert!(
        !answer
            .problem(401, "unauthenticated")
            .to_string()
            .contains("k3")
    );
    let answer = bench
        .post("later", &[("Authorization", "Bearer k1")], "x")
        .await;
    assert_eq!(answer.status, 202);
    let [job] = &bench.fake.jobs()[..] else {
        panic!("one job")
    };
    assert_eq!(job.tenant.as_str(), "acme");
    assert!(job.request.headers.is_empty(), "the key stays here");
    let status = |key: &'static str| {
        TestRequest::get()
            .uri(&format!("/v1/jobs/{}", job.job_id))
            .insert_header(("X-Api-Key", key))
    };
    assert_eq!(bench.ask(status("k1")).await.status, 200);
    bench.ask(status("k2")).await.problem(404, "unknown-job");
    for path in ["/healthz", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(bench.get(path).await.status, 200, "{path}");
    }
}

#[actix_web::test]
async fn the_pages_ask_no_other_host() {
    let bench = Bench::new();
    let redirect = bench.get("/docs").await;
    assert_eq!(
        (redirect.status.as_u16(), redirect.header("location")),
        (308, "docs/")
    );
    for path in ["/docs/", "/docs/swagger-initializer.js", "/docs/index.css"] {
        let answer = bench.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(
            !text.contains("//cdn") && !text.contains("https://"),
            "{path}: {text}"
        );
    }
    let start = bench.get("/docs/swagger-initializer.js").await;
    let text = String::from_utf8(start.body.to_vec()).unwrap();
    assert!(text.contains("\"validatorUrl\": \"none\"") && text.contains("../openapi.json"));
    bench
        .get("/docs/nothing.js")
        .await
        .problem(404, "unknown-route");
    assert_eq!(
        bench.get("/openapi.json").await.json()["openapi"]
            .as_str()
            .map(|v| &v[..2]),
        Some("3.")
    );
}

#[actix_web::test]
async fn a_tenant_with_too_many_unfinished_jobs_is_told_how_many() {
    let settings = GatewaySettings {
        tenant_backlog: 100,
        ..GatewaySettings::default()
    };
    let bench = Bench::with(settings, AuthSettings::default());
    assert_eq!(bench.post("echo", &[], "1").await.status, 200, "not known");
    *bench.fake.unfinished.lock().unwrap() = Some(99);
    assert_eq!(bench.post("echo", &[], "1").await.status, 200);
    *bench.fake.unfinished.lock().unwrap() = Some(100);
    let doc = bench.post("echo", &[], "1").await;
    let doc = doc.problem(429, "tenant-backlog");
    assert_eq!(
        (&doc["unfinished"], &doc["limit"]),
        (&100.into(), &100.into())
    );
    assert_eq!(
        (&doc["source"], &doc["repeatSafe"]),
        (&"client".into(), &true.into())
    );
    assert_eq!(bench.fake.jobs().len(), 2);

    let unlimited = Bench::new();
    *unlimited.fake.unfinished.lock().unwrap() = Some(u64::MAX);
    assert_eq!(unlimited.post("echo", &[], "1").await.status, 200);
}
