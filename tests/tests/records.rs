//! Records on a jobs topic that no worker can read: kept, counted, told of once, and nothing stops for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use tidegate_contract::{JobMessage, RecordHeaders, headers};
use tidegate_kafka::Codec;
use tidegate_tests::records::{codec, dead_letters, job, texts};
use tidegate_tests::topics::Admin;
use tidegate_tests::unreadable::{
    Bad, HOSTILE, MARK, assert_failed, assert_goes_on, assert_kept, completed, told, unreadable,
    write,
};
use tidegate_tests::{Client, Stack, secs, until_true};

fn bad_jobs(codec: &Codec) -> Vec<Bad> {
    let encode = |job: &JobMessage| codec.encode_job(job).unwrap().to_vec();
    let fresh = || {
        let mut job = job("echo", 3);
        job.body = MARK.into();
        job
    };
    let of = |name, job: &JobMessage, value| Bad {
        name,
        key: job.job_id.to_string().into(),
        headers: RecordHeaders::of_job(job),
        value,
        ends: Some(job.job_id),
    };
    let mut all: Vec<_> = (0..unreadable(&encode(&fresh())).len())
        .map(|number| {
            let job = fresh();
            let (name, value) = unreadable(&encode(&job)).swap_remove(number);
            of(name, &job, value)
        })
        .collect();

    let job = fresh();
    let bare = of("no headers", &job, encode(&job));
    all.push(Bad {
        headers: RecordHeaders::new(),
        ..bare
    });
    let job = fresh();
    let mut odd = of("one header missing", &job, encode(&job));
    odd.headers = texts(&odd.headers)
        .into_iter()
        .filter(|(name, _)| *name != headers::TENANT)
        .collect();
    all.push(odd);
    let job = fresh();
    let mut odd = of("a header that is no name", &job, encode(&job));
    odd.headers
        .set(headers::JOB_TYPE, "../\u{1b}[2J".repeat(1000));
    all.push(odd);
    let job = fresh();
    let odd = of("hostile key", &job, encode(&job));
    all.push(Bad {
        key: HOSTILE.to_vec(),
        ..odd
    });
    let job = fresh();
    let odd = of("hostile key and not Avro", &job, MARK.to_vec());
    all.push(Bad {
        key: HOSTILE.to_vec(),
        ..odd
    });
    let job = fresh();
    let value = codec.encode_event(&completed(&job)).unwrap().to_vec();
    all.push(of("a record of another sort", &job, value));
    // Nothing to be had of these.
    let lost = |name, key: &[u8], value: &[u8]| Bad {
        name,
        key: key.to_vec(),
        headers: RecordHeaders::new(),
        value: value.to_vec(),
        ends: None,
    };
    all.push(lost("nothing but bytes", HOSTILE, MARK));
    all.push(lost("long key", &b"k".repeat(100_000), b"\0"));
    let mut nowhere = fresh();
    nowhere.reply_partition = 4711;
    let odd = of(
        "reply partition that does not exist",
        &nowhere,
        encode(&nowhere),
    );
    all.push(Bad { ends: None, ..odd });
    all
}

#[tokio::test]
async fn a_worker_sets_unreadable_jobs_aside() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    assert_goes_on(&client).await;

    let (codec, topic) = (codec(&stack).await, format!("{}jobs.normal", stack.prefix));
    let bad = bad_jobs(&codec);
    let places = write(&stack, &topic, &[0, 1], &bad).await;
    assert_goes_on(&client).await;
    assert_kept(&stack, &topic, &bad, &places).await;
    for record in &bad {
        if let Some(id) = record.ends {
            assert_failed(&client, id, record.name).await;
        }
    }
    let counted = Client::new(worker.url())
        .metric("tidegate_unreadable_records_total")
        .await;
    assert_eq!(counted, bad.len() as f64);
    assert_eq!(
        told(&worker.log(), "it goes to the dead letters"),
        bad.len(),
        "{}",
        worker.log()
    );

    // The group has passed them all, so that the next worker does not meet them again.
    let (admin, group) = (
        Admin::of(&stack.servers.kafka),
        format!("{}worker.default.normal", stack.prefix),
    );
    let ends: Vec<_> = admin
        .ends(&topic)
        .into_iter()
        .map(|(_, next)| next)
        .collect();
    until_true("everything is committed", secs(10), || async {
        let committed = admin.committed(&group, &topic);
        committed
            .iter()
            .zip(&ends)
            .all(|(done, next)| done.unwrap_or(0) == *next)
    })
    .await;
    assert!(worker.stop(secs(20)).await.success());
    let next = stack.worker("next").await;
    assert_goes_on(&client).await;
    assert_eq!(
        Client::new(next.url())
            .metric("tidegate_unreadable_records_total")
            .await,
        0.0
    );
    assert_eq!(dead_letters(&stack).await.len(), bad.len());
    told(&gateway.log(), "");
}
