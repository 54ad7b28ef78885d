//! What happened to a job, between its creation and its end.

use tidegate_contract::EventKind;

use super::Subject;
use super::samples::{CREATED, event, expected_row, new_job, project, row};
use crate::history::ENTRIES;
use crate::listing::Listing;

pub async fn a_history_is_kept_bounded_and_numbered_on(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let job = new_job();
    let mut log = vec![
        event(job.id, EventKind::Started, 1, CREATED + 1),
        event(job.id, EventKind::Progress, 1, CREATED + 2),
        event(job.id, EventKind::RetryScheduled, 1, CREATED + 3),
    ];
    project(&*a, 3, log.clone()).await;
    // An insert that comes late takes nothing away.
    b.insert(std::slice::from_ref(&job)).await.unwrap();
    let found = row(&*b, job.id).await;
    assert_eq!((found.events, found.history.len()), (3, 3));
    assert_eq!(found, expected_row(&job, &log));

    // The numbers go on from batch to batch, and the oldest make room.
    for n in 0..ENTRIES as i64 {
        let more = event(job.id, EventKind::Progress, 2, CREATED + 10 + n);
        project(&*a, 3, vec![more.clone()]).await;
        log.push(more);
    }
    let found = row(&*b, job.id).await;
    let numbers: Vec<_> = found.history.iter().map(|it| it.sequence).collect();
    let last = 3 + ENTRIES as i64;
    assert_eq!(numbers, (4..=last).collect::<Vec<_>>());
    assert_eq!((found.events, found), (last, expected_row(&job, &log)));

    // After the end it stands as it was, and no list carries it.
    let end = event(job.id, EventKind::Completed, 2, CREATED + 100);
    project(&*a, 3, vec![end.clone()]).await;
    log.push(end);
    assert_eq!(row(&*b, job.id).await, expected_row(&job, &log));
    let listed = b.list(&Listing::of(job.summary.tenant, 10)).await.unwrap();
    assert!(listed.rows[0].history.is_empty());
}

pub async fn a_glance_tells_every_change(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let job = new_job();
    a.insert(std::slice::from_ref(&job)).await.unwrap();
    let kinds = [
        EventKind::Started,
        EventKind::Progress,
        // The same once more, at the same time.
        EventKind::Progress,
        EventKind::RetryScheduled,
        EventKind::Completed,
    ];
    let mut seen = Vec::new();
    for kind in kinds {
        project(&*a, 3, vec![event(job.id, kind, 1, CREATED + 5)]).await;
        let glimpse = b.glance(&[job.id]).await.unwrap()[&job.id];
        let version = glimpse.job.unwrap();
        assert_eq!(version, row(&*b, job.id).await.version(), "{kind:?}");
        assert!(!seen.contains(&version), "{kind:?}");
        seen.push(version);
    }
}
