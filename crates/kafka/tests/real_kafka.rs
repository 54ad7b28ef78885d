//! Topics and groups on a real broker, named by TIDEGATE_TEST_KAFKA. Every test has a prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_contract::{JobId, Pool};
use tidegate_kafka::{
    Cluster, ConsumerEvent, CreateOutcome, Durability, GroupOptions, KafkaSettings, OnRevoke,
    Position, ProduceError, check_topics, topic_plan,
};

use common::{out, record, server, topic, until, within};

const DAY: Duration = Duration::from_secs(86_400);

fn settings() -> KafkaSettings {
    KafkaSettings {
        brokers: server("TIDEGATE_TEST_KAFKA"),
        prefix: format!("test-{}.", JobId::generate()),
        durability: Durability::SingleBroker,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_described_and_checked() {
    let settings = settings();
    let cluster = Cluster::new(settings.clone());
    let info = cluster.probe(Duration::from_secs(10)).await.unwrap();
    assert!(!info.cluster_id.is_empty() && info.brokers > 0);

    let plan = topic_plan(&settings, &[Pool::default()], 7 * DAY);
    let names: Vec<_> = plan.iter().map(|topic| topic.name.clone()).collect();
    let found = cluster.describe(&names).await.unwrap();
    let missing = check_topics(&plan, &found, settings.durability).unwrap_err();
    assert!(
        missing.to_string().contains("tidegate topics create"),
        "{missing}"
    );

    for outcome in [CreateOutcome::Created, CreateOutcome::Exists] {
        let made = cluster.create_topics(&plan).await.unwrap();
        assert!(made.iter().all(|(_, made)| *made == outcome), "{made:?}");
        until(async || cluster.describe(&names).await.unwrap().len() == names.len()).await;
    }
    let found = cluster.describe(&names).await.unwrap();
    assert_eq!(check_topics(&plan, &found, settings.durability), Ok(()));
    for (planned, info) in plan.iter().zip(&found) {
        assert_eq!(
            (&info.name, info.partitions),
            (&planned.name, planned.partitions)
        );
        assert_eq!(info.replication, planned.replication);
        assert_eq!(info.min_insync, Some(planned.min_insync));
        assert_eq!(
            info.retention_ms,
            Some(planned.retention.as_millis() as i64)
        );
        assert_eq!(
            info.max_message_bytes,
            Some(planned.max_message_bytes as i64)
        );
        assert_eq!(info.unclean_election, Some(false));
    }

    let replicated = KafkaSettings {
        durability: Durability::Replicated,
        ..settings.clone()
    };
    let wanted = topic_plan(&replicated, &[Pool::default()], 7 * DAY);
    let problem = check_topics(&wanted, &found, Durability::Replicated).unwrap_err();
    assert!(problem.to_string().contains("single-broker"), "{problem}");
    let more = [topic(&names[0], 99)];
    let made = cluster.create_topics(&more).await.unwrap();
    let few = CreateOutcome::TooFewPartitions {
        found: 12,
        planned: 99,
    };
    assert_eq!(made, [(names[0].clone(), few)]);
}

/// A record as large as the settings allow gets through, and one a little larger is refused here.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_record_fits() {
    let cluster = Cluster::new(settings());
    let name = format!("{}large", cluster.topics().prefix());
    cluster.create_topics(&[topic(&name, 1)]).await.unwrap();
    let producer = cluster.producer("test").unwrap();
    // Bytes that do not compress.
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let largest: Vec<u8> = noise.take((2 << 20) - 150).collect();
    let sent = within(async {
        // The topic may be younger than what the producer knows.
        loop {
            match producer
                .send(out(&name, Some(0), "k", largest.clone()))
                .await
            {
                Err(ProduceError::Refused(_) | ProduceError::Unknown(_)) => {}
                other => break other,
            }
        }
    });
    sent.await.unwrap();
    let larger = producer
        .send(out(&name, Some(0), "k", vec![0; 2 << 20]))
        .await;
    assert!(matches!(larger, Err(ProduceError::TooLarge { .. })));
    let consumer = cluster.assigned_consumer_of(&name, "test").unwrap();
    consumer.assign(0, 0).unwrap();
    let read = record(async || consumer.next().await).await;
    assert_eq!(read.payload.unwrap(), largest);
}

/// A consumer that was there before its topic finds it within some seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_found() {
    let cluster = Cluster::new(settings());
    let name = format!("{}later", cluster.topics().prefix());
    let options = GroupOptions::new(&name, format!("{name}.g"), "test");
    let consumer = cluster.group_consumer(options).unwrap();
    within(async { while !matches!(consumer.next().await, ConsumerEvent::Trouble(_)) {} }).await;
    cluster.create_topics(&[topic(&name, 2)]).await.unwrap();
    let begun = Instant::now();
    within(async {
        loop {
            if let ConsumerEvent::Assigned(partitions) = consumer.next().await {
                assert_eq!(partitions.len(), 2);
                break;
            }
        }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    consumer.close(Duration::from_secs(5)).await;
}

/// Members join and leave while records flow: what was committed is not read again, and nothing is missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_hands_partitions_over_without_gap_or_repeat() {
    const PARTITIONS: i32 = 8;
    const RECORDS: usize = 2_000;

    /// What one member has read; all of it counts as done.
    #[derive(Default)]
    struct Positions(Mutex<Vec<(i32, i64)>>);
    impl Positions {
        fn read(&self, partition: i32, offset: i64) {
            let mut all = self.0.lock().unwrap();
            all.retain(|(known, _)| *known != partition);
            all.push((partition, offset + 1));
        }
    }
    impl OnRevoke for Positions {
        fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<Position> {
            let all = self.0.lock().unwrap();
            let taken = all.iter().filter(|(known, _)| partitions.contains(known));
            taken.copied().map(Into::into).collect()
        }
    }

    let cluster = Cluster::new(settings());
    let name = format!("{}handed", cluster.topics().prefix());
    cluster
        .create_topics(&[topic(&name, PARTITIONS)])
        .await
        .unwrap();
    let seen = Arc::new(Mutex::new(vec![0u32; RECORDS]));
    let join = |member: usize| {
        let positions = Arc::new(Positions::default());
        let mut options = GroupOptions::new(&name, format!("{name}.g"), format!("m{member}"));
        options.on_revoke = Some(positions.clone());
        let consumer = Arc::new(cluster.group_consumer(options).unwrap());
        let (reader, seen) = (consumer.clone(), seen.clone());
        let owned = Arc::new(Mutex::new(Vec::<i32>::new()));
        let mine = owned.clone();
        let task = tokio::spawn(async move {
            loop {
                match reader.next().await {
                    ConsumerEvent::Assigned(new) => mine.lock().unwrap().extend(new),
                    ConsumerEvent::Revoked(lost) => {
                        mine.lock().unwrap().retain(|p| !lost.contains(p));
                    }
                    ConsumerEvent::Record(record) => {
                        assert!(mine.lock().unwrap().contains(&record.partition));
                        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                        seen.lock().unwrap()[key.parse::<usize>().unwrap()] += 1;
                        positions.read(record.partition, record.offset);
                    }
                    _ => {}
                }
            }
        });
        (consumer, task, owned)
    };
    let first = join(1);
    until(async || first.2.lock().unwrap().len() == PARTITIONS as usize).await;

    let producer = cluster.producer("test").unwrap();
    let (topic_name, stop) = (name.clone(), tokio_util::sync::CancellationToken::new());
    let writer = tokio::spawn(async move {
        for n in 0..RECORDS {
            let sent = out(
                &topic_name,
                Some(n as i32 % PARTITIONS),
                &n.to_string(),
                "x",
            );
            producer.send_until_acked(sent, &stop).await.unwrap();
        }
    });
    let begun = Instant::now();
    let second = join(2);
    until(async || second.2.lock().unwrap().len() == PARTITIONS as usize / 2).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    first.0.close(Duration::from_secs(10)).await;
    first.1.abort();
    until(async || second.2.lock().unwrap().len() == PARTITIONS as usize).await;
    within(writer).await.unwrap();
    until(async || seen.lock().unwrap().iter().all(|count| *count > 0)).await;
    assert!(seen.lock().unwrap().iter().all(|count| *count == 1));
    assert!(!second.1.is_finished(), "an assertion in the reader failed");
    second.0.close(Duration::from_secs(10)).await;
    second.1.abort();
}
