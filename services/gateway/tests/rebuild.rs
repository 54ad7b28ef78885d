//! What a rebuild leaves to the gateways, on the embedded broker.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Bench, event, until};
use tidegate_contract::{EventKind, JobId, Pool, Status};
use tidegate_gateway::rebuild::{Figures, Rebuild, RebuildError};
use tidegate_store::{Batch, Store};

async fn rebuild(bench: &Bench) -> Result<Figures, RebuildError> {
    let rebuild = Rebuild {
        cluster: bench.broker.cluster(),
        codec: bench.codec.clone(),
        store: Arc::clone(&bench.store) as Arc<dyn Store>,
        pools: vec![Pool::default()],
    };
    rebuild.run(|_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_gateway_has_judged_is_left_to_them() {
    let bench = Bench::new(2).await;
    let ids: Vec<_> = (0..5).map(|_| JobId::generate()).collect();
    bench
        .reply(0, &event(ids[0], EventKind::Completed, "a"))
        .await;
    let unread = event(ids[1], EventKind::Completed, "lost");
    bench
        .write(0, &unread, Bytes::from_static(b"no Avro"))
        .await;
    bench
        .reply(0, &event(ids[2], EventKind::Completed, "behind it"))
        .await;
    bench.reply(1, &event(ids[3], EventKind::Started, "")).await;
    bench
        .reply(1, &event(ids[3], EventKind::Completed, "b"))
        .await;
    bench
        .reply(1, &event(ids[3], EventKind::Failed, "late"))
        .await;

    let figures = rebuild(&bench).await.unwrap();
    assert_eq!(
        (figures.applied, figures.late, figures.unreadable),
        (3, 1, 0)
    );
    assert_eq!(figures.rows, Some(vec![(Status::Completed, 2)]));
    assert_eq!(figures.left.len(), 1, "{figures:?}");
    assert_eq!((figures.left[0].partition, figures.left[0].from), (0, 1));
    assert_eq!(bench.store.job(ids[2]).await.unwrap().row(), None);
    // What is not projected whole is not said to be.
    let marks = bench.store.caught_up_by_partition().await.unwrap();
    assert!(marks[&0].is_none() && marks[&1].is_some(), "{marks:?}");
    assert!(matches!(rebuild(&bench).await, Err(RebuildError::NotEmpty)));

    // A gateway goes on there: it sets the record aside, ends its job and projects the rest.
    let gateway = bench.gateway("g1", 1 << 20).await;
    assert_eq!(bench.ended(ids[1]).await.status, Status::Failed);
    assert_eq!(bench.ended(ids[2]).await.status, Status::Completed);
    gateway
        .replies
        .stop(std::time::Duration::from_secs(10))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_somebody_else_projects_is_left_to_them() {
    let bench = Bench::new(2).await;
    let ids = [JobId::generate(), JobId::generate()];
    for (partition, id) in [0, 1].into_iter().zip(ids) {
        bench
            .reply(partition, &event(id, EventKind::Completed, "x"))
            .await;
    }
    // A gateway comes between the look whether the store is empty and the first batch.
    let cluster = bench.broker.cluster();
    let info = cluster
        .probe(std::time::Duration::from_secs(10))
        .await
        .unwrap();
    let theirs = Batch {
        partition: 1,
        cluster_id: info.cluster_id,
        expected: 0,
        next: 1,
        last_key: ids[1].to_string(),
        first: true,
        events: vec![event(ids[1], EventKind::Completed, "theirs")],
        follow_ups: None,
    };
    bench.store.project(theirs).await.unwrap();
    bench.store.pretend_empty();
    let figures = until("the broker answers", || async {
        rebuild(&bench).await.ok()
    })
    .await;
    assert_eq!(figures.left.len(), 1, "{figures:?}");
    assert_eq!((figures.left[0].partition, figures.left[0].from), (1, 0));
    assert_eq!((figures.applied, figures.reply_records), (1, 1));
    assert_eq!(figures.rows, Some(vec![(Status::Completed, 2)]));
}
