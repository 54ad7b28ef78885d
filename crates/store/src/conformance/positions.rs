//! The position of the projection.

use tidegate_contract::{EventKind, Status};

use super::Subject;
use super::samples::{BEGIN, CREATED, Partition, event, new_job};
use crate::error::StoreError;
use crate::types::{Applied, Lookup, Position, Projected};

fn sample(length: i64) -> Partition {
    let ends = (0..length).map(|n| event(new_job().id, EventKind::Completed, 1, CREATED + n));
    Partition {
        number: 7,
        events: ends.collect(),
    }
}

pub async fn a_batch_is_applied_from_its_own_position_only(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let log = sample(10);
    // A store that was emptied under a projection does not begin in the middle.
    let middle = log.batch(BEGIN + 4, BEGIN + 6);
    let unknown = Projected::Stale { stored: None };
    assert_eq!(a.project(middle.clone()).await, Ok(unknown));
    assert_eq!(a.position(7).await, Ok(None));

    let first = log.batch(BEGIN, BEGIN + 4);
    let applied = Projected::Applied(Applied::default());
    assert_eq!(a.project(first.clone()).await, Ok(applied.clone()));
    let stored = Position {
        cluster_id: "cluster-1".to_owned(),
        next_offset: BEGIN + 4,
        last_key: log.events[3].job_id.to_string(),
    };
    assert_eq!(b.position(7).await, Ok(Some(stored.clone())));

    // Behind, ahead, and the first one again: refused with the position, and nothing of them is there.
    let stale = Projected::Stale {
        stored: Some(stored.clone()),
    };
    for batch in [
        first,
        log.batch(BEGIN + 1, BEGIN + 9),
        log.batch(BEGIN + 6, BEGIN + 9),
    ] {
        assert_eq!(b.project(batch).await, Ok(stale.clone()));
    }
    assert_eq!(b.job(log.events[8].job_id).await, Ok(Lookup::Absent));
    assert_eq!(a.position(7).await, Ok(Some(stored)));

    assert_eq!(b.project(middle).await, Ok(applied));
    let mut backwards = log.batch(BEGIN + 6, BEGIN + 7);
    backwards.next = BEGIN;
    assert!(matches!(
        a.project(backwards).await,
        Err(StoreError::Settings(_))
    ));
    assert_eq!(a.position(7).await.unwrap().unwrap().next_offset, BEGIN + 6);
}

pub async fn a_position_belongs_to_one_cluster(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let log = sample(4);
    a.project(log.batch(BEGIN, BEGIN + 2)).await.unwrap();
    for (from, to) in [(BEGIN + 2, BEGIN + 4), (BEGIN, BEGIN + 2)] {
        let mut other = log.batch(from, to);
        other.cluster_id = "cluster-2".to_owned();
        let Projected::Stale {
            stored: Some(stored),
        } = b.project(other).await.unwrap()
        else {
            panic!("another cluster's batch was applied");
        };
        assert_eq!(stored.cluster_id, "cluster-1");
    }
}

pub async fn an_empty_batch_moves_the_position(subject: Subject) {
    let store = subject.a;
    let log = sample(2);
    let mut batch = log.batch(BEGIN, BEGIN);
    // Records that could not be read have no events, but they have keys, and not all are ids.
    batch.next = BEGIN + 5;
    batch.last_key = "not an id\0\u{fffd}".to_owned();
    store.project(batch.clone()).await.unwrap();
    let position = store.position(7).await.unwrap().unwrap();
    assert_eq!(
        (position.next_offset, position.last_key),
        (BEGIN + 5, batch.last_key)
    );
}

pub async fn the_slowest_partition_says_how_far_all_are(subject: Subject) {
    let Subject { a, b, .. } = subject;
    assert_eq!(a.caught_up().await, Ok(None));
    a.mark_caught_up(&[]).await.unwrap();
    a.mark_caught_up(&[(0, 500), (1, 400), (1, 450), (1, 430)])
        .await
        .unwrap();
    assert_eq!(b.caught_up().await, Ok(Some(450)));
    // Time does not run backwards.
    b.mark_caught_up(&[(1, 300), (0, 600)]).await.unwrap();
    assert_eq!(a.caught_up().await, Ok(Some(450)));
    // A partition that is being read and never was at its end holds all back.
    a.project(sample(1).batch(BEGIN, BEGIN + 1)).await.unwrap();
    assert_eq!(a.caught_up().await, Ok(None));
    let all = a.caught_up_by_partition().await.unwrap();
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [(0, Some(600)), (1, Some(450)), (7, None)]
    );
    b.mark_caught_up(&[(7, 440)]).await.unwrap();
    assert_eq!(a.caught_up().await, Ok(Some(440)));
}

pub async fn what_is_stored_is_counted(subject: Subject) {
    let Subject { a, b, .. } = subject;
    assert_eq!(a.is_empty().await, Ok(true));
    assert_eq!(a.rows_by_status().await, Ok(Vec::new()));
    // A position alone is something: whoever has it has begun.
    let nothing = sample(3);
    a.project(nothing.batch(BEGIN, BEGIN)).await.unwrap();
    assert_eq!(b.is_empty().await, Ok(false));
    a.insert(&[new_job()]).await.unwrap();
    a.project(nothing.batch(BEGIN, BEGIN + 3)).await.unwrap();
    let counts = [(Status::Completed, 3), (Status::Pending, 1)];
    assert_eq!(b.rows_by_status().await, Ok(counts.to_vec()));
    let mut other = new_job();
    other.summary.tenant = "other".parse().unwrap();
    a.insert(&[other, new_job()]).await.unwrap();
    let mut unfinished = b.unfinished_by_tenant().await.unwrap();
    unfinished.sort();
    let usual = new_job().summary.tenant;
    let mut expected = [("other".parse().unwrap(), 1), (usual, 2)];
    expected.sort();
    assert_eq!(unfinished, expected);
}
