//! Where a gateway puts the jobs of its tenants, on the embedded broker.

#![allow(clippy::unwrap_used)]

mod kit;

use std::time::{Duration, Instant};

use kit::{Kit, LIMIT, Running};
use tidegate_contract::{Pool, Secret, Tenant, Tier, placement};
use tidegate_gateway::{ApiKey, AuthSettings};
use tidegate_kafka::{AssignedConsumer, Outgoing};

const GRACE: Duration = Duration::from_secs(10);

/// SHA-256 of `sesame` and of `test`.
const SESAME: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
const TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn auth(keys: &[(&str, &str)]) -> AuthSettings {
    let keys = keys.iter().map(|(tenant, hash)| ApiKey {
        name: (*tenant).to_owned(),
        tenant: tenant.parse().unwrap(),
        sha256: Secret::new(*hash),
    });
    AuthSettings {
        enabled: true,
        keys: keys.collect(),
    }
}

/// How many records there are in each of twelve partitions.
async fn lengths(reader: &AssignedConsumer) -> Vec<i64> {
    let mut lengths = Vec::new();
    for partition in 0..12 {
        lengths.push(reader.watermarks(partition).await.unwrap().1);
    }
    lengths
}

async fn submit(kit: &Kit, gateway: &Running, count: usize) {
    for _ in 0..count {
        let url = format!("{}/v1/jobs/later", gateway.url);
        let request = kit.client.post(url).bearer_auth("sesame").body("1");
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_jobs_keep_to_its_partitions_and_leave_out_the_flooded_one() {
    let kit = Kit::with_partitions(true, 12);
    let keys = auth(&[("shop", SESAME), ("bank", TEST)]);
    let gateway = kit
        .gateway_with(kit.registry(), GRACE, |config| config.auth = keys)
        .await;
    gateway.ready().await;
    let cluster = kit.broker.cluster();
    let topic = cluster.topics().jobs(&Pool::default(), Tier::Normal);
    let reader = cluster.assigned_consumer_of(&topic, "test").unwrap();
    let shop: Tenant = "shop".parse().unwrap();
    let shards = placement::shards(&shop, 12, 4);

    let step = i64::try_from(placement::STEP).unwrap();
    submit(&kit, &gateway, 4 * usize::try_from(step).unwrap()).await;
    let found = lengths(&reader).await;
    for (partition, length) in (0..).zip(&found) {
        // Evenly to within a step, but for what was written while the backlog was being asked for.
        let expected = match shards.contains(&partition) {
            true => 1..=2 * step,
            false => 0..=0,
        };
        assert!(
            expected.contains(length),
            "partition {partition} of {found:?}, {shards:?}"
        );
    }

    // Somebody else floods one of them: within a round or two that is known.
    let flooded = shards[0];
    let producer = cluster.producer("flood").unwrap();
    for _ in 0..200 {
        let out = Outgoing {
            topic: topic.clone(),
            partition: Some(flooded),
            key: "flood".to_owned(),
            headers: Default::default(),
            payload: "x".into(),
        };
        producer.send(out).await.unwrap();
    }
    let limit = Instant::now() + LIMIT;
    loop {
        let before = lengths(&reader).await;
        submit(&kit, &gateway, 8).await;
        let after = lengths(&reader).await;
        if after[flooded as usize] == before[flooded as usize] {
            break;
        }
        assert!(Instant::now() < limit, "{before:?} {after:?}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_tenant_has_all_partitions() {
    let kit = Kit::with_partitions(true, 12);
    let keys = auth(&[("shop", SESAME), ("shop", TEST)]);
    let gateway = kit
        .gateway_with(kit.registry(), GRACE, |config| config.auth = keys)
        .await;
    gateway.ready().await;
    let cluster = kit.broker.cluster();
    let topic = cluster.topics().jobs(&Pool::default(), Tier::Normal);
    let reader = cluster.assigned_consumer_of(&topic, "test").unwrap();
    // Nobody runs them, so that each partition is preferred until it is a step ahead of the others.
    let step = usize::try_from(placement::STEP).unwrap();
    submit(&kit, &gateway, 12 * step).await;
    let found = lengths(&reader).await;
    assert!(found.iter().all(|length| *length > 0), "{found:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_over_its_backlog_is_refused_until_its_jobs_have_ended() {
    let kit = Kit::new(true);
    let limited = |config: &mut tidegate_gateway::GatewayConfig| config.settings.tenant_backlog = 3;
    let gateway = kit.gateway_with(kit.registry(), GRACE, limited).await;
    gateway.ready().await;
    // The count is a moment old, so a few more than three get in.
    let submit = async || {
        let url = format!("{}/v1/jobs/later", gateway.url);
        kit.client.post(url).body("1").send().await.unwrap()
    };
    let limit = Instant::now() + LIMIT;
    let refused = loop {
        let answer = submit().await;
        if answer.status() != 202 {
            break answer;
        }
        assert!(Instant::now() < limit, "it was never counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let doc: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(doc["type"], "/problems/tenant-backlog");

    let worker = kit.worker().await;
    while submit().await.status() != 202 {
        assert!(Instant::now() < limit + LIMIT, "its jobs have ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.abort();
    gateway.stop().await;
}
