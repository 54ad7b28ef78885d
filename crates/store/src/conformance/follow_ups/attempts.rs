//! How notifiers take follow-ups, and what comes of their attempts.

use tidegate_contract::JobId;

use super::{KIND, LEASE, NOW, Subject, URL, all, attempt, end_at, only, take};
use crate::follow_ups::{FollowUpState, Recover, Take, Then};

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
