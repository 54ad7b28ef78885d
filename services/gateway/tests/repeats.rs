//! Submits sent again, jobs called off, and jobs that nobody takes: a whole gateway on the embedded broker.

#![allow(clippy::unwrap_used)]

mod kit;

use std::time::{Duration, Instant};

use futures::future::join_all;
use kit::{Kit, Running};
use reqwest::RequestBuilder;
use serde_json::Value;

const GRACE: Duration = Duration::from_secs(10);

fn submit(kit: &Kit, gateway: &Running, job_type: &str) -> RequestBuilder {
    let url = format!("{}/v1/jobs/{job_type}", gateway.url);
    kit.client.post(url).body("{\"n\":1}")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_requests_under_one_key_are_one_record_and_one_answer() {
    let kit = Kit::new(true);
    let gateway = kit.gateway(kit.registry(), GRACE).await;
    gateway.ready().await;
    let requests = (0..10).map(|_| {
        let request = submit(&kit, &gateway, "echo");
        request.header("idempotency-key", "k").send()
    });
    // The worker comes when they all wait, as far as that goes.
    let (answers, worker) = tokio::join!(join_all(requests), kit.worker());
    let mut ids = Vec::new();
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        ids.push(answer.headers()["tidegate-job-id"].clone());
        assert_eq!(answer.text().await.unwrap(), "{\"n\":1}");
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let topics = kit.broker.cluster().topics().clone();
    let jobs = topics.jobs(&Default::default(), Default::default());
    let reader = kit.broker.cluster().assigned_consumer_of(&jobs, "reader");
    let written = reader.unwrap().watermarks(0).await.unwrap().1;
    assert_eq!(written, 1, "one record");
    worker.abort();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_takes_is_called_off_or_expires() {
    let kit = Kit::new(true);
    let gateway = kit.gateway(kit.registry(), GRACE).await;
    gateway.ready().await;
    let accepted: Value = {
        let answer = submit(&kit, &gateway, "later").send().await.unwrap();
        answer.json().await.unwrap()
    };
    let path = format!("/v1/jobs/{}", accepted["jobId"].as_str().unwrap());
    for _ in 0..2 {
        let cancel = kit.client.post(format!("{}{path}/cancel", gateway.url));
        let answer = cancel.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let doc: Value = answer.json().await.unwrap();
        assert_eq!(doc["status"], "cancelled", "{doc}");
    }
    let control = kit.broker.cluster().topics().control();
    let reader = kit
        .broker
        .cluster()
        .assigned_consumer_of(&control, "reader");
    assert_eq!(reader.unwrap().watermarks(0).await.unwrap().1, 1);

    let begun = Instant::now();
    let waited = submit(&kit, &gateway, "echo").header("tidegate-deadline", "1s");
    let answer = waited.send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let doc: Value = answer.json().await.unwrap();
    assert_eq!(
        (&doc["code"], &doc["jobStatus"]),
        (&"deadline-passed".into(), &"expired".into())
    );
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    gateway.stop().await;
}
