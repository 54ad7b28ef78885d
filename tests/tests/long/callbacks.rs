//! A hundred endpoints, of which ten hang and ten answer 500: the others do not notice.

use std::collections::BTreeMap;

use tidegate_contract::time::parse_rfc3339;
use tidegate_tests::receiver::{Answer, Receiver};
use tidegate_tests::{Client, Stack, secs, until_true};

const GOOD: usize = 80;
const BAD: usize = 20;
/// Jobs of each endpoint.
const JOBS: usize = 15;

/// Milliseconds from the end of a job to its callback, in order.
async fn delays(client: &Client, receiver: &Receiver, round: &str, bad: bool) -> Vec<i64> {
    let kinds = [("good", GOOD), ("hangs", BAD / 2), ("broken", BAD / 2)];
    for nth in 0..JOBS {
        for (kind, count) in kinds.iter().take(if bad { 3 } else { 1 }) {
            for endpoint in 0..*count {
                let path = format!("/{round}/{kind}-{endpoint}");
                match *kind {
                    "hangs" => receiver.answers(&path, Answer::Silence(secs(60))),
                    "broken" => receiver.answers(&path, Answer::Status(500)),
                    _ => {}
                }
                let answer = client
                    .submit("echo", nth.to_string())
                    .header("prefer", "respond-async")
                    .header("tidegate-callback-url", format!("{}{path}", receiver.url))
                    .send();
                tidegate_tests::http::accepted(answer.await.expect("an answer")).await;
            }
        }
    }
    let good = |path: &str| path.starts_with(&format!("/{round}/good"));
    until_true("all good ones were called", secs(120), || async {
        let calls = receiver.all();
        calls.iter().filter(|call| good(&call.path)).count() >= GOOD * JOBS
    })
    .await;
    let mut first = BTreeMap::new();
    for call in receiver.all().iter().filter(|call| good(&call.path)) {
        let ended = call.body["data"]["endedAt"].as_str().expect("a time");
        let ended = parse_rfc3339(ended).expect("a time");
        first.entry(call.id.clone()).or_insert(call.at - ended);
    }
    let mut delays: Vec<i64> = first.into_values().collect();
    assert_eq!(delays.len(), GOOD * JOBS);
    delays.sort_unstable();
    delays
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_hang_or_fail_do_not_delay_the_others() {
    let mut stack = Stack::new().await;
    stack.call_back();
    stack.set("notifier.limits.total=20s");
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let _notifier = stack.notifier("notifier").await;
    let (client, receiver) = (Client::new(gateway.url()), Receiver::start());
    let at = |delays: &[i64], share: f64| delays[(delays.len() as f64 * share) as usize];
    let alone = delays(&client, &receiver, "alone", false).await;
    let beside = delays(&client, &receiver, "beside", true).await;
    println!(
        "callbacks: from the end to {GOOD} endpoints that work: p50 {} ms, p99 {} ms; beside {BAD} that hang or answer 500: p50 {} ms, \
         p99 {} ms",
        at(&alone, 0.5),
        at(&alone, 0.99),
        at(&beside, 0.5),
        at(&beside, 0.99)
    );
    assert!(at(&beside, 0.99) < 2 * at(&alone, 0.99));
}
