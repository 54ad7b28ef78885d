//! Purge and tombstones, with the default ages.

use tidegate_contract::{EventKind, JobId, Status};

use super::Subject;
use super::samples::{CREATED, event, new_job, project};
use crate::types::{Lookup, NewJob, Purged, Tombstone};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn ended(kind: EventKind, count: usize) -> Vec<tidegate_contract::JobEvent> {
    (0..count)
        .map(|_| event(JobId::generate(), kind, 1, CREATED))
        .collect()
}

/// What is left of a job of that tenant.
fn tombstone_of(tenant: &str, status: Status) -> Lookup {
    let tenant = Some(tenant.parse().unwrap());
    Lookup::Tombstone(Tombstone { status, tenant })
}

/// What is left of a job of the samples' tenant.
fn tombstone(status: Status) -> Lookup {
    tombstone_of("default", status)
}

pub async fn purges_are_bounded_and_leave_tombstones(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let completed = ended(EventKind::Completed, 25);
    let mut failed = ended(EventKind::Failed, 5);
    for event in &mut failed {
        event.job.tenant = "acme".parse().unwrap();
    }
    project(&*a, 3, [completed.clone(), failed.clone()].concat()).await;

    let nothing = Purged::default();
    assert_eq!(a.purge(CREATED + 7 * DAY - 1, 10).await, Ok(nothing));
    let mut rows = Vec::new();
    loop {
        let purged = b.purge(CREATED + 7 * DAY, 10).await.unwrap();
        assert_eq!((purged.unfinished, purged.tombstones), (0, 0));
        rows.push(purged.rows);
        if !purged.more {
            break;
        }
    }
    assert_eq!(rows, [10, 10, 5]);
    let gone = tombstone(Status::Completed);
    for event in &completed {
        assert_eq!(a.job(event.job_id).await, Ok(gone.clone()));
    }
    for event in &failed {
        assert_eq!(
            a.job(event.job_id).await.unwrap().row().unwrap().status,
            Status::Failed
        );
    }

    // Failures go later, and while they do, the first tombstones are not yet old enough.
    let purged = a.purge(CREATED + 30 * DAY, 10).await.unwrap();
    assert_eq!((purged.rows, purged.tombstones, purged.more), (5, 0, false));
    assert_eq!(
        b.job(failed[0].job_id).await,
        Ok(tombstone_of("acme", Status::Failed))
    );
    let purged = a.purge(CREATED + 37 * DAY, 10).await.unwrap();
    assert_eq!((purged.rows, purged.tombstones, purged.more), (0, 10, true));
    let purged = a.purge(CREATED + 37 * DAY, 100).await.unwrap();
    assert_eq!(
        (purged.rows, purged.tombstones, purged.more),
        (0, 15, false)
    );
    assert_eq!(b.job(completed[0].job_id).await, Ok(Lookup::Absent));
    assert_eq!(
        b.job(failed[0].job_id).await,
        Ok(tombstone_of("acme", Status::Failed))
    );
}

pub async fn unfinished_jobs_outlive_their_deadline(subject: Subject) {
    let store = subject.a;
    let jobs: Vec<NewJob> = (0..3).map(|_| new_job()).collect();
    store.insert(&jobs).await.unwrap();
    project(
        &*store,
        3,
        vec![event(jobs[0].id, EventKind::Started, 1, CREATED)],
    )
    .await;
    let forgotten = jobs[0].summary.deadline + 14 * DAY;
    assert_eq!(store.purge(forgotten - 1, 2).await, Ok(Purged::default()));
    let purged = store.purge(forgotten, 2).await.unwrap();
    assert_eq!((purged.rows, purged.unfinished, purged.more), (0, 2, true));
    let purged = store.purge(forgotten, 2).await.unwrap();
    assert_eq!((purged.rows, purged.unfinished, purged.more), (0, 1, false));
    let found = store.job(jobs[0].id).await;
    assert_eq!(found, Ok(tombstone(Status::Processing)));
}

pub async fn inserts_and_events_of_purged_jobs_are_dropped(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let job = new_job();
    let end = event(job.id, EventKind::Completed, 1, CREATED);
    project(&*a, 3, vec![end.clone()]).await;
    a.purge(CREATED + 8 * DAY, 10).await.unwrap();

    let other = new_job();
    b.insert(&[job.clone(), other.clone()]).await.unwrap();
    let more = vec![
        end.clone(),
        event(other.id, EventKind::Started, 1, CREATED),
        end,
    ];
    let applied = project(&*b, 3, more).await;
    assert_eq!((applied.buried, applied.late), (2, 0));
    let gone = tombstone(Status::Completed);
    assert_eq!(a.job(job.id).await, Ok(gone));
    assert_eq!(
        a.job(other.id).await.unwrap().row().unwrap().status,
        Status::Processing
    );
}
