//! Lists of jobs, and one that is erased by hand.

use tidegate_contract::{EventKind, JobId, Millis, Status, Tenant, Tier};

use super::Subject;
use super::samples::{CREATED, Sequence, event, new_job, project, row};
use crate::listing::Listing;
use crate::store::Store;
use crate::types::{Lookup, NewJob, Tombstone};

/// A job of that time, as its id tells too; later ones of the same time have larger ids.
fn job_at(at: Millis, sequence: &mut Sequence) -> NewJob {
    let random: [u8; 10] = std::array::from_fn(|_| u8::try_from(sequence.below(256)).unwrap());
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(at).unwrap(), &random);
    let mut job = new_job();
    job.id = JobId::try_from(id.into_uuid()).unwrap();
    job.summary.created_at = at;
    job.summary.retry_of = None;
    job
}

/// So many jobs, a second apart, the oldest first.
async fn insert(store: &dyn Store, count: i64, change: impl Fn(usize, &mut NewJob)) -> Vec<NewJob> {
    let mut sequence = Sequence(7);
    let jobs = (0..count).map(|nth| job_at(CREATED + nth * 1_000, &mut sequence));
    let mut jobs: Vec<NewJob> = jobs.collect();
    for (nth, job) in jobs.iter_mut().enumerate() {
        change(nth, job);
    }
    store.insert(&jobs).await.unwrap();
    jobs
}

fn listing(limit: u32) -> Listing {
    Listing::of(Tenant::default(), limit)
}

/// All pages of a list, joined, and how many there were.
async fn all(store: &dyn Store, mut listing: Listing) -> (Vec<JobId>, usize) {
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.list(&listing).await.unwrap();
        assert!(page.rows.len() <= listing.limit as usize);
        ids.extend(page.rows.iter().map(|row| row.id));
        pages += 1;
        assert!(pages < 1_000, "it never ends");
        match page.next {
            Some(next) => listing.before = Some(next),
            None => return (ids, pages),
        }
    }
}

pub async fn jobs_are_listed_newest_first_page_by_page(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let nothing = a.list(&listing(5)).await.unwrap();
    assert_eq!((nothing.rows.len(), nothing.next), (0, None));

    let jobs = insert(&*a, 23, |_, _| {}).await;
    let newest: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    for (limit, pages) in [(1, 23), (7, 4), (22, 2), (23, 1), (200, 1)] {
        assert_eq!(all(&*b, listing(limit)).await, (newest.clone(), pages));
    }

    // What it shows is what the row says, but for what may be large.
    let mut end = event(jobs[4].id, EventKind::Failed, 3, CREATED + 60_000);
    end.job = jobs[4].summary.clone();
    let mut retry = event(jobs[3].id, EventKind::RetryScheduled, 1, CREATED + 9);
    retry.job = jobs[3].summary.clone();
    project(&*a, 3, vec![end, retry]).await;
    let page = b.list(&listing(23)).await.unwrap();
    for shown in &page.rows {
        let mut whole = row(&*a, shown.id).await;
        (whole.outcome, whole.error, whole.timings) = (None, None, None);
        (whole.error_attempt, whole.error_at, whole.dead_letter) = (None, None, None);
        (whole.events, whole.history) = (0, Vec::new());
        assert_eq!(shown, &whole);
    }
    let retrying = &page.rows[23 - 1 - 3];
    assert_eq!(retrying.status, Status::Retrying);
    assert!(retrying.next_attempt_at.is_some());

    // A job that comes while somebody reads moves no page.
    let first = a.list(&listing(10)).await.unwrap();
    let late = job_at(CREATED + 3_600_000, &mut Sequence(1));
    a.insert(&[late]).await.unwrap();
    let mut rest = listing(100);
    rest.before = first.next;
    assert_eq!(all(&*a, rest).await.0, newest[10..]);
}

pub async fn every_part_of_a_listing_leaves_something_out(subject: Subject) {
    let store = subject.a;
    let jobs = insert(&*store, 40, |nth, job| {
        if nth % 2 == 1 {
            job.summary.tenant = "acme".parse().unwrap();
        }
        if nth % 4 == 2 {
            job.summary.job_type = "other".parse().unwrap();
        }
        if nth % 8 == 4 {
            job.summary.tier = Tier::Low;
        }
    })
    .await;
    let events = jobs.iter().enumerate().filter_map(|(nth, job)| {
        let kind = match nth % 10 {
            0 => EventKind::Completed,
            2 => EventKind::Failed,
            _ => return None,
        };
        let mut end = event(job.id, kind, 1, CREATED);
        end.job = job.summary.clone();
        Some(end)
    });
    project(&*store, 3, events.collect()).await;

    type Case = (fn(&mut Listing), fn(usize) -> bool);
    let cases: [Case; 8] = [
        (|_| {}, |_| true),
        (|it| it.job_type = "other".parse().ok(), |nth| nth % 4 == 2),
        (|it| it.tier = Some(Tier::Low), |nth| nth % 8 == 4),
        (|it| it.statuses = vec![Status::Failed], |nth| nth % 10 == 2),
        (
            |it| it.statuses = vec![Status::Completed, Status::Pending],
            |nth| nth % 10 != 2,
        ),
        (|it| it.since = Some(CREATED + 8_000), |nth| nth >= 8),
        (|it| it.until = Some(CREATED + 8_000), |nth| nth < 8),
        (
            |it| {
                (it.since, it.until) = (Some(CREATED + 8_000), Some(CREATED + 30_000));
                it.statuses = vec![Status::Pending];
                it.job_type = "other".parse().ok();
            },
            |nth| (8..30).contains(&nth) && nth % 4 == 2 && nth % 10 != 0 && nth % 10 != 2,
        ),
    ];
    for (change, takes) in cases {
        let mut wanted = listing(7);
        change(&mut wanted);
        let own = (0..40).rev().filter(|nth| nth % 2 == 0 && takes(*nth));
        let expected: Vec<JobId> = own.map(|nth| jobs[nth].id).collect();
        assert!(!expected.is_empty());
        let found = all(&*store, wanted.clone()).await.0;
        assert_eq!(found, expected, "{wanted:?}");
    }
    let mut nobody = listing(7);
    nobody.tenant = "nobody".parse().unwrap();
    assert_eq!(all(&*store, nobody).await, (vec![], 1));
}

pub async fn a_listing_looks_at_a_window_and_goes_on_behind_it(subject: Subject) {
    let store = subject.a;
    // One of another tenant lies at the end, behind many that nobody asks for.
    let jobs = insert(&*store, 35, |nth, job| {
        if nth == 0 {
            job.summary.tenant = "acme".parse().unwrap();
        }
    })
    .await;
    let mut rare = Listing::of("acme".parse().unwrap(), 5);
    rare.window = 10;
    let first = store.list(&rare).await.unwrap();
    assert_eq!(first.rows.len(), 0);
    // Behind the last job of the window, and not that job's id, which is another tenant's.
    let next = first.next.unwrap();
    assert!(jobs[24].id < next && next < jobs[25].id, "{next}");
    assert_eq!(all(&*store, rare.clone()).await, (vec![jobs[0].id], 4));
    // A time that is asked for ends it, whatever lies behind.
    rare.since = Some(CREATED + 100_000);
    assert_eq!(all(&*store, rare).await, (vec![], 1));

    // Pages that are full end where they end, not with the window.
    let mut often = listing(4);
    often.window = 10;
    let first = store.list(&often).await.unwrap();
    assert_eq!(first.next, Some(jobs[31].id));
    let newest: Vec<JobId> = jobs[1..].iter().rev().map(|job| job.id).collect();
    assert_eq!(all(&*store, often).await.0, newest);
}

pub async fn an_ended_job_is_erased_and_stays_so(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let (job, other) = (new_job(), new_job());
    a.insert(&[job.clone(), other.clone()]).await.unwrap();
    assert_eq!(
        a.erase(job.id, CREATED).await,
        Ok(false),
        "it has not ended"
    );
    assert_eq!(a.erase(JobId::generate(), CREATED).await, Ok(false));
    assert_eq!(row(&*b, job.id).await.status, Status::Pending);

    let end = event(job.id, EventKind::Completed, 1, CREATED);
    let others = event(other.id, EventKind::Completed, 1, CREATED);
    project(&*a, 3, vec![end.clone(), others]).await;
    assert_eq!(b.erase(job.id, CREATED + 5).await, Ok(true));
    let gone = Lookup::Tombstone(Tombstone {
        status: Status::Completed,
        tenant: Some(Tenant::default()),
    });
    assert_eq!(a.job(job.id).await, Ok(gone.clone()));
    assert_eq!(row(&*a, other.id).await.status, Status::Completed);
    assert_eq!(a.erase(job.id, CREATED + 6).await, Ok(false), "once");
    // Nothing brings it back.
    a.insert(std::slice::from_ref(&job)).await.unwrap();
    assert_eq!(project(&*b, 3, vec![end]).await.buried, 1);
    assert_eq!(a.job(job.id).await, Ok(gone));
    let listed = a.list(&listing(10)).await.unwrap().rows;
    assert_eq!(
        listed.iter().map(|row| row.id).collect::<Vec<_>>(),
        [other.id]
    );
}
