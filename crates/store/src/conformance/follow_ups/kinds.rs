//! Callbacks and e-mails of the same jobs.

use tidegate_contract::{EventKind, FollowUpKind, JobId};

use super::{NOW, Subject, ended, making, project_with, spec};
use crate::follow_ups::{FollowUpState, Recover, Take, Then};
use crate::store::Store;

/// An end of a job with a callback and an e-mail.
async fn end(store: &dyn Store) -> JobId {
    let specs = FollowUpKind::ALL.map(|kind| spec(kind, "target", ""));
    let end = ended(specs.into(), EventKind::Completed);
    let id = end.job_id;
    let made = project_with(store, 3, vec![end], making()).await;
    assert_eq!(made.follow_ups, 2);
    id
}

pub async fn those_that_are_held_show_until_when(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let email = FollowUpKind::Email;
    end(&*a).await;
    end(&*a).await;
    let waiting = b.waiting(email).await.unwrap();
    assert_eq!((waiting.pending, waiting.held_until), (2, None));
    let lease = NOW + 60_000;
    let one = Take {
        kind: email,
        now: NOW,
        lease,
        limit: 1,
        per_endpoint: 1,
        except: &[],
    };
    let taken = a.take_follow_ups(&one).await.unwrap().remove(0);
    let waiting = b.waiting(email).await.unwrap();
    assert_eq!((waiting.pending, waiting.oldest_due), (2, Some(NOW)));
    assert_eq!(waiting.held_until, Some(lease));
    let callbacks = b.waiting(FollowUpKind::Callback).await.unwrap();
    assert_eq!(callbacks.held_until, None);
    let later = Then::At(lease + 1);
    assert_eq!(a.give_back(&taken, &later).await, Ok(true));
    let waiting = b.waiting(email).await.unwrap();
    assert_eq!(waiting.held_until, None, "it waits and nobody has it");
}

async fn give_up(store: &dyn Store) {
    for kind in FollowUpKind::ALL {
        let take = Take {
            kind,
            now: NOW,
            lease: NOW + 60_000,
            limit: 10,
            per_endpoint: 10,
            except: &[],
        };
        for taken in store.take_follow_ups(&take).await.unwrap() {
            let then = Then::GivenUp("no more".to_owned());
            assert_eq!(store.give_back(&taken, &then).await, Ok(true));
        }
    }
}

/// The kinds of a job that wait.
async fn pending(store: &dyn Store, job: JobId) -> Vec<FollowUpKind> {
    let all = store.follow_ups(job).await.unwrap().into_iter();
    let pending = all.filter(|(it, _)| it.state == FollowUpState::Pending);
    pending.map(|(it, _)| it.kind).collect()
}

pub async fn one_kind_is_sent_again_or_all_of_them(subject: Subject) {
    let Subject { a, b, .. } = subject;
    let (one, other) = (end(&*a).await, end(&*a).await);
    let all = FollowUpKind::ALL;
    for kind in all {
        give_up(&*a).await;
        assert_eq!(b.resend(one, Some(kind), NOW).await, Ok(vec![kind]));
        assert_eq!(pending(&*a, one).await, [kind]);
    }
    give_up(&*a).await;
    assert_eq!(b.resend(one, None, NOW).await, Ok(all.to_vec()));
    assert_eq!(pending(&*a, one).await, all);
    assert_eq!(pending(&*a, other).await, []);

    let recover = |kind| Recover {
        tenant: Default::default(),
        kind,
        endpoint: None,
        since: 0,
    };
    for kind in all {
        give_up(&*a).await;
        let which = recover(Some(kind));
        assert_eq!(b.recover(&which, NOW, 10).await, Ok(2));
        assert_eq!(pending(&*a, one).await, [kind]);
        assert_eq!(pending(&*a, other).await, [kind]);
    }
    give_up(&*a).await;
    assert_eq!(b.recover(&recover(None), NOW, 10).await, Ok(4));
}
