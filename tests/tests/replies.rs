//! Records on the replies topic that no gateway can read: kept, counted, told of once, and nothing stops for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use serde_json::Value;
use tidegate_contract::{JobId, RecordHeaders, headers};
use tidegate_tests::records::{codec, dead_letters, job};
use tidegate_tests::unreadable::{
    Bad, HOSTILE, MARK, assert_failed, assert_goes_on, assert_kept, completed, told, unreadable,
    write,
};
use tidegate_tests::{Client, Stack, kafka, secs, until_true};

/// Jobs that nobody runs: id and reply partition of each.
async fn pending(stack: &Stack, client: &Client, count: usize) -> Vec<(JobId, i32)> {
    for _ in 0..count {
        client.accept("echo-async", "7").await;
    }
    let records = kafka::read_all(
        &stack.servers.kafka,
        &format!("{}jobs.normal", stack.prefix),
    );
    let number = |record, name| kafka::header(record, name).unwrap();
    let jobs = records.iter().map(|record| {
        let id = number(record, headers::JOB_ID).parse().unwrap();
        (
            id,
            number(record, headers::REPLY_PARTITION).parse().unwrap(),
        )
    });
    jobs.collect()
}

#[tokio::test]
async fn a_gateway_sets_unreadable_replies_aside() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    let codec = codec(&stack).await;

    let event = |id: JobId, partition: i32| {
        let mut job = job("echo-async", partition);
        job.job_id = id;
        let event = completed(&job);
        let headers = RecordHeaders::of_event(&event, partition);
        (codec.encode_event(&event).unwrap().to_vec(), headers)
    };
    let sorts = unreadable(&event(JobId::generate(), 0).0).len();
    let jobs = pending(&stack, &client, sorts + 3).await;
    let mut bad = Vec::new();
    for (number, (id, partition)) in jobs.iter().enumerate() {
        let (good, headers) = event(*id, *partition);
        let key = id.to_string().into_bytes();
        let (none, hostile) = (RecordHeaders::new(), HOSTILE.to_vec());
        let (name, key, headers, value) = match number.checked_sub(sorts) {
            None => {
                let (name, value) = unreadable(&good).swap_remove(number);
                (name, key, none, value)
            }
            Some(0) => ("no headers", key, none, good),
            Some(1) => ("hostile key", hostile, headers, good),
            Some(_) => ("hostile key and not Avro", hostile, headers, MARK.to_vec()),
        };
        bad.push(Bad {
            name,
            key,
            headers,
            value,
            ends: Some(*id),
        });
    }
    let (key, headers, value) = (HOSTILE.to_vec(), RecordHeaders::new(), MARK.to_vec());
    bad.push(Bad {
        name: "nothing but bytes",
        key,
        headers,
        value,
        ends: None,
    });

    let topic = format!("{}replies", stack.prefix);
    // Mostly one: a gateway that waits long for its group begins with a borrowed home.
    let mut homes: Vec<i32> = jobs.iter().map(|(_, partition)| *partition).collect();
    homes.extend(homes.last().copied());
    // While somebody waits on that very partition.
    let waiting = tokio::spawn(client.wait("echo", "[8]", 20).send());
    until_true("it waits", secs(5), || async {
        client.metric("tidegate_waits_open").await == 1.0
    })
    .await;
    let places = write(&stack, &topic, &homes, &bad).await;
    assert_kept(&stack, &topic, &bad, &places).await;
    for record in &bad {
        if let Some(id) = record.ends {
            assert_failed(&client, id, record.name).await;
        }
    }
    let counted = client.metric("tidegate_unreadable_records_total").await;
    assert_eq!(counted, bad.len() as f64);
    assert_eq!(
        told(&gateway.log(), "it is put on the dead-letters topic"),
        bad.len(),
        "{}",
        gateway.log()
    );

    // The jobs run after all, too late: how they ended does not change. Everything else goes on.
    let worker = stack.worker("worker").await;
    assert_eq!(waiting.await.unwrap().unwrap().text().await.unwrap(), "[8]");
    assert_goes_on(&client).await;
    for (id, _) in &jobs {
        let document: Value = client.status(&id.to_string()).await.unwrap();
        assert_eq!(document["status"], "failed", "{document}");
    }
    assert_eq!(
        dead_letters(&stack).await.len(),
        bad.len(),
        "and no record is met twice"
    );
    told(&worker.log(), "");
}
