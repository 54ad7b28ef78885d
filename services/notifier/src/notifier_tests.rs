//! The role around the dispatcher.

use std::sync::atomic::Ordering;

use tidegate_callbacks::Policy;
use tidegate_contract::Secret;
use tidegate_store::FollowUpState;

use super::*;
use crate::testing::{FakeStore, PATIENCE, follow_up};
use crate::testing_server::Server;

fn config(store: &Arc<FakeStore>, keys: &[&str]) -> NotifierConfig {
    let keys: Vec<Secret> = keys.iter().copied().map(Secret::new).collect();
    NotifierConfig {
        jobs: Arc::clone(store) as Arc<_>,
        follow_ups: Arc::clone(store) as Arc<_>,
        settings: NotifierSettings {
            listen: "127.0.0.1:0".to_owned(),
            ..NotifierSettings::default()
        },
        rules: CallbackRules {
            allow_http: true,
            policy: Policy::new(&["127.0.0.1"]).unwrap(),
        },
        configured: BTreeSet::new(),
        keys: Keys::new(&keys, []).unwrap(),
        words: BTreeMap::new(),
        public_url: None,
        wake: Arc::default(),
        metrics: Metrics::new([""; 0]),
        instance: "test".to_owned(),
    }
}

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn without_a_key_or_with_a_bad_setting_there_is_none() {
    let store = Arc::new(FakeStore::default());
    let refused = Notifier::build(config(&store, &[])).await.err().unwrap();
    assert!(refused.to_string().starts_with("callbacks.keys is empty"));
    let mut bad = config(&store, &[KEY]);
    bad.settings.slots = 0;
    let refused = Notifier::build(bad).await.err().unwrap();
    assert!(refused.to_string().starts_with("notifier.slots"));
}

#[tokio::test]
async fn a_stop_lets_attempts_end_within_the_grace_time_and_leaves_the_others() {
    let mut good = Server::always("200 OK").await;
    let mut hangs = Server::start(|_| None).await;
    let store = Arc::new(FakeStore::default());
    store.away.store(true, Ordering::SeqCst);
    let notifier = Notifier::build(config(&store, &[KEY])).await.unwrap();
    assert!(notifier.ops_addr().is_some());
    let readiness = notifier.readiness();
    let shutdown = Shutdown::new(std::time::Duration::from_millis(100));
    let run = tokio::spawn(notifier.run(shutdown.clone()));
    store.away.store(false, Ordering::SeqCst);
    readiness.until_ready(PATIENCE).await.unwrap();
    store.add(follow_up(1, &good.url));
    store.add(follow_up(2, &hangs.url));
    good.next().await;
    hangs.next().await;
    store
        .until("delivered", |rows| {
            rows.state(1) == FollowUpState::Delivered
        })
        .await;
    shutdown.trigger();
    tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    // Its lease runs out.
    store.change(|rows| {
        assert_eq!(rows.state(2), FollowUpState::Pending);
        assert!(rows.attempts(2).is_empty());
    });
    assert!(!readiness.is_ready());
}
