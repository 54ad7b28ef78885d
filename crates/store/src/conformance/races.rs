//! Several projectors and inserters at once, and calls that are cut short.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::task::JoinSet;

use super::Subject;
use super::samples::{BEGIN, Partition, Sequence, expected_row, log, new_job, row};
use crate::merge::{fold, pending};
use crate::store::Store;
use crate::types::{NewJob, Projected};

/// A partition with 1,200 events of 90 jobs; ten more jobs have none.
fn busy(number: i32) -> (Vec<NewJob>, Arc<Partition>) {
    let jobs: Vec<NewJob> = (0..100)
        .map(|_| NewJob {
            reply_partition: number,
            ..new_job()
        })
        .collect();
    let mut sequence = Sequence(number.unsigned_abs().into());
    let events = log(&mut sequence, &jobs[..90], 1_200);
    (jobs, Arc::new(Partition { number, events }))
}

/// Projects to the end of the log in batches of random size; counts late events.
async fn project_all(store: Arc<dyn Store>, log: Arc<Partition>, seed: u64, late: Arc<AtomicU64>) {
    let mut sequence = Sequence(seed);
    let mut from = BEGIN;
    while from < log.end() {
        let to = (from + 1 + sequence.below(60) as i64).min(log.end());
        match store.project(log.batch(from, to)).await {
            Ok(Projected::Applied(applied)) => {
                assert_eq!(applied.refused, []);
                late.fetch_add(applied.late, Ordering::Relaxed);
                from = to;
            }
            Ok(Projected::Stale { stored }) => {
                from = stored.map_or(BEGIN, |stored| stored.next_offset);
            }
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

async fn insert_all(store: Arc<dyn Store>, jobs: Vec<NewJob>, seed: u64) {
    let mut sequence = Sequence(seed);
    let mut rest = jobs.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + sequence.below(12)).min(rest.len()));
        match store.insert(now).await {
            Ok(()) => rest = later,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

pub async fn racing_projectors_apply_the_log_once(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let mut tasks = JoinSet::new();
    let mut expected_late = 0;
    let late = Arc::new(AtomicU64::new(0));
    let (jobs, logs): (Vec<_>, Vec<_>) = (1..=3).map(busy).unzip();
    for (jobs, log) in jobs.iter().zip(&logs) {
        for (n, store) in [&a, &b, &a, &b].into_iter().enumerate() {
            let seed = 10 * log.number as u64 + n as u64;
            tasks.spawn(project_all(store.clone(), log.clone(), seed, late.clone()));
        }
        let reversed = jobs.iter().rev().cloned().collect();
        tasks.spawn(insert_all(a.clone(), jobs.clone(), log.number as u64));
        tasks.spawn(insert_all(b.clone(), reversed, log.number as u64));
        expected_late += jobs
            .iter()
            .map(|job| {
                let own = log.events.iter().filter(|event| event.job_id == job.id);
                fold(Some(pending(job)), log.number, own).late
            })
            .sum::<u64>();
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for (jobs, log) in jobs.iter().zip(&logs) {
        assert_eq!(
            a.position(log.number).await.unwrap().unwrap().next_offset,
            log.end()
        );
        for job in jobs {
            assert_eq!(row(&*a, job.id).await, expected_row(job, &log.events));
        }
    }
    assert!(expected_late > 100);
    assert_eq!(late.load(Ordering::Relaxed), expected_late);
}

/// Polls a call that often and drops it then, wherever it is; `None` if it did not end before.
async fn cut_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    })
    .await
}

pub async fn a_dropped_call_leaves_nothing_half_written(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let (jobs, log) = busy(5);
    a.insert(&jobs).await.unwrap();
    let mut sequence = Sequence(5);
    let (mut cut, mut made) = (0, 0);
    // How often a call is polled until it is done depends on driver and machine: the bound follows what comes of it, so
    // that some are cut and some are made.
    let mut most = 30;
    for round in 0..100 {
        // A connection is there, so that what is cut is mostly the transaction.
        a.ping().await.unwrap();
        let from = next_offset(&*b).await;
        let to = (from + 1 + sequence.below(20) as i64).min(log.end());
        match cut_after(sequence.below(most), a.project(log.batch(from, to))).await {
            None => cut += 1,
            Some(done) => {
                // Stale if the call before it was cut while it committed.
                done.unwrap();
                made += 1;
            }
        }
        if cut > 2 * made + 5 {
            most *= 2;
        } else if made > 2 * cut + 5 {
            most = (most / 2).max(2);
        }
        if round % 10 == 0 {
            rows_match_the_position(&*b, &jobs, &log).await;
        }
    }
    println!("{cut} calls cut, {made} made");
    assert!(cut > 10 && made > 10, "{cut} calls cut, {made} made");
    project_all(b.clone(), log.clone(), 5, Arc::default()).await;
    assert_eq!(next_offset(&*a).await, log.end());
    rows_match_the_position(&*a, &jobs, &log).await;
}

async fn next_offset(store: &dyn Store) -> i64 {
    let position = store.position(5).await.unwrap();
    position.map_or(BEGIN, |position| position.next_offset)
}

/// Whatever was cut, the rows are what the log is up to the stored position.
async fn rows_match_the_position(store: &dyn Store, jobs: &[NewJob], log: &Partition) {
    loop {
        let before = next_offset(store).await;
        let mut rows = Vec::new();
        for job in jobs {
            rows.push(row(store, job.id).await);
        }
        // The server may still have been about to commit a call that was cut.
        if next_offset(store).await == before {
            let applied = log.between(BEGIN, before);
            for (job, row) in jobs.iter().zip(rows) {
                assert_eq!(row, expected_row(job, applied), "at {before}");
            }
            return;
        }
    }
}
