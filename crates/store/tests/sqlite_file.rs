//! SQLite in a file: one process at a time, and what was committed is there for the next one.

#![allow(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::{EventKind, Secret, Status};
use tidegate_store::conformance::{event, new_job};
use tidegate_store::merge::pending;
use tidegate_store::{Batch, Lookup, Store, StoreError, StoreSettings, Tables, open};

fn at(path: &Path) -> Arc<dyn Store> {
    let settings = StoreSettings {
        url: Secret::new(format!("sqlite:{}", path.display())),
        timeout: Duration::from_millis(500),
        ..StoreSettings::default()
    };
    open(&settings).unwrap()
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet/jobs.db");
    let (first, second) = (at(&path), at(&path));
    first.prepare().await.unwrap();
    let error = second.prepare().await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)));
    let text = error.to_string();
    assert!(
        text.contains("jobs.db is in use by process") && !text.contains('\n'),
        "{text}"
    );

    let job = new_job();
    first.insert(std::slice::from_ref(&job)).await.unwrap();
    let end = event(job.id, EventKind::Completed, 1, 5);
    let batch = Batch {
        partition: 3,
        cluster_id: "cluster-1".to_owned(),
        expected: 0,
        next: 1,
        last_key: job.id.to_string(),
        first: true,
        events: vec![end],
        follow_ups: None,
    };
    first.project(batch).await.unwrap();
    first.close().await;
    assert!(first.ping().await.is_err());

    second.prepare().await.unwrap();
    let row = second.job(job.id).await.unwrap().row().unwrap();
    assert_eq!(row.status, Status::Completed);
    assert_eq!(second.position(3).await.unwrap().unwrap().next_offset, 1);
}

#[tokio::test]
async fn looking_makes_nothing_and_needs_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let (gateway, doctor) = (at(&path), at(&path));
    let found = doctor.inspect().await.unwrap();
    assert_eq!((found.tables, found.now), (Tables::Missing, None));
    assert!(found.version.starts_with("SQLite 3."), "{found:?}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);

    gateway.prepare().await.unwrap();
    let job = new_job();
    let batch = Batch {
        partition: 0,
        cluster_id: "cluster-1".to_owned(),
        expected: 0,
        next: 1,
        last_key: job.id.to_string(),
        first: true,
        events: vec![event(job.id, EventKind::Completed, 1, 5)],
        follow_ups: None,
    };
    gateway.project(batch).await.unwrap();
    let found = doctor.inspect().await.unwrap();
    assert!(matches!(found.tables, Tables::Current(_)), "{found:?}");
    assert_eq!(found.clusters, ["cluster-1"]);
}

#[tokio::test]
async fn another_program_that_writes_makes_it_unavailable_in_time() {
    use sqlx::Connection;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let store = at(&path);
    store.prepare().await.unwrap();
    let early = new_job();
    store.insert(std::slice::from_ref(&early)).await.unwrap();

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut other = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let began = std::time::Instant::now();
    let late = new_job();
    let result = store.insert(std::slice::from_ref(&late)).await;
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "{result:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(2));
    // Reading goes on.
    let found = store.job(early.id).await.unwrap();
    assert_eq!(found, Lookup::Row(Box::new(pending(&early))));

    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let began = std::time::Instant::now();
    while let Err(error) = store.insert(std::slice::from_ref(&late)).await {
        assert!(
            error.is_transient() && began.elapsed() < Duration::from_secs(10),
            "{error}"
        );
    }
    assert_eq!(
        store.job(late.id).await.unwrap().row(),
        Some(pending(&late))
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    std::fs::write(
        &path,
        "this is a text file, and long enough to have a header\n".repeat(99),
    )
    .unwrap();
    let error = at(&path).prepare().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once() {
    let of = |url: &str, timeout, max_connections| {
        let settings = StoreSettings {
            url: Secret::new(url),
            timeout,
            max_connections,
            ..StoreSettings::default()
        };
        open(&settings).err().map(|error| error.to_string())
    };
    let second = Duration::from_secs(1);
    assert_eq!(of("sqlite::memory:", second, 1), None);
    let refused = [
        of("sqlite::memory:", Duration::ZERO, 1),
        of("sqlite::memory:", second, 0),
        of("redis://here", second, 1),
        of("sqlite:", second, 1),
    ];
    for text in refused {
        assert!(text.unwrap().starts_with("store."));
    }
}
