//! E-mails from a store in memory to a mail server of this process.

use std::sync::atomic::Ordering;

use tidegate_contract::FollowUpKind;
use tidegate_runtime::Readiness;
use tidegate_store::FollowUpState;

use super::*;
use crate::email::EmailSettings;
use crate::email::tests::server::{Encryption, Say, Script, Server};
use crate::schedule::Schedule;
use crate::testing::{FakeStore, Rows, follow_up};

/// Of a server that takes nothing.
const PAUSE: Duration = Duration::from_millis(200);

fn email(n: u32) -> FollowUp {
    let mut email = follow_up(n, "ops@example.com");
    email.kind = FollowUpKind::Email;
    email
}

/// Sends what is in the store to a server that behaves so.
async fn start(store: &Arc<FakeStore>, scripts: Vec<Script>) -> (Server, CancellationToken) {
    let server = Server::start(Encryption::None, scripts).await;
    let mut settings = NotifierSettings {
        tick: Duration::from_millis(5),
        email: EmailSettings {
            host: Some("127.0.0.1".to_owned()),
            port: Some(server.port),
            security: crate::Security::None,
            from: "jobs@example.org".to_owned(),
            ..EmailSettings::default()
        },
        schedule: Schedule {
            steps: vec![Duration::from_millis(1); 8],
            jitter: 0.0,
        },
        ..NotifierSettings::default()
    };
    settings.endpoint.failures = 3;
    settings.endpoint.pause = PAUSE;
    settings.endpoint.longest_pause = PAUSE;
    let parts = Parts {
        jobs: Arc::clone(store) as Arc<_>,
        follow_ups: Arc::clone(store) as Arc<_>,
        mailer: Mailer::new(&settings.email).unwrap().unwrap(),
        words: BTreeMap::new(),
        public_url: Some("https://jobs.example/".to_owned()),
        settings,
        metrics: Metrics::new([""; 0]),
        wake: Arc::default(),
        store: Readiness::new().condition("store"),
    };
    let stop = CancellationToken::new();
    let mailing = Mailing::new(parts, CancellationToken::new());
    tokio::spawn(mailing.run(stop.clone(), TaskTracker::new()));
    (server, stop)
}

#[tokio::test]
async fn mails_are_sent_once_each_and_kept_with_the_code_of_the_server() {
    let store = Arc::new(FakeStore::with((1..=20).map(email)));
    let (mut server, _stop) = start(&store, vec![]).await;
    let all = |rows: &Rows| (1..=20).all(|n| rows.state(n) == FollowUpState::Delivered);
    store.until("all are sent", all).await;
    let seen = server.seen();
    let mails: Vec<_> = seen
        .iter()
        .filter(|(_, it)| it.contains("Message-ID:"))
        .collect();
    assert_eq!(mails.len(), 20);
    assert!(mails[0].1.contains("https://jobs.example/v1/jobs/"));
    store.change(|rows| assert_eq!(rows.attempts(1)[0].status, Some(250)));
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_given_up_and_one_for_now_is_sent_again() {
    let store = Arc::new(FakeStore::with([email(1)]));
    let refuses: Script = vec![("RCPT", Say::Reply("550 no such user"))];
    let (_server, _stop) = start(&store, vec![refuses]).await;
    let given_up = |rows: &Rows| rows.state(1) == FollowUpState::Failed;
    store.until("it is given up", given_up).await;
    store.change(|rows| {
        assert!(
            rows.reason(1).contains("no such user"),
            "{}",
            rows.reason(1)
        );
        assert_eq!(rows.attempts(1).len(), 1);
    });

    let store = Arc::new(FakeStore::with([email(1)]));
    let greylists: Script = vec![("RCPT", Say::Reply("451 later")), ("RSET", Say::HangUp)];
    let (_server, _stop) = start(&store, vec![greylists, vec![]]).await;
    let sent = |rows: &Rows| rows.state(1) == FollowUpState::Delivered;
    store.until("it is sent", sent).await;
    store.change(|rows| {
        let codes: Vec<_> = rows.attempts(1).iter().map(|it| it.status).collect();
        assert_eq!(codes, [Some(451), Some(250)]);
    });
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_paused_and_the_mails_keep_their_attempts() {
    let store = Arc::new(FakeStore::with((1..=20).map(email)));
    let closed: Script = vec![("greeting", Say::Reply("554 go away"))];
    let mut scripts = vec![closed; 8];
    scripts.push(vec![]);
    let (_server, _stop) = start(&store, scripts).await;
    let all = |rows: &Rows| (1..=20).all(|n| rows.state(n) == FollowUpState::Delivered);
    store.until("it is back and takes all", all).await;
    let mut attempts: Vec<_> = store.change(|rows| {
        let of_all = (1..=20).flat_map(|n| rows.attempts(n).to_vec());
        of_all.map(|it| (it.at, it.status)).collect()
    });
    attempts.sort_unstable();
    let codes: Vec<_> = attempts.iter().filter_map(|(_, code)| *code).collect();
    assert_eq!(codes[..8], [554; 8]);
    assert_eq!(codes[8..], [250; 20], "each mail is sent once");
    // The third failure pauses it, and at most three more were under way by then: the others come one by one.
    for pair in attempts[6..=8].windows(2) {
        assert!(pair[1].0 - pair[0].0 >= millis(PAUSE), "{attempts:?}");
    }
}

#[tokio::test]
async fn a_job_that_is_not_kept_needs_no_mail_and_a_store_that_was_away_delays_them_only() {
    let store = Arc::new(FakeStore::with([email(1), email(2)]));
    store.change(|rows| rows.purged.push(crate::testing::job(1)));
    store.away.store(true, Ordering::SeqCst);
    let (mut server, _stop) = start(&store, vec![]).await;
    store.away.store(false, Ordering::SeqCst);
    let settled = |rows: &Rows| {
        rows.state(1) == FollowUpState::Failed && rows.state(2) == FollowUpState::Delivered
    };
    store.until("both are settled", settled).await;
    assert_eq!(server.count("MAIL"), 1);
}
