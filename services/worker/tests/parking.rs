//! Jobs that may not run here and now wait on the delay ladder, with the test in the place of the scheduler.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::time::Duration;

use support::{RUNGS, Rig, custom, settings, types, until};
use tidegate_contract::headers::{PARKED, TRACEPARENT};
use tidegate_contract::pause::{self, TypeOrder};
use tidegate_contract::{EventKind, HandlerSpec, JobId, JobTypes, now_millis};
use tidegate_kafka::{Outgoing, Record};
use tidegate_worker::WorkerSettings;

/// `late` is a custom handler that not every worker has.
fn both() -> JobTypes {
    types([("echo", HandlerSpec::Echo), ("late", custom("script"))])
}

/// The copies of a job on the ladder, as soon as there are so many.
async fn parked(rig: &Rig, id: JobId, count: usize) -> Vec<Record> {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mut copies = rig.delayed(RUNGS[0]).await;
        copies.retain(|record| record.key.as_deref() == Some(id.to_string().as_bytes()));
        if copies.len() >= count {
            return copies;
        }
        assert!(
            tokio::time::Instant::now() < limit,
            "{} copies",
            copies.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Moves a record to its target, as a scheduler does, though at once.
async fn move_on(rig: &Rig, record: &Record) {
    let mut headers = record.headers.clone();
    let (topic, partition) = headers.target().unwrap();
    let topic = topic.to_owned();
    headers.undelay();
    let out = Outgoing {
        topic,
        partition,
        key: String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap(),
        headers,
        payload: record.payload.clone().unwrap(),
    };
    rig.send(out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_unknown_here_is_parked_until_somebody_knows_it() {
    let rig = Rig::start().await;
    let without = tidegate_worker::Handlers::new();
    let first = rig.worker_with(both(), without, settings()).await;
    let job = rig.job("late", "ok");
    let id = rig.submit(&job).await;
    let original = rig.record(&job);
    for times in 1..=2 {
        let record = parked(&rig, id, times).await.pop().unwrap();
        assert_eq!(record.payload, Some(original.payload.clone()));
        assert_eq!(record.headers.parked(), times as u32, "{PARKED}");
        assert_eq!(record.headers.attempt(), Ok(1), "no attempt is spent");
        // Not where it was: the partition of its key may for ever be that of a worker without its type.
        let elsewhere = (original.topic.as_str(), Some(times as i32 % 2));
        assert_eq!(record.headers.target(), Ok(elsewhere));
        assert_eq!(
            record.headers.get(TRACEPARENT),
            original.headers.get(TRACEPARENT)
        );
        // 200 ms, then 400 ms, give or take a fifth: from when it was read, which was before now.
        let due = record.headers.due().unwrap();
        let longest = [240, 480][times - 1];
        assert!(due <= record.timestamp.unwrap() + longest, "{due}");
        move_on(&rig, &record).await;
    }
    parked(&rig, id, 3).await;
    first
        .counted(r#"jobs_parked_total{type="late",reason="unknown-type"} 3"#)
        .await;
    assert!(rig.said(id).is_empty(), "nothing is told of it");

    // Not for ever: it comes back by its deadline, and ends then.
    let mut short = rig.job("late", "ok");
    short.deadline = now_millis() + 100;
    let short = rig.submit(&short).await;
    let record = parked(&rig, short, 1).await.pop().unwrap();
    let deadline = record.headers.deadline().unwrap().unwrap();
    assert!(record.headers.due().unwrap() <= deadline);
    until("its deadline passes", || {
        (now_millis() > deadline).then_some(())
    })
    .await;
    move_on(&rig, &record).await;
    let expired = rig.ended(short).await.pop().unwrap().event;
    assert_eq!(expired.kind, EventKind::Expired);

    // What is known goes on meanwhile, and what was parked is done: the next worker does not meet it again.
    let echo = rig.submit(&rig.job("echo", "fine")).await;
    let end = rig.ended(echo).await.pop().unwrap().event;
    assert_eq!(end.kind, EventKind::Completed);
    first.stop().await;
    let second = rig.worker(both(), settings()).await;
    let record = parked(&rig, id, 3).await.pop().unwrap();
    move_on(&rig, &record).await;
    let end = rig.ended(id).await.pop().unwrap().event;
    assert_eq!((end.kind, end.attempt), (EventKind::Completed, 1));
    assert_eq!(parked(&rig, id, 3).await.len(), 3);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_limit_does_not_stand_in_the_way_of_others() {
    let rig = Rig::start().await;
    let mut types = support::usual_types();
    types
        .get_mut(&"script".parse().unwrap())
        .unwrap()
        .max_running = 1;
    let settings = WorkerSettings {
        look_ahead: 16,
        grace: Duration::from_millis(300),
        ..settings()
    };
    let worker = rig.worker(types, settings).await;
    // Four times what a worker looks ahead, and only one may run.
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(rig.submit(&rig.job("script", "sleep 60000")).await);
    }
    for _ in 0..8 {
        let id = rig.submit(&rig.job("echo", "fine")).await;
        let end = rig.ended(id).await.pop().unwrap().event;
        assert_eq!(end.kind, EventKind::Completed);
    }
    let copies = rig.delayed(RUNGS[0]).await;
    let parked = copies
        .iter()
        .all(|copy| (copy.headers.parked(), copy.headers.attempt()) == (1, Ok(1)));
    assert!(parked && copies.len() < slow.len(), "{}", copies.len());
    let line = format!(
        r#"jobs_parked_total{{type="script",reason="limit"}} {}"#,
        copies.len()
    );
    worker.counted(&line).await;
    worker.stop().await;
}

async fn order(rig: &Rig, job_type: &str, order: TypeOrder) {
    let job_type = job_type.parse().unwrap();
    let out = Outgoing {
        topic: rig.broker.cluster().topics().control(),
        partition: None,
        key: pause::key(&job_type),
        headers: order.headers(&job_type),
        payload: "".into(),
    };
    rig.send(out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_type_waits_without_an_attempt_until_it_is_resumed() {
    let rig = Rig::start().await;
    // Before the worker is there: it reads the control topic to its end first.
    order(&rig, "late", TypeOrder::pause(now_millis())).await;
    let worker = rig.worker(both(), settings()).await;
    let id = rig.submit(&rig.job("late", "ok")).await;
    let record = parked(&rig, id, 1).await.pop().unwrap();
    assert_eq!(
        (record.headers.parked(), record.headers.attempt()),
        (1, Ok(1))
    );
    worker
        .counted(r#"jobs_parked_total{type="late",reason="paused"} 1"#)
        .await;
    let echo = rig.submit(&rig.job("echo", "fine")).await;
    let end = rig.ended(echo).await.pop().unwrap().event;
    assert_eq!(end.kind, EventKind::Completed, "others go on");
    move_on(&rig, &record).await;
    let record = parked(&rig, id, 2).await.pop().unwrap();
    assert_eq!(record.headers.parked(), 2);
    assert!(rig.said(id).is_empty());
    order(&rig, "late", TypeOrder::Resumed).await;
    // The worker hears of it in a moment; before that the job is parked once more.
    for copies in 3.. {
        let record = parked(&rig, id, copies - 1).await.pop().unwrap();
        move_on(&rig, &record).await;
        let parked_again = format!(r#"{{type="late",reason="paused"}} {copies}"#);
        let ended = until("the job ends or is parked", || {
            let ended = !rig.said(id).is_empty();
            (ended || worker.metrics.encode().contains(&parked_again)).then_some(ended)
        });
        if ended.await {
            break;
        }
    }
    let end = rig.ended(id).await.pop().unwrap().event;
    assert_eq!((end.kind, end.attempt), (EventKind::Completed, 1));
    worker.stop().await;
}
