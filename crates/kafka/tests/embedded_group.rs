//! Members of a group on the broker in this process: what they are given, take back and commit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_kafka::{Cluster, ConsumerEvent, GroupConsumer, GroupOptions, OnRevoke, Position};

use common::{broker, out, record, until, within};

const REPLIES: &str = "tidegate.replies";

fn group(cluster: &Cluster, topic: &str, name: &str) -> GroupConsumer {
    let options = GroupOptions::new(topic, name, "test");
    cluster.group_consumer(options).unwrap()
}

/// Two members share a topic that is written by explicit partition; each sees `Revoked` and `Assigned` in order, and
/// no record of a partition that it was told it lost. What the hook says is committed before a partition moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_over_where_the_first_committed() {
    #[derive(Default)]
    struct Done(Mutex<Vec<i64>>);
    impl OnRevoke for Done {
        fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<Position> {
            let done = self.0.lock().unwrap();
            let positions = partitions.iter().map(|p| (*p, done[*p as usize]).into());
            positions.collect()
        }
    }
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let done = Arc::new(Done(Mutex::new(vec![0; 4])));
    let mut options = GroupOptions::new(REPLIES, "g", "first");
    options.on_revoke = Some(done.clone());
    let first = cluster.group_consumer(options).unwrap();
    for partition in 0..4 {
        for n in 0..3 {
            let sent = out(REPLIES, Some(partition), &format!("{partition}-{n}"), "x");
            within(producer.send(sent)).await.unwrap();
        }
    }
    let mut read = 0;
    while read < 12 {
        let record = record(async || first.next().await).await;
        done.0.lock().unwrap()[record.partition as usize] = record.offset + 1;
        read += 1;
    }
    let second = group(&cluster, REPLIES, "g");
    let (mut given, mut taken, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    within(async {
        while given.is_empty() || taken.is_empty() {
            tokio::select! {
                event = first.next() => match event {
                    ConsumerEvent::Revoked(p) => given = p,
                    ConsumerEvent::Record(r) => panic!("again: {r:?}"),
                    ConsumerEvent::Trouble(t) | ConsumerEvent::Committed(Err(t)) => refused.push(t),
                    _ => {}
                },
                event = second.next() => match event {
                    ConsumerEvent::Assigned(p) => taken = p,
                    ConsumerEvent::Record(r) => panic!("committed: {r:?}"),
                    _ => {}
                },
            }
        }
    })
    .await;
    given.sort();
    taken.sort();
    assert_eq!(given, taken);
    assert_eq!(given.len(), 2);
    for partition in 0..4 {
        let sent = out(REPLIES, Some(partition), "new", "x");
        assert_eq!(within(producer.send(sent)).await.unwrap().offset, 3);
    }
    // The mock refuses the sync of a member that comes after the leader's, which a real broker answers. That member joins
    // again, and while it does the mock refuses commits too. Then what was read is read again, and nothing is missing.
    let begin = match refused.as_slice() {
        [] => 3,
        [one] if one.contains("RebalanceInProgress") => 0,
        other => panic!("{other:?}"),
    };
    let mut next = BTreeMap::from([(taken[0], begin), (taken[1], begin)]);
    while next.values().any(|offset| *offset < 4) {
        let read = record(async || second.next().await).await;
        let expected = next.get_mut(&read.partition).unwrap();
        assert_eq!(read.offset, *expected);
        *expected += 1;
    }
    for _ in 0..2 {
        let read = record(async || first.next().await).await;
        assert!(!taken.contains(&read.partition));
        assert_eq!((read.key.as_deref(), read.offset), (Some(&b"new"[..]), 3));
    }
    let committed = second.committed(&taken).await.unwrap();
    let expected = (begin > 0).then_some(begin);
    assert_eq!(committed, [(taken[0], expected), (taken[1], expected)]);
    tokio::join!(
        first.close(Duration::from_secs(10)),
        second.close(Duration::from_secs(10))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_seek_resume_and_commit() {
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let mut options = GroupOptions::new("a", "g", "test");
    options.partition_eof = true;
    let consumer = cluster.group_consumer(options).unwrap();
    for n in 0..10 {
        within(producer.send(out("a", Some(1), &n.to_string(), "x")))
            .await
            .unwrap();
    }
    within(async {
        loop {
            if let ConsumerEvent::Assigned(partitions) = consumer.next().await {
                assert_eq!(partitions.len(), 3);
                break;
            }
        }
    })
    .await;
    // A position that was kept elsewhere wins over the committed one, right after the assignment.
    consumer.seek(1, 4).await.unwrap();
    let next = async || record(async || consumer.next().await).await.offset;
    assert_eq!(next().await, 4);
    assert_eq!(next().await, 5);
    consumer.pause(&[1]);
    within(producer.send(out("a", Some(2), "other", "x")))
        .await
        .unwrap();
    let other = record(async || consumer.next().await).await;
    assert_eq!(other.partition, 2);
    consumer.resume(&[1]);
    assert_eq!(next().await, 6);
    consumer.pause(&[1]);
    consumer.seek(1, 1).await.unwrap();
    consumer.resume(&[1]);
    for expected in 1..10 {
        assert_eq!(next().await, expected);
    }
    within(async { while consumer.next().await != ConsumerEvent::EndOfPartition(1) {} }).await;
    assert_eq!(consumer.watermarks(1).await.unwrap(), (0, 10));
    consumer.commit_sync(&[(1, 7)]).await.unwrap();
    consumer.commit(&[(2, 1), (0, -1)]);
    // Told of although nobody waited, also where the broker refuses but one partition of it.
    for refused in [vec![(99, 1)], vec![(2, 1), (99, 1)]] {
        consumer.commit(&refused);
        within(async {
            while !matches!(consumer.next().await, ConsumerEvent::Committed(Err(_))) {}
        })
        .await;
    }
    until(async || {
        consumer.committed(&[0, 1, 2]).await.unwrap() == [(0, None), (1, Some(7)), (2, Some(1))]
    })
    .await;
    assert!(consumer.seek(99, 0).await.is_err());
    let backlog = cluster.group_backlog("g", "a").unwrap();
    let left = backlog.ask(3, Duration::from_secs(5)).await.unwrap();
    assert_eq!(left, [0, 3, 0]);
    let nobody = cluster.group_backlog("never-joined", "a").unwrap();
    let left = nobody.ask(3, Duration::from_secs(5)).await.unwrap();
    assert_eq!(left, [0, 10, 1], "all of it");
    consumer.close(Duration::from_secs(5)).await;
    let again = group(&cluster, "a", "g");
    assert_eq!(record(async || again.next().await).await.offset, 7);
}

/// A pause belongs to an assignment: the partition may come back to a reader that has forgotten all about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_paused_when_it_went_is_read_when_it_comes_back() {
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let first = group(&cluster, REPLIES, "g");
    let assigned = async || loop {
        if let ConsumerEvent::Assigned(partitions) = first.next().await {
            return partitions;
        }
    };
    let all = within(assigned()).await;
    assert_eq!(all.len(), 4);
    first.pause(&all);
    let second = group(&cluster, REPLIES, "g");
    let mut gone = within(async {
        loop {
            tokio::select! {
                event = first.next() => if let ConsumerEvent::Revoked(partitions) = event {
                    return partitions;
                },
                _ = second.next() => {}
            }
        }
    })
    .await;
    let mut back = within(async {
        let (partitions, ()) = tokio::join!(assigned(), second.close(Duration::from_secs(10)));
        partitions
    })
    .await;
    gone.sort();
    back.sort();
    assert_eq!(back, gone);
    for partition in &back {
        let sent = out(REPLIES, Some(*partition), "new", "x");
        within(producer.send(sent)).await.unwrap();
    }
    let mut read = Vec::new();
    while read.len() < back.len() {
        read.push(record(async || first.next().await).await.partition);
    }
    read.sort();
    assert_eq!(read, back);
    first.close(Duration::from_secs(10)).await;
}

/// A member that starts while the broker is away joins when it comes back, and can be closed in bounded time when it
/// has gone again.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_member_outlives_the_broker() {
    let broker = broker();
    let cluster = broker.cluster();
    broker.set_reachable(false).await.unwrap();
    let consumer = group(&cluster, "a", "g");
    let trouble = within(consumer.next()).await;
    assert!(matches!(trouble, ConsumerEvent::Trouble(_)), "{trouble:?}");
    broker.set_reachable(true).await.unwrap();
    let producer = cluster.producer("test").unwrap();
    within(producer.send(out("a", None, "k", "x")))
        .await
        .unwrap();
    record(async || consumer.next().await).await;
    broker.set_reachable(false).await.unwrap();
    let consumer = Arc::new(consumer);
    let reader = consumer.clone();
    let reader =
        tokio::spawn(
            async move { while reader.next().await != ConsumerEvent::EndOfPartition(9) {} },
        );
    let begun = Instant::now();
    consumer.close(Duration::from_secs(1)).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    let after = consumer.seek(0, 0).await.unwrap_err().to_string();
    assert!(after.contains("closed"), "{after}");
    reader.abort();
}
