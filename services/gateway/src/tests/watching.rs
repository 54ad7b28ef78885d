//! Watching jobs: one question for all, one read for a change.

use super::*;
use crate::watch::Watch;
use std::sync::atomic::Ordering::Relaxed;

/// A job whose row is in the fake's store.
pub fn stored(bench: &Bench) -> JobRow {
    let mut job = a_job("default");
    job.created_at = now_millis();
    let row = pending(&new_job(&job));
    put(bench, &row);
    row
}

pub fn put(bench: &Bench, row: &JobRow) {
    let mut found = bench.fake.found.lock().unwrap();
    found.insert(row.id, Lookup::Row(Box::new(row.clone())));
}

/// One event more, as the fold would note it.
pub fn step(row: &mut JobRow, kind: EventKind) {
    let mut event = end(&a_job("default"), kind);
    event.job_id = row.id;
    event.at = row.updated_at + 1;
    if kind == EventKind::Progress {
        event.progress = Some(tidegate_contract::Progress {
            percent: 40.0,
            message: None,
            partial: None,
        });
    }
    *row = tidegate_store::merge::fold(Some(row.clone()), HOME, [&event])
        .row
        .unwrap();
}

async fn woken(watch: &mut Watch, known: &JobRow) -> Option<Arc<JobRow>> {
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, watch.later_than(known.version()))
        .await
        .unwrap()
        .unwrap()
}

#[actix_web::test]
async fn many_watchers_of_a_job_cost_one_read_of_its_row() {
    let bench = Bench::new();
    let mut row = stored(&bench);
    let other = stored(&bench);
    let mut watches: Vec<_> = (0..500)
        .map(|_| bench.state.watcher.follow(row.id))
        .collect();
    let _other = bench.state.watcher.follow(other.id);
    // Each question is about all that is watched.
    until("two questions", || bench.fake.glances.load(Relaxed) >= 2).await;
    assert_eq!(bench.fake.reads.load(Relaxed), 0, "nothing has changed");
    let before = row.clone();
    step(&mut row, EventKind::Started);
    put(&bench, &row);
    for watch in &mut watches {
        let seen = woken(watch, &before).await.unwrap();
        assert_eq!(seen.version(), row.version());
    }
    assert_eq!(bench.fake.reads.load(Relaxed), 1);
    assert_eq!(bench.state.watcher.len(), 501);
    drop((watches, _other));
    assert_eq!(bench.state.watcher.len(), 0);
}

#[actix_web::test]
async fn what_was_just_written_is_seen_without_a_tick() {
    let bench = Bench::new();
    let mut row = stored(&bench);
    let mut watch = bench.state.watcher.follow(row.id);
    let asked = || bench.fake.glances.load(Relaxed);
    until("first question", || asked() == 1).await;
    // Ticks come no more often than this: what comes in between comes from the nudges.
    for _ in 0..20 {
        let before = row.clone();
        step(&mut row, EventKind::Started);
        put(&bench, &row);
        bench.state.watcher.nudge([row.id, JobId::generate()]);
        woken(&mut watch, &before).await.unwrap();
    }
    assert!(asked() >= 20, "{}", asked());
    // Nobody is watched: nothing is kept of it.
    bench.state.watcher.nudge([JobId::generate()]);
}

#[actix_web::test]
async fn watchers_stay_while_the_store_is_away_and_catch_up() {
    let bench = Bench::new();
    let mut row = stored(&bench);
    let before = row.clone();
    let mut watch = bench.state.watcher.follow(row.id);
    until("question", || bench.fake.glances.load(Relaxed) >= 1).await;
    bench.fake.store_away.store(true, Relaxed);
    step(&mut row, EventKind::Completed);
    put(&bench, &row);
    let asked = bench.fake.glances.load(Relaxed);
    until("more questions", || {
        bench.fake.glances.load(Relaxed) > asked + 1
    })
    .await;
    bench.fake.store_away.store(false, Relaxed);
    let seen = woken(&mut watch, &before).await.unwrap();
    assert_eq!(seen.status, Status::Completed);
}

#[actix_web::test]
async fn a_row_that_goes_is_told() {
    let bench = Bench::new();
    let row = stored(&bench);
    let mut watch = bench.state.watcher.follow(row.id);
    until("question", || bench.fake.glances.load(Relaxed) >= 1).await;
    bench.fake.found.lock().unwrap().remove(&row.id);
    assert_eq!(woken(&mut watch, &row).await, None);
}
