//! What follows a failed attempt, with the test in the place of the scheduler.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::time::Duration;

use support::{RUNGS, Rig, Running, TRACE, settings, until, usual_types};
use tidegate_contract::headers::{FIRST_ERROR, TRACEPARENT};
use tidegate_contract::{DeadLetterPlace, EventKind, JobId, JobTypes, RetryPolicy, now_millis};
use tidegate_kafka::{Outgoing, Record};

/// `script` with this policy; the pauses have no jitter.
fn retrying(policy: RetryPolicy) -> JobTypes {
    let mut types = usual_types();
    let spec = types.get_mut(&"script".parse().unwrap()).unwrap();
    spec.retry = RetryPolicy {
        jitter: 0.0,
        ..policy
    };
    types
}

async fn start(policy: RetryPolicy) -> (Rig, Running) {
    let rig = Rig::start().await;
    let worker = rig.worker(retrying(policy), settings()).await;
    (rig, worker)
}

/// Moves the only record of a rung to its target, as a scheduler does, though at once.
async fn move_on(rig: &Rig, rung: Duration, number: usize) -> Record {
    let record = rig.delayed(rung).await.swap_remove(number);
    let mut headers = record.headers.clone();
    let (topic, partition) = headers.target().unwrap();
    let topic = topic.to_owned();
    assert_eq!(partition, None);
    headers.undelay();
    let out = Outgoing {
        topic,
        partition: None,
        key: String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap(),
        headers,
        payload: record.payload.clone().unwrap(),
    };
    rig.send(out).await;
    record
}

async fn said(rig: &Rig, id: JobId, count: usize) {
    until("it is said", || (rig.said(id).len() >= count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_tried_again_until_its_attempts_are_used_up() {
    let policy = RetryPolicy {
        attempts: 3,
        first: Duration::from_millis(600),
        factor: 3.0,
        ..RetryPolicy::default()
    };
    let (rig, worker) = start(policy).await;
    let job = rig.job("script", "fail");
    let id = rig.submit(&job).await;
    said(&rig, id, 1).await;
    let retry = rig.said(id).pop().unwrap().event;
    assert_eq!((retry.kind, retry.attempt), (EventKind::RetryScheduled, 1));
    let next = retry.next_attempt_at.unwrap();
    // Reckoned from the failure, which is told a moment later.
    assert!(
        (retry.at - 400..=retry.at + 600).contains(&next),
        "{retry:?}"
    );
    let error = retry.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.attempts),
        ("handler-error", Some(3))
    );

    // 600 ms fit the rung of 100 ms; 1.8 s fit that of a second.
    let record = move_on(&rig, RUNGS[0], 0).await;
    assert_eq!(record.headers.due(), Ok(next));
    assert_eq!(record.headers.attempt(), Ok(2));
    assert_eq!(
        record.headers.get(FIRST_ERROR),
        Some("handler-error: as told")
    );
    assert!(record.headers.get(TRACEPARENT).unwrap().contains(TRACE));
    let copy = rig
        .codec
        .decode_job(&record.payload.unwrap())
        .await
        .unwrap();
    assert_eq!((copy.attempt, &copy.body), (2, &job.body));
    assert_eq!(copy.reply_partition, job.reply_partition);
    said(&rig, id, 2).await;
    let record = move_on(&rig, RUNGS[1], 0).await;
    assert_eq!(record.headers.attempt(), Ok(3));

    let end = rig.ended(id).await.pop().unwrap().event;
    assert_eq!((end.kind, end.attempt), (EventKind::DeadLettered, 3));
    assert_eq!(end.outcome, None);
    let letter = rig.letter(|letter| letter.job_id == Some(id)).await;
    assert_eq!(
        end.dead_letter,
        Some(DeadLetterPlace {
            partition: 0,
            offset: 0
        })
    );
    assert_eq!(letter.reason, "attempts-exhausted");
    assert_eq!((letter.attempt, letter.attempts), (3, 3));
    assert_eq!(letter.job_type.as_deref(), Some("script"));
    assert_eq!(letter.tenant.as_deref(), Some("default"));
    assert_eq!(letter.trace_id.as_deref(), Some(TRACE));
    assert_eq!(
        letter.first_error.as_deref(),
        Some("handler-error: as told")
    );
    assert_eq!(letter.last_error.unwrap().code, "handler-error");
    let kept = rig.codec.decode_job(&letter.value.unwrap()).await.unwrap();
    assert_eq!((kept.job_id, kept.attempt, &kept.body), (id, 3, &job.body));
    worker
        .counted(r#"tidegate_retries_scheduled_total{type="script"} 2"#)
        .await;
    let counted = r#"tidegate_dead_letters_total{type="script",reason="attempts-exhausted"} 1"#;
    worker.counted(counted).await;
    worker.stop().await;
    // Each of the three records is done.
    assert_eq!(rig.delayed(RUNGS[0]).await.len(), 1);
    assert_eq!(rig.delayed(RUNGS[1]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_worth_it_fails_at_once_and_lies_whole_among_the_dead_letters() {
    let policy = RetryPolicy {
        final_codes: vec!["panic".to_owned()],
        retry_codes: vec!["taken".to_owned()],
        first: Duration::from_secs(1),
        ..RetryPolicy::default()
    };
    let (rig, worker) = start(policy).await;
    let id = rig.submit(&rig.job("script", "panic")).await;
    let (code, event) = rig.failed(id).await;
    assert_eq!(code, "panic");
    let letter = rig.letter(|letter| letter.job_id == Some(id)).await;
    assert_eq!(
        (letter.reason.as_str(), letter.first_error),
        ("not-retryable", None)
    );
    assert!(event.dead_letter.is_some());

    // The handler thinks that a repeat is of no use, and the operator knows better.
    let id = rig.submit(&rig.job("script", "refuse")).await;
    said(&rig, id, 1).await;
    assert_eq!(rig.said(id)[0].event.kind, EventKind::RetryScheduled);

    // Nothing is kept of jobs whose time is over.
    let mut late = rig.job("script", "fail");
    late.deadline = now_millis() - 1;
    let late = rig.submit(&late).await;
    let end = rig.ended(late).await.pop().unwrap().event;
    assert_eq!((end.kind, end.dead_letter), (EventKind::Expired, None));
    assert_eq!(rig.letters(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_attempt_is_planned_beyond_the_deadline_or_the_budget() {
    let policy = RetryPolicy {
        first: Duration::from_secs(5),
        cap: Duration::from_secs(5),
        ..RetryPolicy::default()
    };
    let (rig, worker) = start(policy.clone()).await;
    // The worker has its partitions: from now on a job begins at once.
    rig.ended(rig.submit(&rig.job("echo", "1")).await).await;
    let mut job = rig.job("script", "fail");
    job.deadline = now_millis() + 4_000;
    let id = rig.submit(&job).await;
    let end = rig.ended(id).await.pop().unwrap().event;
    assert_eq!(end.kind, EventKind::DeadLettered);
    let letter = rig.letter(|letter| letter.job_id == Some(id)).await;
    assert_eq!(letter.reason, "deadline-too-near");
    worker.stop().await;

    let short = RetryPolicy {
        budget: Some(Duration::from_secs(3)),
        ..policy
    };
    let worker = rig.worker(retrying(short), settings()).await;
    let id = rig.submit(&rig.job("script", "fail")).await;
    rig.ended(id).await;
    let letter = rig.letter(|letter| letter.job_id == Some(id)).await;
    assert_eq!(letter.reason, "budget-exhausted");
    worker.stop().await;
}
