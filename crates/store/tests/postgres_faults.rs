//! A PostgreSQL that hangs, goes away, refuses, or has to be waited for: each call ends in its time, in words.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test code: a panic is the report, and what is printed shows with it"
)]

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use server::Database;
use server::proxy::Proxy;
use tidegate_contract::{EventKind, JobId, Secret};
use tidegate_store::conformance::{event, new_job};
use tidegate_store::{Batch, Inserter, Projected, Store, StoreError, StoreSettings, open};

const TIMEOUT: Duration = Duration::from_millis(700);

fn at(url: String) -> Arc<dyn Store> {
    let settings = StoreSettings {
        url: Secret::new(url),
        timeout: TIMEOUT,
        max_connections: 3,
        ..StoreSettings::default()
    };
    open(&settings).unwrap()
}

fn batch(expected: i64) -> Batch {
    let end = event(JobId::generate(), EventKind::Completed, 1, 0);
    Batch {
        partition: 1,
        cluster_id: "cluster-1".to_owned(),
        expected,
        next: expected + 1,
        last_key: end.job_id.to_string(),
        first: expected == 0,
        events: vec![end],
        follow_ups: None,
    }
}

fn is_unavailable<T: std::fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

/// Every kind of call fails as unavailable, in its time, also many at once.
async fn all_calls_fail_in_time(store: &Arc<dyn Store>) {
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        calls.spawn(async move {
            let job = new_job();
            let marks = [(1, 1)];
            let results = tokio::join!(
                store.ping(),
                store.insert(std::slice::from_ref(&job)),
                store.job(job.id),
                store.position(1),
                store.project(batch(0)),
                store.mark_caught_up(&marks),
                store.caught_up(),
                store.purge(0, 10),
                store.prepare(),
            );
            assert!(is_unavailable(&results.0), "{:?}", results.0);
            assert!(is_unavailable(&results.1), "{:?}", results.1);
            assert!(is_unavailable(&results.2), "{:?}", results.2);
            assert!(is_unavailable(&results.3), "{:?}", results.3);
            assert!(is_unavailable(&results.4), "{:?}", results.4);
            assert!(is_unavailable(&results.5), "{:?}", results.5);
            assert!(is_unavailable(&results.6), "{:?}", results.6);
            assert!(is_unavailable(&results.7), "{:?}", results.7);
            assert!(is_unavailable(&results.8), "{:?}", results.8);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert!(began.elapsed() < TIMEOUT * 2, "{:?}", began.elapsed());
}

/// Repeats an idempotent call until the store is back.
async fn recovers(store: &Arc<dyn Store>) {
    let began = Instant::now();
    while let Err(error) = store.insert(&[new_job()]).await {
        assert!(error.is_transient(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
        tokio::task::yield_now().await;
    }
    println!("back after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_server_is_unavailable_and_the_pool_recovers() {
    let database = Database::create().await;
    let proxy = Proxy::start(&server::url()).await;
    let store = at(database.url_at("127.0.0.1", proxy.port));
    store.prepare().await.unwrap();
    let applied = store.project(batch(0)).await.unwrap();
    assert!(matches!(applied, Projected::Applied(_)));
    for _ in 0..2 {
        proxy.pause(true);
        for _ in 0..3 {
            all_calls_fail_in_time(&store).await;
        }
        proxy.pause(false);
        recovers(&store).await;
        // All places of the pool are there again, and nobody holds the position.
        let pings = (0..3).map(|_| store.ping());
        for ping in futures_of(pings).await {
            ping.unwrap();
        }
        let next = store.position(1).await.unwrap().unwrap().next_offset;
        let applied = store.project(batch(next)).await.unwrap();
        assert!(matches!(applied, Projected::Applied(_)), "{applied:?}");
    }
    store.close().await;
    database.drop().await;
}

async fn futures_of<F: Future>(all: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut results = Vec::new();
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    for one in &mut all {
        results.push(one.await);
    }
    results
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_unavailable_until_it_is_back() {
    let database = Database::create().await;
    let mut proxy = Proxy::start(&server::url()).await;
    let store = at(database.url_at("127.0.0.1", proxy.port));
    store.prepare().await.unwrap();
    proxy.cut().await;
    all_calls_fail_in_time(&store).await;
    proxy.restart().await;
    recovers(&store).await;
    // Connections that were killed behind the pool's back.
    database
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await;
    recovers(&store).await;
    store.close().await;
    assert!(is_unavailable(&store.ping().await));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inserter_fails_all_that_wait_at_once() {
    let database = Database::create().await;
    let proxy = Proxy::start(&server::url()).await;
    let store = at(database.url_at("127.0.0.1", proxy.port));
    store.prepare().await.unwrap();
    proxy.pause(true);
    let began = Instant::now();
    let inserter = Inserter::spawn(store.clone());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..12_000 {
        let inserter = inserter.clone();
        callers.spawn(async move { inserter.insert(new_job()).await });
    }
    let mut full = 0;
    while let Some(result) = callers.join_next().await {
        let error = result.unwrap().unwrap_err();
        assert!(error.is_transient(), "{error}");
        full += usize::from(error.to_string().contains("too many"));
    }
    assert!(full > 0, "12000 callers fit into the queue");
    // One write that was under way, and at most one more behind it.
    assert!(began.elapsed() < TIMEOUT * 3, "{:?}", began.elapsed());
    proxy.pause(false);
    recovers(&store).await;
    inserter.insert(new_job()).await.unwrap();
    store.close().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_process_does_not_hold_the_position() {
    let database = Database::create().await;
    let other = database.open();
    other.prepare().await.unwrap();
    other.project(batch(0)).await.unwrap();
    // A process that hangs in the middle of a transaction: the server hears nothing any more, not even its end.
    // Where the middle is, in bytes, is found by trying.
    let mut held = false;
    for bytes in (1_400..4_000).step_by(200) {
        let mut proxy = Proxy::start(&server::url()).await;
        let frozen = at(database.url_at("127.0.0.1", proxy.port));
        proxy.pause_after(bytes);
        let next = other.position(1).await.unwrap().unwrap().next_offset;
        let call = tokio::spawn(async move { frozen.project(batch(next)).await });
        let began = Instant::now();
        while !held && !call.is_finished() && began.elapsed() < TIMEOUT {
            let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                        AND state = 'idle in transaction' AND query LIKE 'SELECT%'";
            held = database.count(idle).await > 0;
        }
        if held {
            // The one that took over waits for the lock, but not for ever, and then goes on.
            let applied = other.project(batch(next)).await.unwrap();
            assert!(matches!(applied, Projected::Applied(_)), "{applied:?}");
            println!(
                "held after {bytes} bytes, gone on after {:?}",
                began.elapsed()
            );
            assert!(began.elapsed() < TIMEOUT * 4);
        }
        let _ = call.await.unwrap();
        // A connection that hangs in its login would hold up the drop of the database for a minute.
        proxy.cut().await;
        if held {
            break;
        }
    }
    assert!(held, "no transaction was caught in its middle");
    other.close().await;
    database.drop().await;
}

#[tokio::test]
async fn errors_keep_secrets() {
    let address = "127.0.0.1:1/db";
    for url in [
        format!("postgres://user:hunter2@{address}"),
        "postgres://user:hunter2@127.0.0.1:notaport/db".to_owned(),
        "postgres://user:hunter2@/?sslmode=hunter2".to_owned(),
        "mysql://user:hunter2@host/db".to_owned(),
    ] {
        let settings = StoreSettings {
            url: Secret::new(url),
            timeout: TIMEOUT,
            ..StoreSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = match open(&settings) {
            Err(error) => error,
            Ok(store) => store.prepare().await.unwrap_err(),
        };
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error}");
        println!("{error}");
    }
    // A server that answers: the wrong password is named as such, not shown.
    let database = Database {
        name: "postgres".to_owned(),
    };
    let url = server::url();
    let port = url
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split('/').next());
    let right = database.url_at("127.0.0.1", port.unwrap().parse().unwrap());
    let (scheme, rest) = right.split_once("://").unwrap();
    let (login, host) = rest.rsplit_once('@').unwrap();
    let user = login.split(':').next().unwrap();
    let error = at(format!("{scheme}://{user}:hunter2@{host}"))
        .prepare()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("password") && !error.to_string().contains("hunter2"));
    assert!(!error.is_transient(), "{error}");
}
