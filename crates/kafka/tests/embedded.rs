//! Producer and consumers on the broker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use tidegate_contract::Secret;
use tidegate_kafka::{
    Cluster, ConsumerEvent, GroupConsumer, GroupOptions, KafkaSettings, ProduceError,
};
use tokio_util::sync::CancellationToken;

use common::{broker, broker_with, out, record, topic, until, within};

const REPLIES: &str = "tidegate.replies";

fn group(cluster: &Cluster, topic: &str, name: &str) -> GroupConsumer {
    let options = GroupOptions::new(topic, name, "test");
    cluster.group_consumer(options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_arrives_as_it_was_sent() {
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let consumer = group(&cluster, "a", "g");
    let sent = out("a", Some(2), "k\u{e4}", vec![0, 159, 146, 150]);
    let at = within(producer.send(sent.clone())).await.unwrap();
    let read = record(async || consumer.next().await).await;
    assert_eq!(
        (read.topic.as_str(), read.partition, read.offset),
        ("a", at.partition, at.offset)
    );
    assert_eq!(at.partition, 2);
    assert_eq!(read.key.as_deref(), Some(sent.key.as_bytes()));
    assert_eq!(read.headers, sent.headers);
    assert_eq!(read.payload, Some(sent.payload));
    assert!(read.timestamp.is_some());
    assert_eq!(producer.in_flight(), 0);
    consumer.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_can_be_asked() {
    let broker = broker();
    let cluster = broker.cluster();
    let info = cluster.probe(Duration::from_secs(5)).await.unwrap();
    assert!(!info.cluster_id.is_empty());
    assert_eq!(info.brokers, 1);
    let names = ["a".to_owned(), "b".to_owned(), REPLIES.to_owned()];
    let found = cluster.describe(&names).await.unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|t| (t.name.as_str(), t.partitions))
        .collect();
    assert_eq!(shown, [("a", 3), (REPLIES, 4)]);
    let made = cluster.create_topics(&[topic("b", 5), topic("a", 9)]).await;
    use tidegate_kafka::CreateOutcome::*;
    let few = TooFewPartitions {
        found: 3,
        planned: 9,
    };
    assert_eq!(
        made.unwrap(),
        [("b".to_owned(), Created), ("a".to_owned(), few)]
    );
    assert_eq!(cluster.describe(&names).await.unwrap().len(), 3);
    broker.set_reachable(false).await.unwrap();
    let begun = Instant::now();
    assert!(
        cluster
            .probe(Duration::from_secs(1))
            .await
            .unwrap_err()
            .is_transient()
    );
    assert!(begun.elapsed() < Duration::from_secs(4));
    broker.set_reachable(true).await.unwrap();
    until(async || cluster.probe(Duration::from_secs(1)).await.is_ok()).await;
}

/// A consumer that is dropped in the middle of a wait loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn next_can_be_cancelled() {
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let consumer = cluster.assigned_consumer_of("a", "test").unwrap();
    consumer.assign(0, 0).unwrap();
    for n in 0..200 {
        drop(
            producer
                .enqueue(out("a", Some(0), &n.to_string(), "x"))
                .unwrap(),
        );
    }
    let mut seen = Vec::new();
    within(async {
        while seen.len() < 200 {
            let next = tokio::time::timeout(Duration::from_micros(200), consumer.next());
            if let Ok(ConsumerEvent::Record(record)) = next.await {
                seen.push(record.offset);
            }
        }
    })
    .await;
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_assigned_and_taken_while_it_runs() {
    let broker = broker();
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    for partition in 0..3 {
        for n in 0..5 {
            within(producer.send(out(REPLIES, Some(partition), &n.to_string(), "x")))
                .await
                .unwrap();
        }
    }
    let consumer = cluster.assigned_consumer("test").unwrap();
    let next = async || {
        let record = record(async || consumer.next().await).await;
        (record.partition, record.offset)
    };
    consumer.assign(0, 3).unwrap();
    assert_eq!(next().await, (0, 3));
    assert_eq!(next().await, (0, 4));
    consumer.assign(1, 4).unwrap();
    assert_eq!(next().await, (1, 4));
    consumer.assign_end(2).unwrap();
    // Assigned again: from the new place.
    consumer.assign(0, 4).unwrap();
    assert_eq!(next().await, (0, 4));
    consumer.unassign(0);
    consumer.unassign(3);
    // From the end means from when the broker was asked for it.
    let sent = Instant::now();
    let mut found = None;
    while found.is_none() && sent.elapsed() < common::LIMIT {
        within(producer.send(out(REPLIES, Some(0), "lost", "x")))
            .await
            .unwrap();
        within(producer.send(out(REPLIES, Some(2), "end", "x")))
            .await
            .unwrap();
        let next = tokio::time::timeout(Duration::from_millis(300), consumer.next());
        if let Ok(ConsumerEvent::Record(record)) = next.await {
            assert_eq!(record.partition, 2, "partition 0 was taken away");
            assert!(record.offset >= 5);
            found = Some(record);
        }
    }
    assert!(found.is_some());
    assert_eq!(consumer.watermarks(1).await.unwrap(), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_broker_away_outcomes_are_bounded_and_honest() {
    let settings = KafkaSettings {
        brokers: "127.0.0.1:1".into(),
        produce_timeout: Duration::from_secs(1),
        queue_messages: 10,
        ..Default::default()
    };
    let producer = Cluster::new(settings).producer("test").unwrap();
    let begun = Instant::now();
    let mut waiting = Vec::new();
    let full = loop {
        match producer.enqueue(out("a", None, "k", "x")) {
            Ok(outcome) => waiting.push(outcome),
            Err(error) => break error,
        }
    };
    assert_eq!(full, ProduceError::QueueFull);
    assert_eq!(waiting.len(), 10);
    assert!(begun.elapsed() < Duration::from_millis(500), "at once");
    for outcome in futures::future::join_all(waiting).await {
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, ProduceError::Unknown(_) | ProduceError::Refused(_)),
            "{error:?}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let stop = CancellationToken::new();
    stop.cancel();
    let kept = within(producer.send_until_acked(out("a", None, "k", "x"), &stop)).await;
    assert!(kept.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_written_are_refused() {
    let settings = KafkaSettings {
        max_record_bytes: 10_000,
        ..Default::default()
    };
    let broker = broker_with(settings);
    let producer = broker.cluster().producer("test").unwrap();
    let too_large = producer.send(out("a", None, "k", vec![0; 20_000])).await;
    assert!(matches!(
        too_large,
        Err(ProduceError::TooLarge { limit: 10_000, .. })
    ));
    let stop = CancellationToken::new();
    let too_large = producer.send_until_acked(out("a", None, "k", vec![0; 20_000]), &stop);
    assert!(matches!(
        within(too_large).await,
        Err(ProduceError::TooLarge { .. })
    ));
    for (topic, partition) in [("a", Some(99)), ("not-there", None)] {
        let begun = Instant::now();
        let refused = within(producer.send(out(topic, partition, "k", "x"))).await;
        assert!(
            matches!(refused, Err(ProduceError::Refused(_))),
            "{topic}: {refused:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

/// The broker goes away under load and comes back: what was sent until acknowledged is there, and reading goes on by
/// itself.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_everything_goes_on() {
    let settings = KafkaSettings {
        produce_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let broker = broker_with(settings);
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let consumer = cluster.assigned_consumer_of("a", "test").unwrap();
    consumer.assign(0, 0).unwrap();
    // The first connection may take longer than one produce may.
    let stop = CancellationToken::new();
    let before = producer.send_until_acked(out("a", Some(0), "before", "x"), &stop);
    within(before).await.unwrap();
    assert_eq!(record(async || consumer.next().await).await.offset, 0);
    broker.set_reachable(false).await.unwrap();
    let begun = Instant::now();
    assert!(
        producer
            .send(out("a", Some(0), "during", "x"))
            .await
            .is_err()
    );
    assert!(begun.elapsed() < Duration::from_secs(4));
    let sender = producer.clone();
    let kept = tokio::spawn(async move {
        sender
            .send_until_acked(out("a", Some(0), "kept", "x"), &stop)
            .await
    });
    broker.set_reachable(true).await.unwrap();
    within(kept).await.unwrap().unwrap();
    within(async {
        loop {
            let record = record(async || consumer.next().await).await;
            if record.key.as_deref() == Some(b"kept") {
                break;
            }
        }
    })
    .await;
    producer.flush(Duration::from_secs(5)).await.unwrap();
}

/// Nothing that was accepted is dropped by the mock, however much is offered before anybody reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_is_full_before_it_forgets() {
    let settings = KafkaSettings {
        linger: Duration::ZERO,
        ..Default::default()
    };
    let broker = broker_with(settings);
    let cluster = broker.cluster();
    let producer = cluster.producer("test").unwrap();
    let mut accepted = 0;
    let full = within(async {
        loop {
            let n = accepted % 7 * 10_000 + 1;
            match producer
                .send(out("a", None, &accepted.to_string(), vec![1; n]))
                .await
            {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert!(matches!(full, ProduceError::EmbeddedFull(_)), "{full:?}");
    assert!(accepted > 100);
    // Other topics have room of their own.
    within(producer.send(out(REPLIES, Some(1), "k", "x")))
        .await
        .unwrap();
    let consumer = group(&cluster, "a", "g");
    let mut ends = [0; 3];
    let mut seen = vec![false; accepted];
    for _ in 0..accepted {
        let record = record(async || consumer.next().await).await;
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        let n: usize = key.parse().unwrap();
        assert!(!std::mem::replace(&mut seen[n], true));
        ends[record.partition as usize] = record.offset + 1;
    }
    assert!(seen.iter().all(|seen| *seen));
    // Reading alone does not make room, saying so does.
    let more = producer.send(out("a", None, "more", vec![1; 60_000])).await;
    assert!(matches!(more, Err(ProduceError::EmbeddedFull(_))));
    consumer.commit(&[(0, ends[0]), (1, ends[1]), (2, ends[2])]);
    within(producer.send(out("a", None, "more", vec![1; 60_000])))
        .await
        .unwrap();
}

#[test]
fn settings_that_cannot_be_used_are_told() {
    let wrong = [("security.protocol".to_owned(), Secret::new("none-such"))];
    let settings = KafkaSettings {
        librdkafka: wrong.into(),
        ..Default::default()
    };
    let cluster = Cluster::new(settings);
    let error = cluster.producer("test").err().unwrap().to_string();
    assert!(error.contains("security.protocol"), "{error}");
    let options = GroupOptions::new("a", "g", "test");
    let error = cluster.group_consumer(options).err().unwrap().to_string();
    assert!(error.contains("runtime"), "{error}");
}
