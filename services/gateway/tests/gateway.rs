//! A whole gateway on the embedded broker: jobs through Kafka and back, dependencies away, a stop.

#![allow(clippy::unwrap_used)]

mod kit;

use std::time::{Duration, Instant};

use kit::{Kit, LIMIT};
use serde_json::Value;
use tidegate_kafka::RegistrySettings;

const GRACE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_through_kafka_and_come_back() {
    let kit = Kit::new(true);
    let gateway = kit.gateway(kit.registry(), GRACE).await;
    let worker = kit.worker().await;
    gateway.ready().await;
    let ready = gateway
        .until(&kit.client, "/readyz", |status, _| status == 200)
        .await;
    assert!(
        ready["notes"].to_string().contains("single-broker"),
        "{ready}"
    );

    let client = &kit.client;
    let body = "{\"n\": 1.50}";
    let waited = client
        .post(format!("{}/shout/me?x=1", gateway.url))
        .header("Prefer", "wait=20")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(waited.status(), 200, "{}", waited.text().await.unwrap());
    assert!(waited.headers().contains_key("server-timing"));
    let id = waited.headers()["tidegate-job-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(waited.text().await.unwrap(), body);
    let path = format!("/v1/jobs/{id}");
    let ended = |_, doc: &Value| doc["status"] == "completed";
    let doc = gateway.until(client, &path, ended).await;
    assert_eq!(doc["result"]["n"], 1.5);

    let later = client
        .post(format!("{}/v1/jobs/later", gateway.url))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(later.status(), 202);
    let path = later.headers()["location"].to_str().unwrap().to_owned();
    let at_once = client
        .get(format!("{}{path}", gateway.url))
        .send()
        .await
        .unwrap();
    assert_eq!(
        at_once.status(),
        200,
        "a status read right after finds the job"
    );
    gateway.until(client, &path, ended).await;
    let result = client
        .get(format!("{}{path}/result", gateway.url))
        .send()
        .await
        .unwrap();
    assert_eq!(result.text().await.unwrap(), body);

    // An id that was never made is unknown as soon as the projection is known to be past its time.
    let unknown = format!("/v1/jobs/{}", tidegate_contract::JobId::generate());
    gateway
        .until(client, &unknown, |status, _| status == 404)
        .await;
    worker.abort();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_is_told_at_once_and_comes_back() {
    let kit = Kit::new(true);
    let gateway = kit.gateway(kit.registry(), GRACE).await;
    let worker = kit.worker().await;
    gateway.ready().await;
    kit.broker.set_reachable(false).await.unwrap();
    let submit = || {
        let request = kit.client.post(format!("{}/v1/jobs/echo", gateway.url));
        request.body("{}").timeout(Duration::from_secs(15)).send()
    };
    // In bounded time from the first moment, and without trying once the outage is known.
    let refused = submit().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    gateway
        .until(&kit.client, "/readyz", |status, _| status == 503)
        .await;
    let begun = Instant::now();
    let doc: Value = submit().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&doc["type"], &doc["repeatSafe"]),
        (&"/problems/broker-unavailable".into(), &true.into())
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
    kit.broker.set_reachable(true).await.unwrap();
    gateway.ready().await;
    let limit = Instant::now() + LIMIT;
    while submit().await.unwrap().status() != 200 {
        assert!(Instant::now() < limit);
    }
    worker.abort();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_and_an_absent_registry_are_named_with_the_mend() {
    let kit = Kit::new(false);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let registry = RegistrySettings {
        url: format!("http://{free}"),
        ..kit.registry()
    };
    let gateway = kit.gateway(registry, GRACE).await;
    let doc = gateway
        .until(&kit.client, "/readyz", |status, doc| {
            let text = doc.to_string();
            status == 503
                && text.contains("tidegate topics create")
                && text.contains("schema registry is not available")
        })
        .await;
    assert_eq!(doc["ready"], false);
    let refused = kit
        .client
        .post(format!("{}/v1/jobs/echo", gateway.url))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    let doc: Value = refused.json().await.unwrap();
    assert!(
        [
            "/problems/registry-unavailable",
            "/problems/broker-unavailable"
        ]
        .contains(&doc["type"].as_str().unwrap()),
        "{doc}"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_no_request() {
    let kit = Kit::new(true);
    let gateway = kit.gateway(kit.registry(), GRACE).await;
    gateway.ready().await;
    // Nobody takes these jobs.
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let request = kit.client.post(format!("{}/v1/jobs/echo", gateway.url));
            tokio::spawn(
                request
                    .header("Prefer", "wait=20")
                    .body(n.to_string())
                    .send(),
            )
        })
        .collect();
    let metrics = format!("{}/metrics", gateway.url);
    let limit = Instant::now() + LIMIT;
    loop {
        let text = kit
            .client
            .get(&metrics)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        if text.contains("tidegate_waits_open 20") {
            break;
        }
        assert!(Instant::now() < limit, "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.shutdown.trigger();
    // What comes at the same moment may still be taken, and is then accepted like the others.
    loop {
        let submit = kit.client.post(format!("{}/v1/jobs/echo", gateway.url));
        let answer = submit.header("Prefer", "respond-async").body("{}").send();
        let status = answer.await.unwrap().status();
        if status == 503 {
            break;
        }
        assert_eq!(status, 202);
        assert!(Instant::now() < limit, "new jobs are still taken");
    }
    let begun = Instant::now();
    let store = kit.store.clone();
    gateway.stop().await;
    assert!(begun.elapsed() < GRACE);
    for request in waiting {
        let answer = request.await.unwrap().unwrap();
        assert_eq!(answer.status(), 202);
        let doc: Value = answer.json().await.unwrap();
        assert!(
            doc["reason"].as_str().unwrap().contains("shutting down"),
            "{doc}"
        );
        let id = doc["jobId"].as_str().unwrap().parse().unwrap();
        assert!(store.job(id).await.unwrap().row().is_some(), "{doc}");
    }
}
