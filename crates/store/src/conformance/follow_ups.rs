//! What the ends of jobs cause, and how notifiers take it.

use std::collections::HashMap;

use tidegate_contract::{EventFilter, EventKind, FollowUpKind, FollowUpSpec, JobEvent, JobId};

use super::Subject;
use super::samples::{CREATED, event, new_job, project, project_with, row};
use crate::follow_ups::{
    Attempt, EndpointRow, FollowUp, FollowUpState, Recover, Take, Then, endpoint_key,
};
use crate::store::Store;
use crate::types::{Lookup, Making, NewJob, Purged};

const DAY: i64 = 24 * 60 * 60 * 1000;
const URL: &str = "https://a.example/hook?token=1";
const NOW: i64 = CREATED + 5_000;
const LEASE: i64 = NOW + 60_000;
const KIND: FollowUpKind = FollowUpKind::Callback;

fn spec(kind: FollowUpKind, target: &str, events: &str) -> FollowUpSpec {
    let events = match events {
        "" => EventFilter::default(),
        some => some.parse().unwrap(),
    };
    FollowUpSpec::new(kind, target.to_owned(), events)
}

fn making() -> Making {
    Making {
        at: NOW,
        traces: HashMap::new(),
    }
}

fn ended(specs: Vec<FollowUpSpec>, kind: EventKind) -> JobEvent {
    let mut end = event(JobId::generate(), kind, 1, CREATED + 1_000);
    end.job.follow_ups = specs;
    end
}

/// An end of a job with a callback to this URL, projected at that time.
async fn end_at(store: &dyn Store, url: &str, at: i64) -> JobId {
    let end = ended(vec![spec(KIND, url, "")], EventKind::Completed);
    let id = end.job_id;
    let made = Making { at, ..making() };
    assert_eq!(project_with(store, 3, vec![end], made).await.follow_ups, 1);
    id
}

fn all(now: i64, lease: i64) -> Take<'static> {
    Take {
        kind: KIND,
        now,
        lease,
        limit: 100,
        per_endpoint: 100,
        except: &[],
    }
}

async fn take(store: &dyn Store, now: i64, lease: i64) -> Vec<FollowUp> {
    store.take_follow_ups(&all(now, lease)).await.unwrap()
}

async fn only(store: &dyn Store, job: JobId) -> (FollowUp, Vec<Attempt>) {
    let mut found = store.follow_ups(job).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn attempt(number: u32, at: i64) -> Attempt {
    Attempt {
        number,
        at,
        duration: 25,
        status: Some(503),
        error: None,
        excerpt: "busy\u{0}".to_owned(),
    }
}

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

pub async fn follow_ups_are_taken_by_one_and_again_after_the_lease(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(end_at(&*a, &format!("https://a.example/{n}"), NOW - n).await);
    }
    assert_eq!(take(&*a, NOW - 40, LEASE).await, vec![]);
    let some = Take {
        limit: 3,
        ..all(NOW, LEASE)
    };
    let first = a.take_follow_ups(&some).await.unwrap();
    let oldest: Vec<_> = ids.iter().rev().take(3).copied().collect();
    let taken: Vec<_> = first.iter().map(|it| it.job).collect();
    assert_eq!(taken, oldest);
    assert!(first.iter().all(|it| it.due_at == LEASE));
    // Two at once share the rest.
    let (left, right) = tokio::join!(take(&*a, NOW, LEASE), take(&*b, NOW, LEASE + 1));
    let mut jobs: Vec<_> = [&first, &left, &right]
        .into_iter()
        .flatten()
        .map(|it| it.job)
        .collect();
    jobs.extend(take(&*b, NOW, LEASE).await.iter().map(|it| it.job));
    jobs.sort_unstable();
    ids.sort_unstable();
    assert_eq!(jobs, ids, "each once");
    assert_eq!(take(&*b, LEASE - 1, LEASE).await, vec![]);
    // Whoever held them is gone.
    let again = take(&*b, LEASE + 1, LEASE + 60_000).await;
    assert_eq!(again.len(), 40);
    assert_eq!(again[0].attempts, 0);
}

pub async fn no_endpoint_takes_the_places_of_others(subject: Subject) {
    let Subject { a, b, .. } = subject;
    for n in 0..10 {
        end_at(&*a, &format!("https://a.example/hook?n={n}"), NOW - 100).await;
    }
    let other = end_at(&*a, "https://b.example/", NOW).await;
    let few = Take {
        limit: 4,
        per_endpoint: 3,
        ..all(NOW, LEASE)
    };
    let taken = b.take_follow_ups(&few).await.unwrap();
    assert_eq!(taken.len(), 4);
    assert_eq!(taken[3].job, other);
    assert_eq!(taken[0].endpoint, "default https://a.example/hook");

    let except = [taken[0].endpoint.clone()];
    let without = Take {
        except: &except,
        ..all(NOW, LEASE)
    };
    assert_eq!(a.take_follow_ups(&without).await, Ok(vec![]));
    let email = Take {
        kind: FollowUpKind::Email,
        ..all(NOW, LEASE)
    };
    assert_eq!(a.take_follow_ups(&email).await, Ok(vec![]));
    assert_eq!(take(&*a, NOW, LEASE).await.len(), 7);
}

pub async fn what_comes_of_an_attempt_counts_under_its_lease_only(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let id = end_at(&*a, URL, NOW).await;
    let slow = take(&*a, NOW, LEASE).await.remove(0);
    let quick = take(&*b, LEASE, LEASE + 60_000).await.remove(0);
    let later = Then::At(LEASE + 90_000);
    let tried = b.attempted(&quick, &attempt(1, LEASE), &later).await;
    assert_eq!(tried, Ok(true));
    // The first one comes back: what it did is kept, and changes nothing.
    let given_up = Then::GivenUp("too slow".to_owned());
    let tried = a.attempted(&slow, &attempt(1, NOW), &given_up).await;
    assert_eq!(tried, Ok(false));
    assert_eq!(a.give_back(&slow, &given_up).await, Ok(false));
    let again = b.attempted(&quick, &attempt(1, LEASE), &later).await;
    assert_eq!(again, Ok(false), "said twice");
    let (found, attempts) = only(&*a, id).await;
    assert_eq!(found.state, FollowUpState::Pending);
    assert_eq!(
        (found.due_at, found.attempts, found.number),
        (LEASE + 90_000, 1, 1)
    );
    let times: Vec<_> = attempts.iter().map(|it| (it.number, it.at)).collect();
    assert_eq!(times, [(1, NOW), (1, LEASE)]);
    assert_eq!(attempts[0].excerpt, "busy\u{fffd}");

    assert_eq!(take(&*a, LEASE + 89_999, LEASE).await, vec![]);
    let (at, lease) = (LEASE + 90_000, LEASE + 200_000);
    let held = take(&*a, at, lease).await.remove(0);
    let back = b.give_back(&held, &Then::At(at + 1)).await;
    assert_eq!(back, Ok(true));
    let held = take(&*a, at + 1, lease + 1).await.remove(0);
    assert_eq!((held.attempts, held.number), (1, 1), "none was made");
    let done = a
        .attempted(&held, &attempt(2, at + 5), &Then::Delivered)
        .await;
    assert_eq!(done, Ok(true));
    let (found, attempts) = only(&*a, id).await;
    assert_eq!(found.state, FollowUpState::Delivered);
    assert_eq!(
        (found.settled_at, found.number, attempts.len()),
        (Some(at + 30), 2, 3)
    );
    assert_eq!(take(&*a, i64::MAX / 2, i64::MAX / 2 + 1).await, vec![]);
}

pub async fn the_last_attempts_are_kept(subject: Subject) {
    let store = subject.a;
    let id = end_at(&*store, URL, NOW).await;
    let mut now = NOW;
    for number in 1..=60 {
        let held = take(&*store, now, now + 10).await.remove(0);
        assert_eq!(held.number, number - 1);
        now += 20;
        let kept = store
            .attempted(&held, &attempt(number, now), &Then::At(now))
            .await;
        assert_eq!(kept, Ok(true));
    }
    let (found, attempts) = only(&*store, id).await;
    assert_eq!((found.attempts, found.number), (60, 60));
    let numbers: Vec<_> = attempts.iter().map(|it| it.number).collect();
    assert_eq!(numbers, (11..=60).collect::<Vec<_>>());
}

pub async fn what_was_given_up_is_sent_again(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let mut ids = Vec::new();
    for (n, url) in [URL, URL, "https://b.example/"].into_iter().enumerate() {
        ids.push(end_at(&*a, url, NOW + n as i64).await);
    }
    let given_up = Then::GivenUp("no more attempts".to_owned());
    for held in take(&*a, NOW + 10, LEASE).await {
        // Settled at NOW, NOW + 100 and NOW + 200.
        let place = ids.iter().position(|id| *id == held.job).unwrap();
        let at = NOW + 100 * place as i64 - 25;
        let done = a.attempted(&held, &attempt(1, at), &given_up).await;
        assert_eq!(done, Ok(true));
    }
    let (found, _) = only(&*b, ids[1]).await;
    assert_eq!(found.state, FollowUpState::Failed);
    assert_eq!(found.reason.as_deref(), Some("no more attempts"));
    assert_eq!(found.settled_at, Some(NOW + 100));

    let recover = |tenant: &str, endpoint: Option<&str>, since| Recover {
        tenant: tenant.parse().unwrap(),
        kind: None,
        endpoint: endpoint.map(str::to_owned),
        since,
    };
    let none = b.recover(&recover("acme", None, 0), LEASE, 10).await;
    assert_eq!(none, Ok(0), "of another tenant");
    let endpoint = Some("default https://a.example/hook");
    let since = recover("default", endpoint, NOW + 1);
    assert_eq!(b.recover(&since, LEASE, 10).await, Ok(1));
    assert_eq!(b.recover(&since, LEASE, 10).await, Ok(0));
    let held = take(&*a, LEASE, LEASE + 60_000).await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].job, ids[1]);
    assert_eq!((held[0].attempts, held[0].number), (0, 1));
    assert_eq!((held[0].settled_at, &held[0].reason), (None, &None));
    let any = recover("default", None, 0);
    for _ in 0..2 {
        assert_eq!(b.recover(&any, LEASE, 1).await, Ok(1), "one at a call");
    }
    assert_eq!(b.recover(&any, LEASE, 1).await, Ok(0));

    // By hand, also while it is held: the holder has lost it then.
    let kind = Some(KIND);
    assert_eq!(b.resend(ids[1], kind, LEASE).await, Ok(vec![KIND]));
    let late = a.give_back(&held[0], &Then::At(0)).await;
    assert_eq!(late, Ok(false));
    let held = take(&*a, LEASE, LEASE + 70_000).await;
    assert_eq!(held.len(), 3);
    for it in &held {
        assert_eq!(a.give_back(it, &Then::Delivered).await, Ok(true));
    }
    assert_eq!(b.resend(ids[0], kind, LEASE + 9).await, Ok(vec![KIND]));
    let (found, _) = only(&*a, ids[0]).await;
    assert_eq!(
        (found.state, found.due_at),
        (FollowUpState::Pending, LEASE + 9)
    );
    assert_eq!(b.resend(JobId::generate(), None, LEASE).await, Ok(vec![]));
}

pub async fn an_endpoint_is_postponed_but_what_is_held(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let held = end_at(&*a, URL, NOW).await;
    let taken = take(&*a, NOW, LEASE).await.remove(0);
    let waiting = end_at(&*a, URL, NOW).await;
    let other = end_at(&*a, "https://b.example/", NOW).await;
    let until = LEASE + 90_000;
    b.postpone(&taken.endpoint, until).await.unwrap();
    assert_eq!(only(&*a, waiting).await.0.due_at, until);
    assert_eq!(only(&*a, other).await.0.due_at, NOW);
    b.postpone(&taken.endpoint, NOW).await.unwrap();
    assert_eq!(only(&*a, waiting).await.0.due_at, until, "never earlier");
    let done = a
        .attempted(&taken, &attempt(1, NOW), &Then::Delivered)
        .await;
    assert_eq!(done, Ok(true));
    assert_eq!(only(&*a, held).await.0.state, FollowUpState::Delivered);
}

pub async fn endpoints_are_kept_by_tenant(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let acme: tidegate_contract::Tenant = "acme".parse().unwrap();
    let kept = |tenant: &tidegate_contract::Tenant, url: &str| EndpointRow {
        key: endpoint_key(tenant, url),
        tenant: tenant.clone(),
        url: url.to_owned(),
        record: "{}".to_owned(),
        ended_at: None,
        updated_at: NOW,
    };
    let mut rows: Vec<_> = ["https://a.example/", "https://b.example/"]
        .map(|url| kept(&acme, url))
        .into();
    rows.push(kept(&Default::default(), "https://a.example/"));
    for row in &rows {
        a.keep_endpoint(row).await.unwrap();
    }
    rows[1].ended_at = Some(NOW + 1);
    rows[1].record = "{\"failures\":9}".to_owned();
    a.keep_endpoint(&rows[1]).await.unwrap();
    assert_eq!(b.endpoints(&acme, None, 9).await, Ok(rows[..2].to_vec()));
    let page = b.endpoints(&acme, Some(&rows[0].key), 1).await;
    assert_eq!(page, Ok(rows[1..2].to_vec()));
    assert_eq!(b.endpoints(&acme, None, 1).await, Ok(rows[..1].to_vec()));
    let keys = [rows[2].key.clone(), "none".to_owned(), rows[0].key.clone()];
    let found = b.endpoints_of(&keys).await.unwrap();
    assert_eq!(found, [rows[0].clone(), rows[2].clone()]);
    let theirs = b.forget_endpoint(&acme, &rows[2].key).await;
    assert_eq!(theirs, Ok(false), "of another tenant");
    assert_eq!(b.forget_endpoint(&acme, &rows[0].key).await, Ok(true));
    assert_eq!(a.forget_endpoint(&acme, &rows[0].key).await, Ok(false));
    assert_eq!(a.endpoints(&acme, None, 9).await, Ok(rows[1..2].to_vec()));
    // Nobody has used them for a long time.
    let before = a.purge(NOW + 100 * DAY - 1, 10).await.unwrap();
    let after = a.purge(NOW + 100 * DAY, 10).await.unwrap();
    assert_eq!((before.endpoints, after.endpoints), (0, 2));
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
