//! What an end causes, and what goes with its job.

use std::collections::HashMap;

use tidegate_contract::{EventKind, FollowUpKind, FollowUpSpec, JobEvent};

use super::{
    DAY, KIND, LEASE, NOW, Subject, URL, attempt, end_at, ended, making, only, spec, take,
};
use crate::conformance::samples::{CREATED, event, new_job, project, project_with, row};
use crate::follow_ups::{FollowUp, FollowUpState, Then, endpoint_key};
use crate::types::{Lookup, Making, NewJob, Purged};

pub async fn an_end_makes_the_follow_ups_that_ask_for_it(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let both = vec![
        spec(KIND, URL, "job.completed, job.failed"),
        spec(FollowUpKind::Email, "ops@a.example", ""),
        // One of a kind for a job.
        spec(KIND, "https://b.example/", ""),
    ];
    let (done, failed) = (
        ended(both.clone(), EventKind::Completed),
        ended(vec![both[0].clone()], EventKind::Cancelled),
    );
    let (open, plain) = (
        ended(both, EventKind::Started),
        ended(vec![], EventKind::Completed),
    );
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let made = Making {
        at: NOW,
        traces: HashMap::from([(done.job_id, trace.to_owned())]),
    };
    let ids = [&done, &failed, &open, &plain].map(|event| event.job_id);
    let applied = project_with(&*a, 3, vec![done, failed, open, plain], made).await;
    assert_eq!(applied.follow_ups, 2);
    let found = b.follow_ups(ids[0]).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|(it, _)| it.kind).collect();
    assert_eq!(kinds, [FollowUpKind::Callback, FollowUpKind::Email]);
    let tenant = Default::default();
    let expected = FollowUp {
        job: ids[0],
        kind: KIND,
        endpoint: endpoint_key(&tenant, URL),
        tenant,
        target: URL.to_owned(),
        trace: Some(trace.to_owned()),
        created_at: NOW,
        state: FollowUpState::Pending,
        due_at: NOW,
        attempts: 0,
        number: 0,
        settled_at: None,
        reason: None,
    };
    assert_eq!(found[0], (expected, vec![]));
    for id in &ids[1..] {
        assert_eq!(b.follow_ups(*id).await, Ok(vec![]));
    }
    let waiting = b.waiting(KIND).await.unwrap();
    assert_eq!((waiting.pending, waiting.oldest_due), (1, Some(NOW)));
}

pub async fn a_replay_and_an_end_that_lost_make_none(subject: Subject) {
    let store = subject.a;
    let end = ended(vec![spec(KIND, URL, "")], EventKind::Completed);
    let loser = JobEvent {
        kind: EventKind::Failed,
        job: end.job.clone(),
        ..event(end.job_id, EventKind::Failed, 2, CREATED + 2_000)
    };
    let id = end.job_id;
    let first = vec![end.clone(), loser.clone()];
    let applied = project_with(&*store, 3, first, making()).await;
    assert_eq!((applied.follow_ups, applied.late), (1, 1));
    let taken = take(&*store, NOW, LEASE).await;
    let then = Then::Delivered;
    let sent = store.attempted(&taken[0], &attempt(1, NOW), &then).await;
    assert_eq!(sent, Ok(true));
    let applied = project_with(&*store, 3, vec![loser, end], making()).await;
    assert_eq!((applied.follow_ups, applied.late), (0, 2));
    assert_eq!(only(&*store, id).await.0.state, FollowUpState::Delivered);

    // Ends that a rebuild reads were told of long ago.
    let old = ended(vec![spec(KIND, URL, "")], EventKind::Completed);
    let id = old.job_id;
    let position = store.position(3).await.unwrap().unwrap();
    let batch = crate::Batch {
        partition: 3,
        cluster_id: position.cluster_id,
        expected: position.next_offset,
        next: position.next_offset + 1,
        last_key: String::new(),
        first: false,
        events: vec![old],
        follow_ups: None,
    };
    store.project(batch).await.unwrap();
    assert_eq!(store.follow_ups(id).await, Ok(vec![]));
    assert_eq!(row(&*store, id).await.summary.follow_ups.len(), 1);
}

pub async fn a_job_says_what_it_asks_for_whoever_tells_of_it(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let specs = vec![spec(KIND, URL, "job.failed")];
    let job = |specs: &[FollowUpSpec]| {
        let mut job: NewJob = new_job();
        job.summary.follow_ups = specs.to_vec();
        job
    };
    // The row first, and an event that does not know; a bare event, then the row; a bare event, then one that knows.
    let (inserted, told, later) = (job(&specs), job(&specs), job(&[]));
    a.insert(std::slice::from_ref(&inserted)).await.unwrap();
    let started = |job: &NewJob| event(job.id, EventKind::Started, 1, CREATED);
    let bare = [&inserted, &told, &later].map(started).to_vec();
    project(&*a, 3, bare).await;
    a.insert(std::slice::from_ref(&told)).await.unwrap();
    let mut knows = event(later.id, EventKind::Progress, 1, CREATED);
    knows.job.follow_ups = specs.clone();
    project(&*a, 3, vec![knows]).await;
    let jobs = [inserted.id, told.id, later.id];
    for id in jobs {
        assert_eq!(row(&*b, id).await.summary.follow_ups, specs);
    }
    let overdue = b.overdue(i64::MAX, None, 10).await.unwrap();
    assert!(overdue.iter().all(|row| row.summary.follow_ups == specs));
    let ends = jobs.map(|id| event(id, EventKind::Failed, 1, CREATED + 9));
    let applied = project_with(&*a, 3, ends.to_vec(), making()).await;
    assert_eq!(applied.follow_ups, 3);
}

pub async fn follow_ups_go_with_their_jobs(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let done = end_at(&*a, URL, NOW).await;
    let held = take(&*a, NOW, LEASE).await.remove(0);
    let waiting = end_at(&*a, URL, NOW).await;
    let sent = a.attempted(&held, &attempt(1, NOW), &Then::Delivered).await;
    assert_eq!(sent, Ok(true));
    let erased = end_at(&*a, URL, NOW).await;
    let taken = take(&*a, NOW, LEASE).await;
    let lost = taken.iter().find(|it| it.job == erased).unwrap();
    let then = Then::At(LEASE);
    b.attempted(lost, &attempt(1, NOW), &then).await.unwrap();
    assert_eq!(b.erase(erased, NOW).await, Ok(true));
    assert_eq!(a.follow_ups(erased).await, Ok(vec![]));
    let late = b.attempted(lost, &attempt(2, NOW), &then).await;
    assert_eq!(late, Ok(false));

    // What is still to be told of stays until that is settled.
    let old = CREATED + 8 * DAY;
    let purged = a.purge(old, 10).await.unwrap();
    assert_eq!((purged.rows, purged.more), (1, false));
    assert_eq!(a.follow_ups(done).await, Ok(vec![]));
    assert!(matches!(b.job(waiting).await, Ok(Lookup::Row(_))));
    let held = taken.iter().find(|it| it.job == waiting).unwrap();
    let over = Then::GivenUp("over".to_owned());
    assert_eq!(b.give_back(held, &over).await, Ok(true));
    assert_eq!(a.purge(old, 10).await.unwrap().rows, 1);
    assert_eq!(b.follow_ups(waiting).await, Ok(vec![]));
    assert_eq!(a.purge(old, 10).await, Ok(Purged::default()));
    // Attempts too: an orphan would refuse nobody, so it is looked for.
    let none = "CREATE TABLE nothing_left (n INTEGER CHECK (n = 0)); \
                INSERT INTO nothing_left SELECT count(*) FROM follow_up_attempts";
    subject.fixture.execute(none).await;
}
