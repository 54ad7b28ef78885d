//! Records that cannot be handled, and a registry that is away.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use bytes::Bytes;
use support::proxy::Proxy;
use support::{Rig, Running, settings, until, usual_types};
use tidegate_contract::headers::{DEADLINE, JOB_ID, REPLY_PARTITION, TENANT};
use tidegate_contract::{EventKind, FaultSource, JobId, JobMessage, RecordHeaders};
use tidegate_kafka::Outgoing;

async fn good(rig: &Rig) {
    let id = rig.submit(&rig.job("echo", "fine")).await;
    assert_eq!(
        rig.ended(id).await.last().unwrap().event.kind,
        EventKind::Completed
    );
}

/// Spoils a record, and sees that it lies whole among the dead letters and its job ends as failed.
async fn set_aside(
    rig: &Rig,
    worker: &Running,
    reason: &str,
    spoil: impl FnOnce(&mut Outgoing),
) -> JobMessage {
    let job = rig.job("echo", "hello");
    let mut record = rig.record(&job);
    spoil(&mut record);
    let lies = rig.send(record.clone()).await;
    let letter = rig.letter(|letter| letter.offset == lies.offset).await;
    assert_eq!(letter.reason, "unreadable-record");
    assert_eq!(letter.topic, record.topic);
    assert_eq!(letter.partition, lies.partition);
    assert_eq!(letter.value.as_ref(), Some(&record.payload));
    assert_eq!(letter.key, Some(Bytes::from(record.key)));
    assert_eq!(letter.headers.len(), record.headers.iter().count());
    let (topic, line) = (record.topic, "unreadable_records_total");
    let line = format!("{line}{{topic=\"{topic}\",reason=\"{reason}\"}}");
    worker.counted(&line).await;
    job
}

async fn set_aside_and_failed(
    rig: &Rig,
    worker: &Running,
    reason: &str,
    spoil: impl FnOnce(&mut Outgoing),
) {
    let job = set_aside(rig, worker, reason, spoil).await;
    let (code, event) = rig.failed(job.job_id).await;
    assert_eq!(code, "unreadable-record", "{reason}");
    let error = event.error.unwrap();
    assert_eq!(
        (error.source, error.retryable),
        (FaultSource::Gateway, false)
    );
    assert_eq!(rig.said(job.job_id)[0].partition, 3);
    assert!(event.dead_letter.is_some(), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sort_of_unreadable_record_is_kept_and_its_job_ended() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let run = async |reason, spoil: &dyn Fn(&mut Outgoing)| {
        set_aside_and_failed(&rig, &worker, reason, |record| spoil(record)).await;
    };
    run("malformed", &|r| {
        r.payload = Bytes::from_static(b"not avro")
    })
    .await;
    run("malformed", &|r| r.payload = r.payload.slice(..20)).await;
    run("malformed", &|r| r.payload = Bytes::new()).await;
    run("unknown-schema", &|r| {
        r.payload = Bytes::from([&[0, 0, 0, 0x7f, 1][..], &r.payload[5..]].concat());
    })
    .await;
    run("headers", &|r| r.headers.set(DEADLINE, "tomorrow")).await;
    run("headers", &|r| {
        r.headers.set(JOB_ID, JobId::generate().to_string())
    })
    .await;
    run("headers", &|r| r.headers = RecordHeaders::new()).await;
    run("headers", &|r| r.headers.set(TENANT, "NOT A NAME")).await;
    run("key", &|r| r.key = "somebody-else".to_owned()).await;
    let letters = rig.letters();
    good(&rig).await;
    assert_eq!(rig.letters(), letters, "each was set aside once");
    worker.stop().await;
    // Done is done: the next worker does not meet them again.
    let next = rig.worker(usual_types(), settings()).await;
    good(&rig).await;
    assert_eq!(rig.letters(), letters);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_way_back_is_kept_and_the_worker_goes_on() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    // Nothing that says whose it is, or where to answer.
    let lost = set_aside(&rig, &worker, "malformed", |record| {
        record.payload = Bytes::from_static(b"?");
        record.headers = RecordHeaders::new();
        record.key = "nobody".to_owned();
    });
    let lost = lost.await;
    let no_place = set_aside(&rig, &worker, "malformed", |record| {
        record.payload = Bytes::from_static(b"?");
        record.headers.set(REPLY_PARTITION, "99");
    });
    let no_place = no_place.await;
    // A job that is whole but wants its answer on a partition that is not there.
    let mut far = rig.job("echo", "hello");
    far.reply_partition = 99;
    let lies = rig.send(rig.record(&far)).await;
    let letter = rig.letter(|letter| letter.offset == lies.offset).await;
    assert_eq!(letter.job_id, Some(far.job_id));
    assert!(
        letter.message.contains("the topic has 4"),
        "{}",
        letter.message
    );
    good(&rig).await;
    for id in [lost.job_id, no_place.job_id, far.job_id] {
        assert!(rig.said(id).is_empty());
    }
    worker.stop().await;
}

/// A newer version of the job's schema, as a newer gateway would use it: one more optional field at the end.
async fn newer_schema(rig: &Rig) -> u32 {
    let client = reqwest::Client::new();
    let text = std::fs::read_to_string("../../schemas/job.avsc").unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let field = serde_json::json!({ "name": "later", "type": ["null", "string"], "default": null });
    schema["fields"].as_array_mut().unwrap().push(field);
    let subjects = format!("{}/subjects", rig.registry.url());
    let names: Vec<String> = client
        .get(&subjects)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let subject = names.iter().find(|name| name.ends_with("Job")).unwrap();
    let answer: serde_json::Value = client
        .post(format!("{subjects}/{subject}/versions"))
        .json(&serde_json::json!({ "schema": schema.to_string() }))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    answer["id"].as_u64().unwrap_or_else(|| panic!("{answer}")) as u32
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_schema_while_the_registry_is_away_holds_one_partition() {
    let mut proxy = None;
    let behind = &mut proxy;
    let rig = Rig::start_behind(|url| async move {
        let made = Proxy::start(url.trim_start_matches("http://").to_owned()).await;
        let addr = made.addr.clone();
        *behind = Some(made);
        format!("http://{addr}")
    })
    .await;
    let proxy = proxy.unwrap();
    let id = newer_schema(&rig).await;
    let worker = rig.worker(usual_types(), settings()).await;
    worker.ready().await;
    good(&rig).await;
    proxy.set_open(false);

    let newer = rig.job("echo", "from a newer gateway");
    let mut record = rig.record(&newer);
    let body = &record.payload[5..];
    record.payload = Bytes::from([&[0][..], &id.to_be_bytes(), body, &[0]].concat());
    rig.send(record).await;
    let behind = rig.job("echo", "behind it");
    rig.submit(&behind).await;
    until("the partition is said to wait", || {
        let notes = worker.readiness.report().notes;
        notes
            .iter()
            .any(|note| note.contains("jobs.normal[0]"))
            .then_some(())
    })
    .await;
    assert!(worker.readiness.is_ready(), "the others go on");
    let mut beside = rig.record(&rig.job("echo", "beside it"));
    beside.partition = Some(1);
    let beside_id: JobId = beside.key.parse().unwrap();
    rig.send(beside).await;
    assert_eq!(rig.ended(beside_id).await.len(), 1);
    assert!(rig.said(newer.job_id).is_empty() && rig.said(behind.job_id).is_empty());
    assert_eq!(rig.letters(), 0);

    proxy.set_open(true);
    let end = rig.ended(newer.job_id).await.pop().unwrap().event;
    assert_eq!(end.outcome.unwrap().body, "from a newer gateway");
    rig.ended(behind.job_id).await;
    until("the note is gone", || {
        let notes = worker.readiness.report().notes;
        (!notes.iter().any(|note| note.contains("jobs.normal"))).then_some(())
    })
    .await;
    worker.stop().await;
}
