//! Idempotency keys: one of many gets one, it changes hands when its holder is gone, and it lives as long as its job.

use std::collections::HashMap;

use tidegate_contract::{EventKind, JobId, Status, Tier};
use tokio::task::JoinSet;

use super::Subject;
use super::samples::{CREATED, event, new_job, project, row, summary};
use crate::history::Version;
use crate::keys::{Glimpse, KeyState, KeyedJob, NewKey, Reserved};
use crate::types::{Lookup, NewJob, Tombstone};

const DAY: i64 = 24 * 60 * 60 * 1000;
const LEASE: i64 = 7_000;

/// A request under that key, with a job of its own.
fn key(text: &str) -> NewKey {
    let summary = summary();
    NewKey {
        tenant: summary.tenant,
        key: text.to_owned(),
        fingerprint: [1; 32],
        job: KeyedJob {
            id: JobId::generate(),
            reply_partition: 3,
            pool: summary.pool,
            tier: Tier::High,
            partition: Some(11),
            created_at: CREATED,
            deadline: summary.deadline,
        },
    }
}

/// The row that the job of a key gets.
fn job_of(key: &NewKey) -> NewJob {
    NewJob {
        id: key.job.id,
        ..new_job()
    }
}

pub async fn a_key_is_taken_by_one_of_many(subject: Subject) {
    let Subject { a, b, .. } = subject;
    // Longer than any client may send, with all that could end a text.
    let text = "k'\"\\%_;--\u{e4}".repeat(30);
    let mut callers = JoinSet::new();
    for n in 0..24 {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        let wanted = key(&text);
        callers.spawn(async move { (store.reserve(&wanted, CREATED, LEASE).await, wanted.job) });
    }
    let answers = callers.join_all().await;
    let mut taken = answers
        .iter()
        .filter(|(said, _)| *said == Ok(Reserved::New));
    let (_, job) = taken.next().expect("somebody has it");
    assert_eq!(taken.next(), None, "two have it");
    let busy = Reserved::Busy {
        job: job.clone(),
        until: CREATED + LEASE,
    };
    let others = answers.iter().filter(|(said, _)| *said == Ok(busy.clone()));
    assert_eq!(others.count(), 23);

    let mut other = key(&text);
    other.fingerprint = [2; 32];
    let said = b.reserve(&other, CREATED + DAY, LEASE).await;
    assert_eq!(said, Ok(Reserved::Conflict), "another request");
    other.tenant = "somebody-else".parse().unwrap();
    let said = b.reserve(&other, CREATED, LEASE).await;
    assert_eq!(said, Ok(Reserved::New), "another tenant");
    let said = a.reserve(&other, CREATED, LEASE).await;
    assert_eq!(said, Ok(Reserved::New), "the same call once more");
}

pub async fn a_reservation_changes_hands_after_its_lease(subject: Subject) {
    let Subject { a, b, .. } = subject;
    for partition in [None, Some(0)] {
        let mut first = key(&format!("{partition:?}"));
        first.job.partition = partition;
        assert_eq!(a.reserve(&first, CREATED, LEASE).await, Ok(Reserved::New));
        let again = |at| {
            let wanted = key(&first.key);
            let store = b.clone();
            async move { store.reserve(&wanted, at, LEASE).await }
        };
        let busy = |until| {
            Ok(Reserved::Busy {
                job: first.job.clone(),
                until,
            })
        };
        assert_eq!(again(CREATED + LEASE - 1).await, busy(CREATED + LEASE));
        let at = CREATED + LEASE;
        let (one, other) = tokio::join!(again(at), again(at));
        let mut said = [one, other];
        said.sort_by_key(|said| matches!(said, Ok(Reserved::Busy { .. })));
        assert_eq!(said[0], Ok(Reserved::Again(first.job.clone())));
        assert_eq!(said[1], busy(at + LEASE), "it is held for as long again");
    }
}

pub async fn a_produced_key_has_a_row_and_stays(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let (told, seen) = (key("told"), key("seen"));
    for wanted in [&told, &seen] {
        assert_eq!(a.reserve(wanted, CREATED, LEASE).await, Ok(Reserved::New));
    }
    a.produced(&job_of(&told)).await.unwrap();
    a.produced(&job_of(&told)).await.unwrap();
    assert_eq!(row(&*b, told.job.id).await.status, Status::Pending);
    // Nobody could say so, but an event of the job shows that there is one.
    let started = event(seen.job.id, EventKind::Started, 1, CREATED);
    project(&*a, 3, vec![started]).await;
    for wanted in [&told, &seen] {
        let late = CREATED + 10 * LEASE;
        let said = b.reserve(&key(&wanted.key), late, LEASE).await;
        assert_eq!(said, Ok(Reserved::Produced(wanted.job.clone())));
        for forget in [true, false] {
            a.release(wanted.job.id, CREATED, forget).await.unwrap();
        }
        let said = b.reserve(&key(&wanted.key), late, LEASE).await;
        assert_eq!(said, Ok(Reserved::Produced(wanted.job.clone())));
    }
    // What is known of the job already stays.
    a.produced(&job_of(&seen)).await.unwrap();
    assert_eq!(row(&*b, seen.job.id).await.status, Status::Processing);
}

pub async fn a_key_is_given_back_by_whoever_holds_it(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let first = key("k");
    a.reserve(&first, CREATED, LEASE).await.unwrap();
    b.release(JobId::generate(), CREATED, true).await.unwrap();
    let at = CREATED + LEASE;
    let taken = b.reserve(&key("k"), at, LEASE).await;
    assert_eq!(taken, Ok(Reserved::Again(first.job.clone())));
    // Too late: it is somebody else's now.
    for forget in [true, false] {
        a.release(first.job.id, CREATED, forget).await.unwrap();
    }
    assert!(matches!(
        a.reserve(&key("k"), at, LEASE).await,
        Ok(Reserved::Busy { .. })
    ));
    // The job may be in Kafka: the next one goes on with it, and need not wait for that.
    b.release(first.job.id, at, false).await.unwrap();
    let taken = a.reserve(&key("k"), at + 1, LEASE).await;
    assert_eq!(taken, Ok(Reserved::Again(first.job.clone())));
    // It is certain that it is not.
    a.release(first.job.id, at + 1, true).await.unwrap();
    assert_eq!(a.reserve(&key("k"), at, LEASE).await, Ok(Reserved::New));
}

pub async fn jobs_and_keys_are_seen_at_a_glance(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let nothing: HashMap<JobId, Glimpse> = HashMap::new();
    assert_eq!(a.glance(&[]).await, Ok(nothing.clone()));
    assert_eq!(a.glance(&[JobId::generate()]).await, Ok(nothing));

    let (reserved, produced) = (key("reserved"), key("produced"));
    let (plain, ended) = (new_job(), new_job());
    a.reserve(&reserved, CREATED, LEASE).await.unwrap();
    a.reserve(&produced, CREATED, LEASE).await.unwrap();
    a.produced(&job_of(&produced)).await.unwrap();
    a.insert(&[plain.clone(), ended.clone()]).await.unwrap();
    let end = event(ended.id, EventKind::Completed, 1, CREATED + 9);
    project(&*a, 3, vec![end]).await;
    // More than one statement takes, the known ones at its ends.
    let mut ids: Vec<JobId> = (0..1_200).map(|_| JobId::generate()).collect();
    ids[0] = reserved.job.id;
    ids[499] = produced.job.id;
    ids[500] = plain.id;
    ids[1_199] = ended.id;
    let seen = b.glance(&ids).await.unwrap();
    let glimpse = |job, key| Glimpse { job, key };
    let version = |status, updated_at| Version {
        status,
        updated_at,
        events: 0,
    };
    let expected = HashMap::from([
        (ids[0], glimpse(None, Some(KeyState::Reserved))),
        (
            ids[499],
            glimpse(
                Some(version(Status::Pending, CREATED)),
                Some(KeyState::Produced),
            ),
        ),
        (
            ids[500],
            glimpse(Some(version(Status::Pending, CREATED)), None),
        ),
        (
            ids[1_199],
            glimpse(Some(version(Status::Completed, CREATED + 9)), None),
        ),
    ]);
    assert_eq!(seen, expected);
}

pub async fn keys_live_as_long_as_their_jobs(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let (done, lost) = (key("done"), key("lost"));
    for wanted in [&done, &lost] {
        assert_eq!(a.reserve(wanted, CREATED, LEASE).await, Ok(Reserved::New));
    }
    assert_eq!(a.is_empty().await, Ok(false));
    a.produced(&job_of(&done)).await.unwrap();
    let end = event(done.job.id, EventKind::Completed, 1, CREATED);
    project(&*a, 3, vec![end]).await;

    let purged = a.purge(CREATED + 7 * DAY, 10).await.unwrap();
    assert_eq!((purged.rows, purged.keys), (1, 0));
    let gone = Lookup::Tombstone(Tombstone {
        status: Status::Completed,
        tenant: Some(done.tenant.clone()),
    });
    assert_eq!(a.job(done.job.id).await, Ok(gone));
    // The key is free again, and what the tombstone keeps out is the old job alone.
    let next = key("done");
    assert_eq!(b.reserve(&next, CREATED, LEASE).await, Ok(Reserved::New));
    b.produced(&job_of(&next)).await.unwrap();
    assert_eq!(row(&*a, next.job.id).await.status, Status::Pending);

    // A job that was never seen keeps its key until nothing of it can be left.
    let forgotten = lost.job.deadline + 14 * DAY;
    assert_eq!(a.purge(forgotten - 1, 10).await.unwrap().keys, 0);
    let purged = a.purge(forgotten, 10).await.unwrap();
    assert_eq!((purged.keys, purged.unfinished, purged.more), (1, 1, false));
    for text in ["done", "lost"] {
        let said = b.reserve(&key(text), CREATED, LEASE).await;
        assert_eq!(said, Ok(Reserved::New), "{text}");
    }

    // One that is erased by hand takes its key along too.
    let erased = key("erased");
    a.reserve(&erased, CREATED, LEASE).await.unwrap();
    a.produced(&job_of(&erased)).await.unwrap();
    let end = event(erased.job.id, EventKind::Completed, 1, CREATED);
    project(&*a, 3, vec![end]).await;
    assert_eq!(a.erase(erased.job.id, CREATED).await, Ok(true));
    let said = b.reserve(&key("erased"), CREATED, LEASE).await;
    assert_eq!(said, Ok(Reserved::New));
}
