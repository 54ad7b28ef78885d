//! Asking for callbacks.

use super::*;
use crate::callbacks::{Callbacks, Names};
use serde_json::json;
use std::net::IpAddr;
use tidegate_callbacks::{CallbackSettings, TenantCallbacks};
use tidegate_contract::{CallbackSpec, EmailSpec, FollowUpKind, FollowUpSpec, Secret, Tenant};

const URL: &str = "Tidegate-Callback-Url";
const EVENTS: &str = "Tidegate-Callback-Events";
/// An address needs no name server.
pub const PUBLIC: &str = "https://8.8.8.8/hook?token=1";

fn bench(tune: impl FnOnce(&mut CallbackSettings)) -> Bench {
    let mut settings = CallbackSettings {
        keys: vec![Secret::new("whsec_key")],
        ..CallbackSettings::default()
    };
    tune(&mut settings);
    Bench::with_callbacks(Callbacks::new(settings).unwrap(), AuthSettings::default())
}

async fn asked(bench: &Bench, headers: &[(&str, &str)]) -> Vec<FollowUpSpec> {
    let answer = bench.post("echo", headers, "{}").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    bench.fake.jobs().pop().unwrap().follow_ups
}

pub fn spec(url: &str, events: &str) -> FollowUpSpec {
    let events = events.parse().unwrap_or_default();
    FollowUpSpec::new(FollowUpKind::Callback, url.to_owned(), events)
}

#[actix_web::test]
async fn what_a_request_asks_for_travels_with_its_job() {
    let bench = bench(|_| {});
    assert_eq!(asked(&bench, &[]).await, []);
    assert_eq!(asked(&bench, &[(URL, PUBLIC)]).await, [spec(PUBLIC, "")]);
    let both = [(EVENTS, " job.failed,job.expired"), (URL, PUBLIC)];
    let expected = spec(PUBLIC, "job.failed, job.expired");
    assert_eq!(asked(&bench, &both).await, [expected]);
}

#[actix_web::test]
async fn the_request_goes_before_the_type_and_that_before_the_tenant() {
    let tenant = |settings: &mut CallbackSettings| {
        let own = TenantCallbacks {
            // The operator's: it may be anywhere.
            url: Some("http://127.0.0.1:9000/tenant".to_owned()),
            events: "job.failed".parse().unwrap(),
            ..TenantCallbacks::default()
        };
        settings.tenants.insert(Tenant::default(), own);
    };
    let bench = bench(tenant);
    let of_tenant = spec("http://127.0.0.1:9000/tenant", "job.failed");
    assert_eq!(asked(&bench, &[]).await, [of_tenant]);
    let mut types = (*bench.state.types.now()).clone();
    for spec in types.values_mut() {
        spec.callback = Some(CallbackSpec {
            url: "http://127.0.0.1:9000/type".to_owned(),
            events: Default::default(),
        });
    }
    bench.state.types.replace(types);
    let of_type = spec("http://127.0.0.1:9000/type", "");
    assert_eq!(asked(&bench, &[]).await, [of_type]);
    assert_eq!(asked(&bench, &[(URL, PUBLIC)]).await, [spec(PUBLIC, "")]);
}

#[actix_web::test]
async fn an_e_mail_of_the_type_comes_beside_the_callback_and_needs_no_keys() {
    let email: EmailSpec =
        serde_json::from_value(json!({ "to": ["ops@example.com"], "events": "job.failed" }))
            .unwrap();
    for keys in [vec![Secret::new("whsec_key")], Vec::new()] {
        let signed = !keys.is_empty();
        let bench = bench(|settings| settings.keys = keys);
        let mut types = (*bench.state.types.now()).clone();
        for spec in types.values_mut() {
            spec.email = Some(email.clone());
        }
        bench.state.types.replace(types);
        assert_eq!(asked(&bench, &[]).await, [email.follow_up()]);
        if signed {
            let both = [spec(PUBLIC, ""), email.follow_up()];
            assert_eq!(asked(&bench, &[(URL, PUBLIC)]).await, both);
        }
    }
}

#[actix_web::test]
async fn a_url_that_breaks_a_rule_is_refused_by_its_name() {
    let bench = bench(|_| {});
    for (url, rule) in [
        ("http://8.8.8.8/", "scheme"),
        ("https://u:p@8.8.8.8/", "credentials"),
        ("https://8.8.8.8:25/", "port"),
        ("https://169.254.169.254/latest", "address"),
        ("https://localhost/", "address"),
        ("nonsense", "syntax"),
        ("https://no-such-host.invalid/", "name"),
    ] {
        let answer = bench.post("echo", &[(URL, url)], "{}").await;
        let doc = answer.problem(422, "callback-refused");
        assert_eq!(doc["rule"], rule, "{doc}");
        assert_eq!(doc["repeatSafe"], true);
    }
    assert_eq!(bench.fake.jobs(), [], "no job was made");
}

#[actix_web::test]
async fn an_allowed_network_is_looked_up_by_name_too() {
    let bench = bench(|settings| {
        settings.allow_http = true;
        settings.allow_networks = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
    });
    let url = "http://localhost:9000/hook";
    assert_eq!(asked(&bench, &[(URL, url)]).await, [spec(url, "")]);
}

#[actix_web::test]
async fn malformed_headers_and_events_without_a_url_are_refused() {
    let bench = bench(|_| {});
    for headers in [
        vec![(EVENTS, "job.failed")],
        vec![(URL, PUBLIC), (EVENTS, "job.started")],
        vec![(URL, PUBLIC), (EVENTS, "")],
        vec![(URL, PUBLIC), (URL, PUBLIC)],
        vec![
            (URL, PUBLIC),
            (EVENTS, "job.failed"),
            (EVENTS, "job.failed"),
        ],
    ] {
        let answer = bench.post("echo", &headers, "{}").await;
        answer.problem(400, "malformed-header");
    }
}

#[actix_web::test]
async fn without_a_key_to_sign_with_there_are_no_callbacks() {
    let bench = bench(|settings| settings.keys.clear());
    let answer = bench.post("echo", &[(URL, PUBLIC)], "{}").await;
    answer.problem(422, "callbacks-not-set-up");
    assert_eq!(asked(&bench, &[]).await, []);
}

#[actix_web::test]
async fn another_callback_under_the_same_key_is_another_request() {
    let bench = bench(|_| {});
    let key = ("Idempotency-Key", "k");
    let first = [key, (URL, PUBLIC)];
    assert_eq!(bench.post("echo", &first, "{}").await.status, 200);
    for other in [
        vec![key],
        vec![key, (URL, "https://8.8.4.4/")],
        vec![key, (URL, PUBLIC), (EVENTS, "job.failed")],
    ] {
        let answer = bench.post("echo", &other, "{}").await;
        answer.problem(422, "idempotency-key-reused");
    }
}

/// The names that there are, and how often one was looked up.
#[derive(Clone, Default)]
pub struct Known(Arc<Mutex<(Vec<String>, usize)>>);

impl Known {
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut known = self.0.lock().unwrap();
        known.1 += 1;
        let found = known.0.iter().any(|it| it == name);
        found
            .then(|| "8.8.8.8".parse().unwrap())
            .into_iter()
            .collect()
    }

    fn lookups(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[actix_web::test]
async fn a_repeat_is_answered_whatever_has_become_of_the_name() {
    let known = Known::default();
    known.0.lock().unwrap().0.push("hook.example".to_owned());
    let settings = CallbackSettings {
        keys: vec![Secret::new("whsec_key")],
        ..CallbackSettings::default()
    };
    let callbacks = Callbacks::with_names(settings, Names::These(known.clone())).unwrap();
    let bench = Bench::with_callbacks(callbacks, AuthSettings::default());
    let url = (URL, "https://hook.example/hook");
    let asynchronous = ("Prefer", "respond-async");
    let headers = [("Idempotency-Key", "k"), asynchronous, url];
    let first = bench.post("echo", &headers, "{}").await;
    assert_eq!(first.status, 202, "{:?}", first.body);
    assert_eq!(known.lookups(), 1);
    known.0.lock().unwrap().0.clear();
    let repeat = bench.post("echo", &headers, "{}").await;
    assert_eq!(repeat.status, 202, "{:?}", repeat.body);
    assert_eq!(repeat.json()["jobId"], first.json()["jobId"]);
    assert_eq!(bench.fake.jobs().len(), 1);
    // Nor does it matter if nobody knows whether the first request's job is in Kafka.
    bench.fake.found.lock().unwrap().clear();
    for key in bench.fake.keys.lock().unwrap().values_mut() {
        (key.state, key.reserved_at) = (KeyState::Reserved, 0);
    }
    let again = bench.post("echo", &headers, "{}").await;
    assert_eq!(again.json()["jobId"], first.json()["jobId"]);
    assert_eq!(bench.fake.jobs().len(), 2);
    assert_eq!(known.lookups(), 1);
    for headers in [
        vec![asynchronous, url],
        vec![("Idempotency-Key", "new"), url],
    ] {
        let answer = bench.post("echo", &headers, "{}").await;
        let doc = answer.problem(422, "callback-refused");
        assert_eq!(doc["rule"], "name", "{headers:?}");
    }
}

#[actix_web::test]
async fn a_key_whose_first_request_is_refused_for_its_name_stays_free() {
    let bench = bench(|_| {});
    let key = ("Idempotency-Key", "k");
    let refused = [key, (URL, "https://no-such-host.invalid/")];
    for _ in 0..2 {
        let answer = bench.post("echo", &refused, "{}").await;
        let doc = answer.problem(422, "callback-refused");
        assert_eq!(
            (&doc["rule"], &doc["repeatSafe"]),
            (&json!("name"), &json!(true))
        );
    }
    assert_eq!(bench.fake.jobs(), []);
    assert!(bench.fake.keys.lock().unwrap().is_empty());
    let other = bench.post("echo", &[key, (URL, PUBLIC)], "{}").await;
    assert_eq!(other.status, 200, "{:?}", other.body);
}
