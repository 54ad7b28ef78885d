//! The dispatcher against a store in memory and servers of this process.

use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_callbacks::{CallbackRules, Policy};
use tidegate_contract::Secret;
use tidegate_runtime::Readiness;
use tidegate_store::FollowUpState;

use super::*;
use crate::settings::{EndpointSettings, Limits};
use crate::sign::Signer;
use crate::testing::{FakeStore, Rows, follow_up, job};
use crate::testing_server::Server;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_KEY: &str = "whsec_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A dispatcher that runs.
struct Running {
    stop: CancellationToken,
    abandon: CancellationToken,
    tasks: TaskTracker,
    wake: Arc<Notify>,
    readiness: Readiness,
}

impl Running {
    /// As if its process were killed: nothing that is open goes on.
    async fn kill(self) {
        self.stop.cancel();
        self.abandon.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn settings() -> NotifierSettings {
    NotifierSettings {
        slots: 16,
        tick: Duration::from_millis(5),
        limits: Limits {
            total: Duration::from_secs(60),
            ..Limits::default()
        },
        ..NotifierSettings::default()
    }
}

fn keys(keys: &[&str]) -> Keys {
    let keys: Vec<Secret> = keys.iter().copied().map(Secret::new).collect();
    Keys::new(&keys, []).unwrap()
}

fn start(store: &Arc<FakeStore>, settings: NotifierSettings) -> Running {
    start_with(store, settings, keys(&[KEY]))
}

fn start_with(store: &Arc<FakeStore>, settings: NotifierSettings, keys: Keys) -> Running {
    let rules = CallbackRules {
        allow_http: true,
        policy: Policy::new(&["127.0.0.1"]).unwrap(),
    };
    let readiness = Readiness::new();
    let running = Running {
        stop: CancellationToken::new(),
        abandon: CancellationToken::new(),
        tasks: TaskTracker::new(),
        wake: Arc::default(),
        readiness: readiness.clone(),
    };
    let parts = Parts {
        jobs: Arc::clone(store) as Arc<_>,
        follow_ups: Arc::clone(store) as Arc<_>,
        clients: Clients::new(rules, settings.limits, Default::default()).unwrap(),
        keys,
        public_url: Some("https://jobs.example/".to_owned()),
        settings,
        metrics: Metrics::new([""; 0]),
        wake: Arc::clone(&running.wake),
        store: readiness.condition("store"),
    };
    let dispatcher = Dispatcher::new(parts, running.abandon.clone());
    let run = dispatcher.run(running.stop.clone(), running.tasks.clone());
    running.tasks.spawn(run);
    running
}

fn delivered(n: u32) -> impl Fn(&Rows) -> bool {
    move |rows| rows.state(n) == FollowUpState::Delivered
}

fn failed(n: u32) -> impl Fn(&Rows) -> bool {
    move |rows| rows.state(n) == FollowUpState::Failed
}

#[tokio::test]
async fn a_callback_says_how_the_job_ended_and_is_signed() {
    let mut server = Server::always("204 No Content").await;
    let mut due = follow_up(1, &format!("{}/hook?token=1", server.url));
    due.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let store = Arc::new(FakeStore::with([due]));
    let _running = start(&store, settings());
    store.until("delivered", delivered(1)).await;
    let request = server.next().await;
    assert_eq!(request.path(), "/hook?token=1");
    assert_eq!(request.job(), job(1).to_string());
    let status = format!("https://jobs.example/v1/jobs/{}", job(1));
    assert!(
        request
            .body
            .contains(&format!("\"statusUrl\":\"{status}\""))
    );
    let trace = request.header("traceparent");
    assert!(
        trace.contains("0af7651916cd43dd8448eb211c80319c"),
        "{trace}"
    );
    let id = request.header("webhook-id");
    assert_eq!(id, format!("msg_{}_completed", job(1)));
    let at = request.header("webhook-timestamp").parse().unwrap();
    let expected = Signer::new(&[Secret::new(KEY)]).unwrap();
    let expected = expected.sign(id, at, request.body.as_bytes());
    assert_eq!(request.header("webhook-signature"), expected.signature);
    assert!((now_millis() / 1000 - at).abs() < 120);
    store.change(|rows| {
        let [attempt] = rows.attempts(1) else {
            panic!("{:?}", rows.attempts(1));
        };
        assert_eq!((attempt.number, attempt.status), (1, Some(204)));
    });
}

#[tokio::test]
async fn endpoints_that_hang_or_fail_do_not_delay_the_others() {
    let mut servers = Vec::new();
    for n in 0..20 {
        servers.push(match n {
            0 | 1 => Server::start(|_| None).await,
            2 | 3 => Server::always("500 Broken").await,
            _ => Server::always("200 OK").await,
        });
    }
    let store = Arc::new(FakeStore::default());
    // Those of the bad ones are due before those of the good ones.
    for n in 0..200 {
        let server = &servers[n as usize / 10];
        store.add(follow_up(n, &format!("{}/hook", server.url)));
    }
    let mut settings = settings();
    settings.endpoint.concurrency = 4;
    settings.schedule.steps = vec![Duration::from_millis(1)];
    let _running = start(&store, settings);
    store
        .until("the good ones have theirs", |rows| {
            (40..200).all(|n| rows.state(n) == FollowUpState::Delivered)
        })
        .await;
    store.change(|rows| {
        assert!((0..20).all(|n| rows.state(n) == FollowUpState::Pending));
        assert!((0..20).all(|n| rows.attempts(n).is_empty()));
        assert!((20..40).all(|n| rows.state(n) != FollowUpState::Delivered));
    });
    for server in &mut servers[4..] {
        assert_eq!(server.rest().len(), 10);
    }
    // Nobody calls a server that hangs oftener than it may be.
    for server in &mut servers[..2] {
        assert!(server.rest().len() <= 4);
    }
}

#[tokio::test]
async fn a_host_that_hangs_holds_half_of_the_slots_however_many_endpoints_it_has() {
    let mut hangs = Server::start(|_| None).await;
    let good = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::default());
    for n in 0..30 {
        store.add(follow_up(n, &format!("{}/hook/{n}", hangs.url)));
    }
    let settings = NotifierSettings {
        slots: 4,
        ..settings()
    };
    let _running = start(&store, settings);
    hangs.next().await;
    hangs.next().await;
    for n in 100..110 {
        store.add(follow_up(n, &format!("{}/hook", good.url)));
    }
    store
        .until("the other host has its callbacks", |rows| {
            (100..110).all(|n| rows.state(n) == FollowUpState::Delivered)
        })
        .await;
    assert!(hangs.rest().is_empty());
}

#[tokio::test]
async fn a_410_ends_the_endpoint_until_an_operator_enables_it() {
    let gone = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&gone);
    let server = Server::start(move |_| {
        let gone = answers.load(Ordering::SeqCst);
        Some(if gone { "410 Gone" } else { "200 OK" }.to_owned())
    });
    let mut server = server.await;
    let url = format!("{}/hook", server.url);
    let store = Arc::new(FakeStore::with([follow_up(1, &url)]));
    let running = start(&store, settings());
    store.until("given up", failed(1)).await;
    let key = follow_up(1, &url).endpoint;
    store
        .until("the endpoint is kept", |rows| {
            rows.endpoints.contains_key(&key)
        })
        .await;
    store.change(|rows| {
        assert!(rows.reason(1).contains("410"), "{}", rows.reason(1));
        assert!(rows.endpoints[&key].ended_at.is_some());
        assert_eq!(rows.endpoints[&key].url, url);
    });
    // Its query is not of the endpoint.
    store.add(follow_up(2, &format!("{url}?other=1")));
    store.until("not called any more", failed(2)).await;
    let why = "the endpoint is disabled: it answered 410: nobody wants these callbacks";
    store.change(|rows| assert_eq!(rows.reason(2), why));
    assert_eq!(server.rest().len(), 1);

    // So it is for a notifier that has just begun.
    running.kill().await;
    let _running = start(&store, settings());
    store.add(follow_up(3, &url));
    store.until("not called by others", failed(3)).await;
    assert!(server.rest().is_empty());

    gone.store(false, Ordering::SeqCst);
    store.change(|rows| rows.endpoints.remove(&key));
    store.add(follow_up(4, &url));
    store.until("called again", delivered(4)).await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_gets_it() {
    let mut server = Server::always("503 Busy\r\nretry-after: 1800").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    let begun = now_millis();
    let _running = start(&store, settings());
    let kept = |rows: &Rows| rows.attempts(1).len() == 1;
    store.until("attempted", kept).await;
    store.change(|rows| {
        assert_eq!(rows.state(1), FollowUpState::Pending);
        let due = rows.follow_ups[&job(1)].0.due_at;
        assert!(due >= begun + 1_800_000 && due <= now_millis() + 1_800_000);
    });
    assert_eq!(server.rest().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_paused_and_its_callbacks_lose_no_attempt() {
    let mut server = Server::always("500 Broken").await;
    let store = Arc::new(FakeStore::default());
    for n in 0..40 {
        store.add(follow_up(n, &server.url));
    }
    let endpoint = EndpointSettings {
        failures: 3,
        concurrency: 1,
        ..EndpointSettings::default()
    };
    let _running = start(
        &store,
        NotifierSettings {
            endpoint,
            ..settings()
        },
    );
    let now = now_millis();
    store
        .until("all wait for the end of the pause", |rows| {
            let mut all = rows.follow_ups.values();
            all.all(|(row, _)| row.due_at > now + 1_000 && row.due_at < now + 600_000)
                && rows.endpoints.len() == 1
        })
        .await;
    store.change(|rows| {
        let tried = (0..40).filter(|n| !rows.attempts(*n).is_empty());
        assert_eq!(tried.count(), 3);
        let row = rows.endpoints.values().next().unwrap();
        let record: Record = serde_json::from_str(&row.record).unwrap();
        assert_eq!((record.failures, record.ended), (3, None));
    });
    assert_eq!(server.rest().len(), 3);
}

#[tokio::test]
async fn whose_lease_runs_out_is_delivered_again_with_the_same_id() {
    let first = AtomicBool::new(true);
    // The first attempt hangs.
    let server = Server::start(move |_| {
        let hangs = first.swap(false, Ordering::SeqCst);
        (!hangs).then(|| "200 OK".to_owned())
    });
    let mut server = server.await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    let _running = start(&store, settings());
    let one = server.next().await;
    store.leases_run_out();
    store.until("delivered", delivered(1)).await;
    let two = server.next().await;
    assert_eq!(one.header("webhook-id"), two.header("webhook-id"));
    assert_eq!(one.body, two.body);
    assert!(server.rest().is_empty());
}

#[tokio::test]
async fn killed_between_delivery_and_record_it_is_delivered_again_with_the_same_id() {
    let mut server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    store.deaf.store(true, Ordering::SeqCst);
    let running = start(&store, settings());
    let one = server.next().await;
    running.kill().await;
    store.change(|rows| assert_eq!(rows.state(1), FollowUpState::Pending));
    store.deaf.store(false, Ordering::SeqCst);

    let _running = start(&store, settings());
    store.leases_run_out();
    store.until("delivered", delivered(1)).await;
    let two = server.next().await;
    assert_eq!(one.header("webhook-id"), two.header("webhook-id"));
    assert_eq!(one.body, two.body);
}

#[tokio::test]
async fn sent_again_it_has_the_same_id() {
    let mut server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    let running = start(&store, settings());
    store.until("delivered", delivered(1)).await;
    let one = server.next().await;
    store.resend(job(1), None, now_millis()).await.unwrap();
    running.wake.notify_one();
    let two = server.next().await;
    assert_eq!(one.header("webhook-id"), two.header("webhook-id"));
}

#[tokio::test]
async fn while_the_store_is_away_nothing_is_lost_and_nothing_delivered_twice() {
    let store = Arc::new(FakeStore::default());
    let at_answer = Arc::clone(&store);
    // It goes away while the answer is under way.
    let server = Server::start(move |request| {
        if request.path() == "/first" {
            at_answer.away.store(true, Ordering::SeqCst);
        }
        Some("200 OK".to_owned())
    });
    let mut server = server.await;
    store.add(follow_up(1, &format!("{}/first", server.url)));
    let running = start(&store, settings());
    server.next().await;
    let store_is = |ok: bool| {
        let readiness = running.readiness.clone();
        async move {
            while readiness.is_ready() != ok {
                tokio::task::yield_now().await;
            }
        }
    };
    store_is(false).await;
    store.add(follow_up(2, &format!("{}/second", server.url)));
    store.leases_run_out();
    store.away.store(false, Ordering::SeqCst);
    store.until("told of the first one", delivered(1)).await;
    store.until("caught up", delivered(2)).await;
    store_is(true).await;
    assert_eq!(server.rest().len(), 1);
}

#[tokio::test]
async fn a_store_that_is_away_at_the_start_is_waited_for() {
    let mut server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    store.away.store(true, Ordering::SeqCst);
    let running = start(&store, settings());
    while running.readiness.report().conditions[0].reason.as_deref()
        != Some("store is unavailable: it is away")
    {
        tokio::task::yield_now().await;
    }
    assert!(server.rest().is_empty());
    store.away.store(false, Ordering::SeqCst);
    store.until("delivered", delivered(1)).await;
}

#[tokio::test]
async fn while_a_key_is_replaced_both_sign() {
    let mut server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    let _running = start_with(&store, settings(), keys(&[NEXT_KEY, KEY]));
    let request = server.next().await;
    let signatures: Vec<_> = request.header("webhook-signature").split(' ').collect();
    let at = request.header("webhook-timestamp").parse().unwrap();
    let with = |key: &str| {
        let signer = Signer::new(&[Secret::new(key)]).unwrap();
        let id = request.header("webhook-id");
        signer.sign(id, at, request.body.as_bytes()).signature
    };
    assert_eq!(signatures, [with(NEXT_KEY), with(KEY)]);
}

#[tokio::test]
async fn what_cannot_be_sent_at_all_is_given_up_with_the_reason() {
    let server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([
        follow_up(1, "ftp://127.0.0.1/"),
        follow_up(2, "http://10.0.0.1/"),
        follow_up(3, &server.url),
    ]));
    store.change(|rows| rows.purged.push(job(3)));
    let _running = start(&store, settings());
    for (n, why) in [
        (1, "must begin with"),
        (2, "10.0.0.1 is a private address"),
        (3, "the job is not kept any more"),
    ] {
        store.until("given up", failed(n)).await;
        store.change(|rows| {
            assert!(rows.reason(n).contains(why), "{}", rows.reason(n));
            assert!(rows.attempts(n).is_empty());
        });
    }
}

#[tokio::test]
async fn a_tenant_without_a_key_waits_for_one() {
    let mut server = Server::always("200 OK").await;
    let store = Arc::new(FakeStore::with([follow_up(1, &server.url)]));
    let other = "other".parse().unwrap();
    let key = [Secret::new(KEY)];
    let keys = Keys::new(&[], [(&other, &key[..])]).unwrap();
    let now = now_millis();
    let _running = start_with(&store, settings(), keys);
    let later = |rows: &Rows| {
        let (row, _) = &rows.follow_ups[&job(1)];
        row.due_at > now + 20_000 && row.due_at < now + 2 * 60_000
    };
    store.until("given back", later).await;
    store.change(|rows| assert_eq!(rows.state(1), FollowUpState::Pending));
    assert!(server.rest().is_empty());
}
