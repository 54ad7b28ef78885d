//! Callbacks to those who mean harm: each attempt is bounded, is kept with what came of it, and is made again as the schedule
//! says.

#![allow(clippy::expect_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_contract::Millis;
use tidegate_tests::callbacks::{Attempt, Installation};
use tidegate_tests::receiver::Answer;
use tidegate_tests::{Stack, lookups, misbehave, secs, tls, until, until_true};
use tokio::net::TcpListener;

/// `notifier.limits.total` of these installations, and what a busy machine may take besides.
const LIMIT: Millis = 2_000;
const SLACK: Millis = 1_500;
/// The shortest that their first pause between two attempts may be.
const PAUSE: Millis = 240;

/// The first two attempts of a job's callback: bounded, and with a pause between them.
async fn two(all: &Installation, id: &str) -> [Attempt; 2] {
    let mut attempts = all.attempts(id, 2).await.into_iter();
    let two = [attempts.next(), attempts.next()].map(|it| it.expect("two attempts"));
    for attempt in &two {
        assert!(attempt.took < LIMIT + SLACK, "{attempt:?}");
    }
    let pause = two[1].at - (two[0].at + two[0].took);
    assert!(pause >= PAUSE, "{pause} ms: {two:?}");
    two
}

/// The same of one that gets no answer, and says so in these words.
async fn two_failures(all: &Installation, id: &str, words: &str) -> [Attempt; 2] {
    let two = two(all, id).await;
    for attempt in &two {
        assert_eq!((attempt.status, attempt.answer.as_str()), (None, ""));
        let error = attempt.error.as_deref().expect("an error");
        assert!(error.contains(words), "`{words}` in `{error}`");
    }
    two
}

/// Everybody else is called as always.
async fn others_are_called(all: &Installation) {
    let id = all.job("echo", "/other", None).await;
    all.callback(&id, "delivered").await;
}

/// A server where nobody may be, and how many have come to it all the same.
async fn nobodys(address: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.expect("an address");
    let address = listener.local_addr().expect("an address").to_string();
    let came = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&came);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, came)
}

#[tokio::test]
async fn an_answer_that_drips_takes_no_longer_than_an_attempt_may() {
    let all = Installation::new().await;
    let server = misbehave::Server::start().await;
    let job = async |path: &str| all.job_to("echo", &server.url(path), None).await;
    let head = job("200/drip-head").await;
    let refused = job("503/drip").await;
    let taken = job("200/drip").await;

    for attempt in two_failures(&all, &head, "did not answer within 2s").await {
        assert!(attempt.took >= LIMIT, "{attempt:?}");
    }
    for attempt in two(&all, &refused).await {
        assert_eq!((attempt.status, &attempt.error), (Some(503), &None));
        assert!(attempt.took >= LIMIT, "{attempt:?}");
        let text = &attempt.answer;
        assert!(text.starts_with("...") && text.len() < 100, "{text}");
    }
    // The message was taken when the head came.
    all.callback(&taken, "delivered").await;
    let attempts = all.attempts(&taken, 1).await;
    assert_eq!((attempts.len(), attempts[0].status), (1, Some(200)));
    assert!(attempts[0].took < LIMIT + SLACK, "{attempts:?}");
    for path in ["200/drip-head", "503/drip", "200/drip"] {
        until_true(&format!("{path} is hung up on"), secs(10), || async {
            !server.taken(path).is_empty()
        })
        .await;
    }
    others_are_called(&all).await;
}

#[tokio::test]
async fn an_answer_of_two_gigabytes_is_not_read() {
    const JOBS: usize = 16;
    /// What lies in the buffers of the system counts as taken.
    const TAKEN: usize = 64 << 20;
    let all = Installation::new().await;
    let server = misbehave::Server::start().await;
    others_are_called(&all).await;
    let notifier = all.notifier.as_ref().expect("a notifier");
    let before = notifier.peak_memory_kib();

    let mut jobs = Vec::new();
    for nth in 0..JOBS {
        let url = server.url(&format!("503/huge/{nth}"));
        jobs.push(all.job_to("echo", &url, None).await);
    }
    let delivered = all.job_to("echo", &server.url("200/huge"), None).await;
    for id in &jobs {
        for attempt in two(&all, id).await {
            assert_eq!((attempt.status, &attempt.error), (Some(503), &None));
            assert_eq!(attempt.answer, " ".repeat(1024));
            assert!(attempt.took < LIMIT, "the body is not waited for");
        }
    }
    all.callback(&delivered, "delivered").await;
    assert_eq!(all.attempts(&delivered, 1).await.len(), 1);

    let mut paths: Vec<_> = (0..JOBS).map(|nth| format!("503/huge/{nth}")).collect();
    paths.push("200/huge".to_owned());
    let mut most = 0;
    for path in paths {
        let what = format!("{path} is hung up on");
        let taken = until(&what, secs(10), || async {
            let taken = server.taken(&path);
            (!taken.is_empty()).then_some(taken)
        });
        most = taken.await.into_iter().fold(most, usize::max);
    }
    let after = notifier.peak_memory_kib();
    println!(
        "of 2 GiB each, at most {} KiB were taken; the notifier had {before} KiB before and at most {after}",
        most / 1024
    );
    assert!(most < TAKEN, "{most}");
    assert!(after < before + 32 * 1024, "{before} KiB, then {after}");
    others_are_called(&all).await;
}

#[tokio::test]
async fn a_redirect_to_an_address_that_is_not_called_reaches_nobody() {
    let all = Installation::new().await;
    let (address, came) = nobodys("127.0.0.2:0").await;
    let statuses = [301, 302, 303, 307, 308];
    let mut jobs = Vec::new();
    for status in statuses {
        let path = format!("/{status}");
        let to = format!("http://{address}/secret");
        let answer = Answer::With(status, "location", to);
        all.receiver.answers(&path, answer);
        jobs.push(all.job("echo", &path, None).await);
    }
    for (status, id) in statuses.into_iter().zip(&jobs) {
        for attempt in two(&all, id).await {
            let expected = (Some(u64::from(status)), &None);
            assert_eq!((attempt.status, &attempt.error), expected);
        }
    }
    assert_eq!(came.load(Ordering::Relaxed), 0);
    others_are_called(&all).await;
}

#[tokio::test]
async fn nothing_is_said_to_whom_nobody_vouches_for() {
    let all = Installation::new().await;
    let own = tls::SelfSigned::start().await;
    let own_word = all.job_to("echo", &format!("{}/hook", own.url), None).await;
    let plain = all.receiver.url.replace("http:", "https:");
    let plain = all.job_to("echo", &format!("{plain}/plain"), None).await;
    // The system takes its connections, and nobody ever says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let url = format!("https://{address}/hook");
    let silence = all.job_to("echo", &url, None).await;

    two_failures(
        &all,
        &own_word,
        "no connection to the callback: invalid peer certificate",
    )
    .await;
    assert!(own.met() >= 2, "it was there");
    assert_eq!(own.read(), 0);
    two_failures(&all, &plain, "no connection to the callback: ").await;
    assert_eq!(all.receiver.calls("/plain").len(), 0);
    two_failures(&all, &silence, "did not answer within 2s").await;
    others_are_called(&all).await;
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let server = misbehave::Server::start().await;
    let port = server.address().port();
    let (_, came) = nobodys(&format!("127.0.0.2:{port}")).await;
    let mut stack = Stack::new().await;
    stack.call_back();
    // The first is for the submit in the gateway, and for the first attempt in the notifier: if that looked twice, it would
    // connect to the second. `once` ends its connection, so that each attempt makes one.
    lookups::find(&mut stack, &["127.0.0.1", "127.0.0.2", "127.0.0.1"]);
    let all = Installation::of(stack).await;
    let url = format!("http://rebound.test:{port}/503/once");
    let id = all.job_to("echo", &url, None).await;
    two(&all, &id).await;
    let attempts = all.attempts(&id, 3).await;
    let said: Vec<_> = attempts[..3]
        .iter()
        .map(|it| (it.status, it.error.as_deref()))
        .collect();
    let forbidden = "rebound.test has no address that may be called";
    let expected = [
        (Some(503), None),
        (None, Some(forbidden)),
        (Some(503), None),
    ];
    assert_eq!(said, expected);
    assert_eq!(came.load(Ordering::Relaxed), 0);
    others_are_called(&all).await;
}
