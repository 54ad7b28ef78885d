//! Replies from topic to wait and store, on the embedded broker.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Bench, event, until};
use tidegate_contract::{EventKind, JobId, Status, now_millis};
use tidegate_store::{Batch, Store};

const ROOMY: usize = 8 << 20;

fn body(row: &tidegate_store::JobRow) -> String {
    let outcome = row.outcome.as_ref().unwrap();
    String::from_utf8(outcome.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_completes_its_wait_and_reaches_the_store() {
    let bench = Bench::new(4).await;
    let gateway = bench.gateway("g1", ROOMY).await;
    let home = gateway.home().await;
    let (waited, unwaited) = (JobId::generate(), JobId::generate());
    let mut wait = gateway.waits.open(waited, home).unwrap();
    bench
        .reply(home, &event(waited, EventKind::Started, ""))
        .await;
    bench
        .reply(home, &event(unwaited, EventKind::Completed, "b"))
        .await;
    bench
        .reply(home, &event(waited, EventKind::Completed, "a"))
        .await;
    bench
        .reply(home, &event(waited, EventKind::Failed, "late"))
        .await;
    let ended = wait.outcome().await;
    assert_eq!(ended.event.kind, EventKind::Completed);
    assert_eq!(body(&bench.ended(unwaited).await), "b");
    let row = bench.ended(waited).await;
    assert_eq!((row.status, body(&row).as_str()), (Status::Completed, "a"));
    // What was produced before now is known to be applied a moment later.
    let now = now_millis();
    until("the projection says it is not behind", || async {
        gateway
            .replies
            .lag_horizon()
            .await
            .filter(|horizon| *horizon > now)
    })
    .await;
    gateway.replies.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_while_the_store_is_away_and_the_projection_catches_up() {
    let bench = Bench::new(1).await;
    let gateway = bench.gateway("g1", 20_000).await;
    let home = gateway.home().await;
    bench.store.set_away(true);
    let mut ids = Vec::new();
    // Far more than the queue holds.
    for number in 0..400 {
        let id = JobId::generate();
        let mut wait = gateway.waits.open(id, home).unwrap();
        bench
            .reply(home, &event(id, EventKind::Completed, &number.to_string()))
            .await;
        let ended = tokio::time::timeout(Duration::from_secs(10), wait.outcome());
        ended
            .await
            .unwrap_or_else(|_| panic!("wait {number} hangs"));
        ids.push(id);
    }
    assert!(!gateway.replies.store_ok());
    bench.store.set_away(false);
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(body(&bench.ended(id).await), number.to_string());
    }
    let position = bench.store.inner.position(home).await.unwrap().unwrap();
    assert_eq!(position.next_offset, 400);
    until("the store is known to answer", || async {
        gateway.replies.store_ok().then_some(())
    })
    .await;
    gateway.replies.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_wait_is_served_when_its_partition_moves() {
    let bench = Bench::new(2).await;
    let first = bench.gateway("g1", ROOMY).await;
    let home = first.home().await;
    let ids = [(0, JobId::generate()), (1, JobId::generate())];
    let mut waits = ids.map(|(partition, id)| first.waits.open(id, partition).unwrap());
    let second = bench.gateway("g2", ROOMY).await;
    // Each has one of the two partitions now, so one of the waits is on a partition of the other gateway.
    let other = second.home().await;
    until("the partitions are shared out", || async {
        (first.replies.home()? != second.replies.home()?).then_some(())
    })
    .await;
    assert!(
        [home, other]
            .iter()
            .all(|partition| (0..2).contains(partition))
    );
    for (partition, id) in ids {
        bench
            .reply(partition, &event(id, EventKind::Completed, "moved"))
            .await;
    }
    for wait in &mut waits {
        let ended = tokio::time::timeout(Duration::from_secs(20), wait.outcome()).await;
        assert_eq!(
            ended.expect("the wait is served").event.kind,
            EventKind::Completed
        );
    }
    for (_, id) in ids {
        assert_eq!(bench.ended(id).await.status, Status::Completed);
    }
    second.replies.stop(Duration::from_secs(10)).await;
    first.replies.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_read_ends_its_job_and_holds_nobody_up() {
    let bench = Bench::new(1).await;
    let gateway = bench.gateway("g1", ROOMY).await;
    let home = gateway.home().await;
    let unknown_schema = [&[0, 0, 0, 0x7f, 0x7f][..], b"??"].concat();
    let mut broken = Vec::new();
    for payload in [
        Bytes::from_static(b"not avro"),
        Bytes::new(),
        Bytes::from(unknown_schema),
    ] {
        let id = JobId::generate();
        let wait = gateway.waits.open(id, home).unwrap();
        bench
            .write(home, &event(id, EventKind::Completed, ""), payload)
            .await;
        broken.push((id, wait));
    }
    let after = JobId::generate();
    bench
        .reply(home, &event(after, EventKind::Completed, "fine"))
        .await;
    assert_eq!(body(&bench.ended(after).await), "fine");
    for (id, mut wait) in broken {
        assert_eq!(wait.outcome().await.event.kind, EventKind::Failed);
        let row = bench.ended(id).await;
        assert_eq!(row.error.unwrap().code, "unreadable-record");
    }
    let letters = bench.broker.cluster().topics().dead_letters();
    let reader = bench
        .broker
        .cluster()
        .assigned_consumer_of(&letters, "reader")
        .unwrap();
    until("three dead letters", || async {
        (reader.watermarks(0).await.ok()?.1 == 3).then_some(())
    })
    .await;
    gateway.replies.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_was_faster_is_followed() {
    let bench = Bench::new(1).await;
    let gateway = bench.gateway("g1", ROOMY).await;
    let home = gateway.home().await;
    let cluster_id = bench
        .broker
        .cluster()
        .probe(Duration::from_secs(5))
        .await
        .unwrap()
        .cluster_id;
    let (theirs, ours) = (JobId::generate(), JobId::generate());
    // A gateway that has not noticed yet that it lost the partition applies the first record before we do.
    bench.store.set_away(true);
    let first = event(theirs, EventKind::Completed, "once");
    bench.reply(home, &first).await;
    let zombie = Batch {
        partition: home,
        cluster_id,
        expected: 0,
        next: 1,
        last_key: theirs.to_string(),
        first: false,
        events: vec![first],
        follow_ups: None,
    };
    bench.store.inner.project(zombie).await.unwrap();
    bench.store.set_away(false);
    bench
        .reply(home, &event(ours, EventKind::Completed, "next"))
        .await;
    assert_eq!(body(&bench.ended(ours).await), "next");
    assert_eq!(body(&bench.ended(theirs).await), "once");
    gateway.replies.stop(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_cluster_is_refused_in_a_sentence() {
    let bench = Bench::new(1).await;
    let foreign = Batch {
        partition: 0,
        cluster_id: "another".into(),
        expected: 0,
        next: 0,
        last_key: String::new(),
        first: true,
        events: vec![],
        follow_ups: None,
    };
    bench.store.project(foreign).await.unwrap();
    let gateway = bench.gateway("g1", ROOMY).await;
    let reason = until("refused", || async {
        gateway
            .not_ready_because()
            .filter(|reason| reason.contains("cluster"))
    })
    .await;
    assert!(reason.contains("another"), "{reason}");
    gateway.replies.stop(Duration::from_secs(10)).await;
}
