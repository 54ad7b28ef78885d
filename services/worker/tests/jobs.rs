//! Jobs through a worker on an embedded broker.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

mod support;

use std::time::Duration;

use support::{Rig, TRACE, custom, settings, types, until, usual_types};
use tidegate_contract::headers::{EVENT, TRACEPARENT};
use tidegate_contract::{EventKind, FaultSource, HandlerSpec, Pair, Tier, now_millis};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_each_tier_comes_back_on_the_partition_that_it_names() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    for (tier, partition) in [(Tier::High, 0), (Tier::Normal, 2), (Tier::Low, 3)] {
        let mut job = rig.job("echo", "hello");
        job.tier = tier;
        job.reply_partition = partition;
        job.request.headers = vec![Pair::new("accept", "*/*")];
        let id = rig.submit(&job).await;
        let said = rig.ended(id).await;
        assert_eq!(said.len(), 1, "a quick job costs one record: {said:?}");
        let seen = &said[0];
        assert_eq!(seen.partition, partition);
        assert_eq!(seen.headers.get(EVENT), Some("completed"));
        assert_eq!(seen.headers.job_id(), Ok(id));
        let event = &seen.event;
        assert_eq!((event.kind, event.attempt), (EventKind::Completed, 1));
        assert_eq!(event.job.tier, tier);
        let outcome = event.outcome.clone().unwrap();
        assert_eq!((outcome.status, &outcome.body[..]), (200, &b"hello"[..]));
        assert_eq!(outcome.content_type.as_deref(), Some("text/plain"));
        assert!(event.timings.unwrap().handler_us >= 0);
        // No spans are made here, so the trace that came in goes on.
        assert_eq!(event.job.trace_id.as_deref(), Some(TRACE));
        assert!(seen.headers.get(TRACEPARENT).unwrap().contains(TRACE));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_is_told_apart_and_the_worker_goes_on() {
    let rig = Rig::start().await;
    let mut types = types([
        ("echo", HandlerSpec::Echo),
        ("script", custom("script")),
        ("hasty", custom("script")),
    ]);
    // Only of the type that is to exceed it: a panic that prints where it was may take longer than this, too.
    let hasty = types.get_mut(&"hasty".parse().unwrap()).unwrap();
    hasty.attempt_timeout = Duration::from_millis(300);
    let worker = rig.worker(types, settings()).await;
    let limit = 64 << 10;
    for (job_type, body, code, retryable) in [
        ("script", "panic", "panic", true),
        ("script", "fail", "handler-error", true),
        ("script", "refuse", "taken", false),
        ("hasty", "sleep 60000", "timeout", true),
        ("script", "big 70000", "outcome-too-large", false),
        ("script", "big 65000", "outcome-too-large", false),
        ("script", "what is this", "handler-error", true),
    ] {
        let id = rig.submit(&rig.job(job_type, body)).await;
        let (found, event) = rig.failed(id).await;
        assert_eq!(found, code, "{body}");
        let error = event.error.unwrap();
        assert_eq!(
            (error.retryable, error.source),
            (retryable, FaultSource::Job)
        );
        match code {
            "panic" => assert_eq!(error.message, "the handler panicked: as told"),
            "taken" => assert_eq!(event.outcome.unwrap().status, 409),
            "outcome-too-large" => assert!(error.message.contains("a record may have"), "{limit}"),
            _ => {}
        }
    }
    let id = rig.submit(&rig.job("echo", "still here")).await;
    assert_eq!(rig.ended(id).await[0].event.kind, EventKind::Completed);
    worker
        .counted(r#"attempts_total{type="script",outcome="panic"} 1"#)
        .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_expire_jobs_before_and_while_they_run() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let mut late = rig.job("script", "ok");
    late.deadline = now_millis() - 1;
    let mut running = rig.job("script", "sleep 60000");
    running.deadline = now_millis() + 30_000;
    let late = rig.submit(&late).await;
    let event = rig.ended(late).await.pop().unwrap().event;
    assert_eq!(event.kind, EventKind::Expired);
    assert_eq!(event.error.unwrap().code, "deadline-passed");
    assert_eq!(event.timings, None, "it was not started");
    running.deadline = now_millis() + 500;
    let id = rig.submit(&running).await;
    let event = rig.ended(id).await.pop().unwrap().event;
    assert_eq!(event.kind, EventKind::Expired);
    assert!(event.timings.unwrap().handler_us >= 100_000);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn started_and_progress_are_said_of_long_jobs_only_and_in_order() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let quick = rig.submit(&rig.job("script", "progress 0")).await;
    let kinds: Vec<_> = rig
        .ended(quick)
        .await
        .iter()
        .map(|s| s.event.kind)
        .collect();
    // 101 naps of at least a millisecond may take longer than 100 ms on a busy machine, but not ten times that.
    assert!(kinds.len() < 10, "{kinds:?}");

    let long = rig.submit(&rig.job("script", "progress 10")).await;
    let said = rig.ended(long).await;
    let kinds: Vec<_> = said.iter().map(|seen| seen.event.kind).collect();
    assert_eq!(kinds[0], EventKind::Started);
    assert_eq!(kinds.last(), Some(&EventKind::Completed));
    let progress = &said[1..said.len() - 1];
    assert!((2..=20).contains(&progress.len()), "{kinds:?}");
    assert!(
        progress
            .iter()
            .all(|seen| seen.event.kind == EventKind::Progress)
    );
    let percents: Vec<_> = progress
        .iter()
        .map(|seen| seen.event.progress.clone().unwrap().percent)
        .collect();
    assert!(
        percents.windows(2).all(|pair| pair[0] < pair[1]),
        "{percents:?}"
    );
    let spaced = progress
        .windows(2)
        .all(|pair| pair[1].event.at - pair[0].event.at >= 95);
    assert!(spaced, "{progress:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_stays_below_a_slow_job() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let first = rig.submit(&rig.job("echo", "x")).await;
    rig.ended(first).await;
    let slow = rig.record(&rig.job("script", "sleep 3000"));
    let slow = rig.send(slow).await;
    let mut quick = Vec::new();
    for _ in 0..20 {
        quick.push(rig.submit(&rig.job("echo", "x")).await);
    }
    for id in &quick {
        rig.ended(*id).await;
    }
    // Several rounds of commits pass meanwhile.
    let begun = std::time::Instant::now();
    let mut committed = None;
    while begun.elapsed() < Duration::from_millis(1000) {
        committed = rig.committed(0).await;
        assert!(
            committed.is_none_or(|offset| offset <= slow.offset),
            "{committed:?}"
        );
    }
    assert_eq!(committed, Some(slow.offset));
    let end = slow.offset + 21;
    let limit = begun + support::LIMIT;
    while rig.committed(0).await != Some(end) {
        assert!(std::time::Instant::now() < limit, "all is done");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_jobs_than_may_be_held_all_end() {
    let rig = Rig::start().await;
    let mut few = settings();
    few.concurrency = 4;
    few.look_ahead = 4;
    let mut records = Vec::new();
    let mut ids = Vec::new();
    for number in 0..400 {
        let mut job = rig.job("script", "sleep 2");
        job.tier = Tier::ALL[number % 3];
        let mut record = rig.record(&job);
        record.partition = Some((number % 2) as i32);
        ids.push(job.job_id);
        records.push(rig.producer.enqueue(record).unwrap());
    }
    for record in records {
        record.await.unwrap();
    }
    let worker = rig.worker(usual_types(), few).await;
    for id in ids {
        let said = rig.ended(id).await;
        let ends = said.iter().filter(|s| s.event.kind.is_terminal()).count();
        assert_eq!(ends, 1, "each ran once");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_jobs_end_and_commits_them() {
    let rig = Rig::start().await;
    let worker = rig.worker(usual_types(), settings()).await;
    let id = rig.submit(&rig.job("script", "sleep 1500")).await;
    until("it is started", || (!rig.said(id).is_empty()).then_some(())).await;
    let readiness = worker.readiness.clone();
    worker.stop().await;
    assert!(!readiness.is_ready());
    assert_eq!(
        rig.ended(id).await.last().unwrap().event.kind,
        EventKind::Completed
    );
    assert_eq!(rig.committed(0).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_the_grace_runs_again_elsewhere() {
    let rig = Rig::start().await;
    let mut hasty = settings();
    hasty.grace = Duration::from_millis(600);
    let worker = rig.worker(usual_types(), hasty).await;
    let id = rig.submit(&rig.job("script", "sleep 4000")).await;
    until("it is started", || (!rig.said(id).is_empty()).then_some(())).await;
    worker.stop().await;
    let ended = rig
        .said(id)
        .iter()
        .any(|seen| seen.event.kind.is_terminal());
    assert!(!ended, "it was cut off");
    assert_ne!(rig.committed(0).await, Some(1));
    let next = rig.worker(usual_types(), settings()).await;
    assert_eq!(
        rig.ended(id).await.last().unwrap().event.kind,
        EventKind::Completed
    );
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_lives_through_a_broker_that_is_away() {
    let rig = Rig::start().await;
    rig.broker.set_reachable(false).await.unwrap();
    let worker = rig.worker(usual_types(), settings()).await;
    until("it says why", || {
        let report = worker.readiness.report();
        let broker = report.conditions.iter().find(|c| c.name == "broker")?;
        let reason = broker.reason.clone()?;
        (!broker.ok && reason != "starting").then_some(())
    })
    .await;
    rig.broker.set_reachable(true).await.unwrap();
    worker.ready().await;
    let id = rig.submit(&rig.job("script", "sleep 2000")).await;
    until("it is started", || (!rig.said(id).is_empty()).then_some(())).await;
    rig.broker.set_reachable(false).await.unwrap();
    until("not ready", || (!worker.readiness.is_ready()).then_some(())).await;
    // The outcome comes about while nobody can take it.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    rig.broker.set_reachable(true).await.unwrap();
    assert_eq!(
        rig.ended(id).await.last().unwrap().event.kind,
        EventKind::Completed
    );
    worker.ready().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_topics_are_said_in_one_sentence() {
    let rig = Rig::start().await;
    let mut gpu = settings();
    gpu.pools = vec!["gpu".parse().unwrap()];
    let worker = rig.worker(types([("echo", HandlerSpec::Echo)]), gpu).await;
    let reason = until("the topics are looked at", || {
        let report = worker.readiness.report();
        let topics = report.conditions.iter().find(|c| c.name == "topics")?;
        topics.reason.clone().filter(|reason| reason != "starting")
    })
    .await;
    assert!(reason.contains("run `tidegate topics create`"), "{reason}");
    worker.stop().await;
}
