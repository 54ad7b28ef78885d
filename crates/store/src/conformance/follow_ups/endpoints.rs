//! Endpoints: what is theirs waits for them and for nobody else.

use tidegate_contract::FollowUpKind;

use super::{DAY, LEASE, NOW, Subject, URL, all, attempt, end_at, only, take};
use crate::follow_ups::{EndpointRow, FollowUpState, Take, Then, endpoint_key};

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
