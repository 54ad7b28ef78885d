//! Delayed jobs, further attempts, and jobs that are done again.

use tidegate_contract::{EventKind, JobId, Status};

use super::Subject;
use super::samples::{CREATED, event, new_job, project, row};
use crate::merge::pending;
use crate::types::{NewJob, NewRetry, Retry};

pub async fn a_delayed_job_is_scheduled_until_it_starts(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let due = CREATED + 60_000;
    let job = NewJob {
        not_before: Some(due),
        ..new_job()
    };
    a.insert(std::slice::from_ref(&job)).await.unwrap();
    let found = row(&*b, job.id).await;
    assert_eq!(found, pending(&job));
    assert_eq!(
        (found.status, found.next_attempt_at),
        (Status::Scheduled, Some(due))
    );

    // Known by its event alone, it is the same.
    let told = new_job();
    let mut accepted = event(told.id, EventKind::Accepted, 0, CREATED);
    accepted.next_attempt_at = Some(due);
    project(&*a, 3, vec![accepted]).await;
    let found = row(&*b, told.id).await;
    assert_eq!(
        (found.status, found.next_attempt_at),
        (Status::Scheduled, Some(due))
    );

    project(&*b, 3, vec![event(job.id, EventKind::Started, 1, due + 5)]).await;
    let found = row(&*a, job.id).await;
    assert_eq!(
        (found.status, found.next_attempt_at),
        (Status::Processing, None)
    );
}

pub async fn a_failed_attempt_shows_until_the_job_completes(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let job = new_job();
    let at = CREATED + 10;
    let failed = event(job.id, EventKind::RetryScheduled, 1, at);
    project(&*a, 3, vec![failed.clone()]).await;
    let found = row(&*b, job.id).await;
    assert_eq!(found.status, Status::Retrying);
    assert_eq!(found.next_attempt_at, failed.next_attempt_at);
    assert_eq!(found.error, failed.error);
    assert_eq!(found.error.as_ref().unwrap().attempts, Some(3));
    assert_eq!((found.error_attempt, found.error_at), (Some(1), Some(at)));

    // The error stays while the next attempt runs, through batches of other events.
    for kind in [EventKind::Started, EventKind::Progress] {
        project(&*b, 3, vec![event(job.id, kind, 2, at + 5)]).await;
    }
    let found = row(&*a, job.id).await;
    assert_eq!((found.status, found.attempt), (Status::Processing, 2));
    assert_eq!((found.error, found.next_attempt_at), (failed.error, None));
    assert_eq!((found.error_attempt, found.error_at), (Some(1), Some(at)));

    let lost = event(job.id, EventKind::DeadLettered, 2, at + 9);
    project(&*a, 3, vec![lost.clone()]).await;
    let found = row(&*b, job.id).await;
    assert_eq!((found.error, found.error_attempt), (lost.error, Some(2)));
    assert_eq!(found.dead_letter, lost.dead_letter);
    assert!(found.dead_letter.is_some());

    let other = new_job();
    let kinds = [EventKind::RetryScheduled, EventKind::Completed];
    let events = (1..)
        .zip(kinds)
        .map(|(n, kind)| event(other.id, kind, n, at));
    project(&*a, 3, events.collect()).await;
    let found = row(&*b, other.id).await;
    assert_eq!((found.error, found.error_attempt), (None, None));
}

pub async fn an_ended_job_is_done_again_by_one_job(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let old = new_job();
    a.insert(std::slice::from_ref(&old)).await.unwrap();
    assert_eq!(b.retry(old.id).await, Ok(None));
    let claim = |n: i64| NewRetry {
        of: old.id,
        job: JobId::generate(),
        reply_partition: 4,
        at: CREATED + n,
    };
    let claims: Vec<_> = (0..8).map(claim).collect();
    let mut racing = tokio::task::JoinSet::new();
    for (n, claim) in claims.iter().copied().enumerate() {
        let store = if n % 2 == 0 { a.clone() } else { b.clone() };
        racing.spawn(async move { (claim, store.claim_retry(claim).await.unwrap()) });
    }
    let results = racing.join_all().await;
    let won: Vec<_> = results.iter().filter(|(_, lost)| lost.is_none()).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    let won = won[0].0;
    let mut retry = Retry {
        job: won.job,
        reply_partition: 4,
        produced: false,
        at: won.at,
    };
    for (_, lost) in results.iter().filter(|(_, lost)| lost.is_some()) {
        assert_eq!(*lost, Some(retry));
    }
    assert_eq!(row(&*a, old.id).await.retried_as, None, "not before it is");
    b.retry_produced(old.id, JobId::generate()).await.unwrap();
    assert_eq!(a.retry(old.id).await, Ok(Some(retry)));
    b.retry_produced(old.id, won.job).await.unwrap();
    retry.produced = true;
    assert_eq!(a.retry(old.id).await, Ok(Some(retry)));
    assert_eq!(row(&*b, old.id).await.retried_as, Some(won.job));

    let hundred_days = 100 * 24 * 3_600_000;
    let purged = a.purge(won.at + hundred_days - 1, 10).await.unwrap();
    assert_eq!(purged.retries, 0);
    let purged = a.purge(won.at + hundred_days, 10).await.unwrap();
    assert_eq!(purged.retries, 1);
    assert_eq!(b.retry(old.id).await, Ok(None));
}
