//! The schema registry is away: at the start, after it, and when a schema comes that nobody has seen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;

use tidegate_contract::{JobId, RecordHeaders, headers, schema};
use tidegate_tests::proxy::Proxy;
use tidegate_tests::records::{as_newer, codec, job, newer_schema, texts};
use tidegate_tests::{Client, Stack, kafka, secs, until_true};

/// A stack whose roles reach the registry through a proxy; whoever looks on does so directly.
async fn behind_proxy() -> (Stack, Proxy) {
    let mut stack = Stack::new().await;
    let url = stack.servers.registry.clone();
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let proxy = Proxy::to(address.to_owned()).await;
    stack.set(&format!("registry.url=http://{}/{path}", proxy.address));
    (stack, proxy)
}

async fn answered(client: &Client, count: usize) {
    for number in 0..count {
        let answer = client
            .wait("echo", number.to_string(), 20)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.text().await.unwrap(), number.to_string());
    }
}

#[tokio::test]
async fn away_at_the_start_then_there_then_away_again() {
    let (stack, registry) = behind_proxy().await;
    registry.cut();
    let mut gateway = stack.start("gateway", "gateway", &[]);
    let mut worker = stack.start("worker", "worker", &[]);
    let (client, operator) = (Client::new(gateway.url()), Client::new(worker.url()));
    let report = client
        .until_unready("schema registry is not available", secs(20))
        .await;
    println!("gateway: {report}");
    let report = operator
        .until_unready("schema registry is not available", secs(20))
        .await;
    println!("worker: {report}");
    let refused = client.wait("echo", "1", 20).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(refused.text().await.unwrap().contains("registry"));
    assert!(gateway.is_running() && worker.is_running());

    registry.mend();
    for client in [&client, &operator] {
        until_true("ready by itself", secs(30), || client.is_ready()).await;
    }
    answered(&client, 5).await;

    // What is needed is known now: nothing changes when it goes away again.
    registry.cut();
    answered(&client, 50).await;
    let job = client.accept("echo-async", "[1]").await;
    client.until_status(&job.id, &["completed"], secs(10)).await;
    assert!(client.is_ready().await && operator.is_ready().await);
}

/// Where each job lies.
fn partitions(stack: &Stack) -> BTreeMap<String, i32> {
    let records = kafka::read_all(
        &stack.servers.kafka,
        &format!("{}jobs.normal", stack.prefix),
    );
    let place = |record| {
        kafka::header(record, headers::JOB_ID).map(|id| (id, rdkafka::Message::partition(record)))
    };
    records.iter().filter_map(place).collect()
}

#[tokio::test]
async fn away_when_a_new_schema_comes_a_jobs_partition_holds_its_place() {
    const HELD: i32 = 2;
    let (stack, registry) = behind_proxy().await;
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let (client, operator) = (Client::new(gateway.url()), Client::new(worker.url()));
    answered(&client, 5).await;

    let codec = codec(&stack).await;
    let subject = format!("{}job", stack.prefix);
    let id = newer_schema(&stack.servers.registry, schema::JOB, &subject).await;
    registry.cut();
    let newer = job("echo", 0);
    let value = as_newer(&codec.encode_job(&newer).unwrap(), id);
    let (key, of_job) = (newer.job_id.to_string(), RecordHeaders::of_job(&newer));
    let (kafka, topic) = (
        stack.servers.kafka.clone(),
        format!("{}jobs.normal", stack.prefix),
    );
    kafka::write(&kafka, &topic, Some(HELD), &key, &texts(&of_job), &value).await;
    let note = "the registry is away and a schema is new";
    until_true("readyz says so", secs(20), || async {
        operator.readiness().await["notes"]
            .to_string()
            .contains(note)
    })
    .await;

    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(client.accept("echo-async", number.to_string()).await.id);
    }
    let places = partitions(&stack);
    let (behind, others): (Vec<_>, Vec<_>) = ids.iter().partition(|id| places[*id] == HELD);
    assert!(!behind.is_empty() && !others.is_empty());
    for id in &others {
        client.until_status(id, &["completed"], secs(20)).await;
    }
    for id in &behind {
        assert_eq!(
            client.status(id).await.unwrap()["status"],
            "pending",
            "its place is held"
        );
    }
    println!(
        "{} jobs ended on other partitions, {} stand behind the record",
        others.len(),
        behind.len()
    );
    let set_aside = operator.metric("tidegate_unreadable_records_total").await;
    assert_eq!(
        set_aside, 0.0,
        "the registry has not said that the id is unknown"
    );

    registry.mend();
    for id in behind {
        client.until_status(id, &["completed"], secs(30)).await;
    }
    client.until_status(&key, &["completed"], secs(10)).await;
    until_true("the worker is ready again", secs(10), || {
        operator.is_ready()
    })
    .await;
}

#[tokio::test]
async fn away_when_a_new_schema_comes_a_reply_partition_holds_its_place() {
    let (stack, registry) = behind_proxy().await;
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    // A job whose end comes from a newer worker.
    let pending: JobId = client.accept("echo-async", "7").await.id.parse().unwrap();
    let topic = format!("{}jobs.normal", stack.prefix);
    let record = &kafka::read_all(&stack.servers.kafka, &topic)[0];
    let home = kafka::header(record, headers::REPLY_PARTITION)
        .unwrap()
        .parse()
        .unwrap();
    let codec = codec(&stack).await;
    let mut newer = job("echo-async", home);
    newer.job_id = pending;
    let event = tidegate_tests::unreadable::completed(&newer);
    let subject = format!("{}event", stack.prefix);
    let id = newer_schema(&stack.servers.registry, schema::EVENT, &subject).await;
    registry.cut();
    let value = as_newer(&codec.encode_event(&event).unwrap(), id);
    let (key, headers) = (pending.to_string(), RecordHeaders::of_event(&event, home));
    let (kafka, topic) = (
        stack.servers.kafka.clone(),
        format!("{}replies", stack.prefix),
    );
    kafka::write(&kafka, &topic, Some(home), &key, &texts(&headers), &value).await;

    // What comes after it on the same partition: waits are served all the same, rows have to wait.
    let _worker = stack
        .ready(stack.start(
            "worker",
            "worker",
            &[&format!("registry.url={}", stack.servers.registry)],
        ))
        .await;
    answered(&client, 20).await;
    let behind = client.accept("echo-async", "8").await;
    until_true("its outcome is in the log", secs(10), || async {
        let records = kafka::read_all(&kafka, &topic);
        records
            .iter()
            .any(|r| kafka::header(r, headers::JOB_ID).as_deref() == Some(&behind.id))
    })
    .await;
    for id in [&key, &behind.id] {
        assert_eq!(client.status(id).await.unwrap()["status"], "pending");
    }
    assert_eq!(
        client.metric("tidegate_unreadable_records_total").await,
        0.0
    );

    registry.mend();
    for id in [&key, &behind.id] {
        client.until_status(id, &["completed"], secs(30)).await;
    }
    tidegate_tests::rows::assert_agree(&stack).await;
}
