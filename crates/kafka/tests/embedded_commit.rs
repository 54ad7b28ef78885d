//! What lies beside a committed offset.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use tidegate_kafka::{Committed, ConsumerEvent, GroupConsumer, GroupOptions, Position};

use common::{broker, within};

fn position(partition: i32, offset: i64, metadata: &str) -> Position {
    Position {
        partition,
        offset,
        metadata: metadata.to_owned(),
    }
}

fn kept(offset: i64, metadata: Option<&str>) -> Option<Committed> {
    Some(Committed {
        offset,
        metadata: metadata.map(str::to_owned),
    })
}

async fn assigned(consumer: &GroupConsumer) {
    within(async {
        loop {
            if let ConsumerEvent::Assigned(_) = consumer.next().await {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_lies_beside_the_offset() {
    let broker = broker();
    let cluster = broker.cluster();
    let consumer = cluster.group_consumer(GroupOptions::new("a", "g", "test"));
    let consumer = consumer.unwrap();
    // Nothing is ours yet.
    consumer.commit_sync(&[(0, 1)]).await.unwrap();
    assigned(&consumer).await;
    let committed = async || consumer.committed_whole(&[0, 1, 2]).await.unwrap();
    assert_eq!(committed().await, [(0, None), (1, None), (2, None)]);
    let first = [position(0, 3, "one"), position(1, 4, "")];
    consumer.commit_sync(&first).await.unwrap();
    // The same offset with another text.
    consumer
        .commit_sync(&[position(0, 3, "two")])
        .await
        .unwrap();
    assert_eq!(
        committed().await,
        [(0, kept(3, Some("two"))), (1, kept(4, Some(""))), (2, None)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_text_is_no_metadata_and_no_panic() {
    let broker = broker();
    commit_by_hand(broker.bootstrap(), "g", "a", 1, 5, b"\xff\xfe\x00");
    let cluster = broker.cluster();
    let consumer = cluster.group_consumer(GroupOptions::new("a", "g", "test"));
    let found = consumer.unwrap().committed_whole(&[1]).await.unwrap();
    assert_eq!(found, [(1, kept(5, None))]);
}

/// An OffsetCommit request, version 2, of somebody who is no member of the group.
fn commit_by_hand(
    bootstrap: &str,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    metadata: &[u8],
) {
    fn text(out: &mut Vec<u8>, text: &[u8]) {
        out.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text);
    }
    let mut request = Vec::new();
    for number in [8i16, 2] {
        request.extend(number.to_be_bytes());
    }
    request.extend(1i32.to_be_bytes());
    text(&mut request, b"other");
    text(&mut request, group.as_bytes());
    request.extend((-1i32).to_be_bytes());
    text(&mut request, b"");
    request.extend((-1i64).to_be_bytes());
    request.extend(1i32.to_be_bytes());
    text(&mut request, topic.as_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    request.extend(offset.to_be_bytes());
    text(&mut request, metadata);
    let mut stream = TcpStream::connect(bootstrap).unwrap();
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(&[0, 0]), "no error: {answer:?}");
}
