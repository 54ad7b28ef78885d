//! Job types and tiers, as they are told.

use super::*;
use serde_json::json;

#[actix_web::test]
async fn every_type_is_told_with_its_limits_and_whether_it_is_paused() {
    let bench = Bench::new();
    let pauses = [
        ("echo", Pause::No),
        ("later", Pause::Until(1_738_315_800_000)),
    ];
    let pauses = pauses.map(|(name, pause)| (name.to_owned(), pause));
    bench.fake.pauses.lock().unwrap().extend(pauses);
    let types = bench.get("/v1/job-types").await.json()["types"].clone();
    let retry = json!({
        "attempts": 3, "first": "1s", "factor": 2.0, "cap": "5m", "jitter": 0.2, "retryCodes": [], "finalCodes": [],
        "maxRetryAfter": "1h",
    });
    let expected = json!([
        {
            "type": "echo", "pool": "default", "tier": "normal", "allowedTiers": [], "mode": "wait", "wait": "10s",
            "content": "json", "handler": "echo", "attemptTimeout": "1m", "deadline": "7days", "retry": retry,
            "paused": false,
        },
        {
            "type": "later", "pool": "default", "tier": "normal", "allowedTiers": ["high"], "mode": "async",
            "wait": "10s", "content": "any", "handler": "echo", "attemptTimeout": "1m", "deadline": "7days",
            "retry": retry, "paused": true, "until": "2025-01-31T09:30:00.000Z",
        },
    ]);
    assert_eq!(types, expected);

    // What is not known is not told.
    bench.fake.pauses.lock().unwrap().clear();
    let types = bench.get("/v1/job-types").await.json()["types"].clone();
    for job_type in types.as_array().unwrap() {
        assert!(job_type.as_object().unwrap().contains_key("paused"));
        assert_eq!(
            (&job_type["paused"], &job_type["until"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[actix_web::test]
async fn of_a_handler_only_its_kind_is_told() {
    let bench = Bench::new();
    let mut types = tidegate_contract::JobTypes::clone(&bench.state.types.now());
    let command = HandlerSpec::Command {
        program: vec!["hidden-program".into()],
        env: [("KEY".to_owned(), "hidden-value".to_owned())].into(),
        content_type: String::new(),
    };
    let http = HandlerSpec::Http {
        url: "http://user:hidden@host/".into(),
        max_answer_bytes: 1,
        breaker: Default::default(),
    };
    let mut busy = JobTypeSpec::new(command);
    (busy.max_running, busy.retry.budget) = (4, Some(Duration::from_secs(90)));
    types.insert("busy".parse().unwrap(), busy);
    types.insert("remote".parse().unwrap(), JobTypeSpec::new(http));
    bench.state.types.replace(types);
    let answer = bench.get("/v1/job-types").await;
    assert!(!String::from_utf8_lossy(&answer.body).contains("hidden"));
    let types = answer.json()["types"].clone();
    assert_eq!(
        (&types[0]["type"], &types[0]["handler"]),
        (&"busy".into(), &"command".into())
    );
    assert_eq!(
        (&types[0]["maxRunning"], &types[0]["retry"]["budget"]),
        (&4.into(), &"1m 30s".into())
    );
    assert_eq!(types[3]["handler"], "http");
}

#[actix_web::test]
async fn a_tier_has_the_backlog_of_its_pools_if_all_are_known() {
    let bench = Bench::new();
    let mut types = tidegate_contract::JobTypes::clone(&bench.state.types.now());
    let mut on_gpu = JobTypeSpec::new(HandlerSpec::Echo);
    on_gpu.pool = "gpu".parse().unwrap();
    types.insert("render".parse().unwrap(), on_gpu);
    bench.state.types.replace(types);
    let gpu: Pool = "gpu".parse().unwrap();
    bench.fake.backlogs.lock().unwrap().extend([
        ((Pool::default(), Tier::High), 0),
        ((gpu.clone(), Tier::High), 0),
        ((Pool::default(), Tier::Normal), 3),
        ((gpu, Tier::Normal), 40),
        ((Pool::default(), Tier::Low), 5),
    ]);
    let tier = |tier: &str, sum: Value, default: Value, gpu: Value| {
        let pools = [("default", default), ("gpu", gpu)];
        let pools = pools.map(|(pool, backlog)| json!({ "pool": pool, "backlog": backlog }));
        json!({ "tier": tier, "backlog": sum, "pools": pools })
    };
    let expected = json!({ "tiers": [
        tier("high", 0.into(), 0.into(), 0.into()),
        tier("normal", 43.into(), 3.into(), 40.into()),
        tier("low", Value::Null, 5.into(), Value::Null),
    ] });
    assert_eq!(bench.get("/v1/tiers").await.json(), expected);
}

#[actix_web::test]
async fn both_need_a_key_where_jobs_do() {
    let key = crate::settings::ApiKey {
        name: "shop".into(),
        tenant: "shop".parse().unwrap(),
        sha256: tidegate_contract::Secret::new("0".repeat(64)),
    };
    let auth = AuthSettings {
        enabled: true,
        keys: vec![key],
    };
    let bench = Bench::with(GatewaySettings::default(), auth);
    for path in ["/v1/job-types", "/v1/tiers"] {
        bench.get(path).await.problem(401, "unauthenticated");
    }
}
