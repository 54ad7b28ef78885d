//! Callbacks: who asks is told how the job ended, signed, as often as it takes.

#![allow(clippy::expect_used)] // clippy knows only `#[test]` functions as tests

use serde_json::{Value, json};
use tidegate_contract::now_millis;
use tidegate_contract::time::rfc3339;
use tidegate_tests::callbacks::Installation;
use tidegate_tests::receiver::Answer;
use tidegate_tests::{Client, Stack, secs, until_true};

#[tokio::test]
async fn a_callback_tells_the_end_signed_and_in_the_trace_of_its_job() {
    let all = Installation::new().await;
    let id = all.job("echo", "/done", None).await;
    let call = all.calls("/done", 1).await.remove(0);
    assert!(call.signed);
    assert_eq!(call.body["type"], "job.completed");
    let data = &call.body["data"];
    assert_eq!(data["id"], id);
    assert_eq!(data["status"], "completed");
    assert_eq!(data["result"], json!({"n": 7}));
    let status = all.client.status(&id).await.expect("a status");
    assert_eq!(
        status["status"], "completed",
        "never before the status says so"
    );
    let trace = status["traceId"].as_str().expect("a trace");
    let sent = call.traceparent.expect("traceparent");
    assert_eq!(sent.split('-').nth(1), Some(trace));

    let callback = all.callback(&id, "delivered").await;
    assert_eq!(callback["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(callback["attempts"][0]["status"], 204);

    // A wait does not hinder it, and what is not asked for is not told.
    let quiet = all.job("echo", "/quiet", Some("job.failed")).await;
    all.client
        .until_status(&quiet, &["completed"], secs(20))
        .await;
    let failed = all
        .job("fail", "/failed", Some("job.failed, job.dead_lettered"))
        .await;
    let call = all.calls("/failed", 1).await.remove(0);
    assert_eq!(call.body["data"]["id"], failed);
    assert_eq!(call.body["data"]["error"]["code"], "command-exit");
    assert_eq!(all.callbacks(&quiet).await["callbacks"], json!([]));
    assert_eq!(all.receiver.calls("/quiet").len(), 0);
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_and_redirects_are_not_followed() {
    let all = Installation::new().await;
    all.receiver.answers(
        "/moved",
        Answer::With(302, "location", format!("{}/secret", all.receiver.url)),
    );
    let id = all.job("echo", "/moved", None).await;
    let calls = all.calls("/moved", 2).await;
    assert_eq!(calls[0].id, calls[1].id, "a repeat has the id of the first");
    assert!(calls.iter().all(|call| call.signed));
    all.receiver.answers("/moved", Answer::Status(200));
    let callback = all.callback(&id, "delivered").await;
    assert_eq!(callback["attempts"][0]["status"], 302);
    assert_eq!(all.receiver.calls("/secret").len(), 0);

    // As the operator says: once more, with the same id.
    let before = all.receiver.calls("/moved").len();
    all.command(&["callbacks", "resend", &id]);
    let again = all.calls("/moved", before + 1).await;
    assert_eq!(again[before].id, calls[0].id);
}

#[tokio::test]
async fn a_notifier_that_dies_between_delivery_and_record_delivers_the_same_message_again() {
    let mut all = Installation::new().await;
    all.receiver.answers("/slow", Answer::Silence(secs(30)));
    let id = all.job("echo", "/slow", None).await;
    let first = all.calls("/slow", 1).await.remove(0);
    all.notifier.take().expect("a notifier").kill();
    all.receiver.answers("/slow", Answer::Status(204));
    let _second = all.stack.notifier("notifier-2").await;
    let calls = all.calls("/slow", 2).await;
    assert_eq!(calls[1].id, first.id);
    assert_eq!(calls[1].body, first.body);
    all.callback(&id, "delivered").await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_called_until_somebody_says_so() {
    let all = Installation::new().await;
    let since = rfc3339(now_millis());
    all.receiver.answers("/gone", Answer::Status(410));
    let first = all.job("echo", "/gone", None).await;
    let callback = all.callback(&first, "failed").await;
    assert_eq!(callback["attempts"][0]["status"], 410);
    let second = all.job("echo", "/gone", None).await;
    let callback = all.callback(&second, "failed").await;
    assert!(
        callback["reason"]
            .as_str()
            .expect("a reason")
            .contains("410"),
        "{callback}"
    );
    assert_eq!(
        all.receiver.calls("/gone").len(),
        1,
        "it was not called again"
    );

    let url = format!("{}/gone", all.receiver.url);
    let endpoints = all.command(&["callbacks", "endpoints"]);
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0]["url"], url);
    assert_eq!(endpoints[0]["state"], "disabled");
    assert_eq!(endpoints[0]["reason"], "it answered 410");
    all.receiver.answers("/gone", Answer::Status(204));
    all.command(&["callbacks", "enable", &url]);
    let recovered = all.command(&["callbacks", "recover", "--since", &since]);
    assert_eq!(recovered[0]["recovered"], 2);
    all.callback(&first, "delivered").await;
    all.callback(&second, "delivered").await;
    assert_eq!(
        all.command(&["callbacks", "endpoints"]),
        Vec::<Value>::new()
    );
    let listed = all.command(&["callbacks", "list", &second]);
    assert_eq!(listed[0]["state"], "delivered");
}

#[tokio::test]
async fn urls_that_break_a_rule_are_refused_and_say_which() {
    let mut stack = Stack::new().await;
    stack.set(&format!(
        "callbacks.keys=[\"{}\"]",
        tidegate_tests::receiver::SECRET
    ));
    let gateway = stack.gateway("gateway").await;
    let client = Client::new(gateway.url());
    for (url, rule) in [
        ("not a url", "characters"),
        ("no-url", "syntax"),
        ("http://example.org/", "scheme"),
        ("https://me:secret@example.org/", "credentials"),
        ("https://example.org:22/", "port"),
        ("https://127.0.0.1/", "address"),
        ("https://[::ffff:10.0.0.1]/", "address"),
        ("https://169.254.169.254/latest/meta-data", "address"),
        ("https://localhost/", "address"),
        ("https://no-such-host.invalid/", "name"),
    ] {
        let answer = client
            .submit("echo", "1")
            .header("tidegate-callback-url", url)
            .send()
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(
            (status, problem["rule"].as_str()),
            (422, Some(rule)),
            "{url}: {problem}"
        );
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
    let answer = client
        .submit("echo", "1")
        .header("tidegate-callback-events", "job.failed")
        .send();
    assert_eq!(
        answer.await.expect("an answer").status(),
        400,
        "events of nothing"
    );
}

#[tokio::test]
async fn callbacks_wait_for_a_store_and_a_notifier_that_are_away() {
    let mut all = Installation::new().await;
    all.notifier.take().expect("a notifier").terminate();
    let id = all.job("echo", "/later", None).await;
    all.client.until_status(&id, &["completed"], secs(20)).await;
    all.callback(&id, "pending").await;
    let _later = all.stack.notifier("notifier-2").await;
    all.callback(&id, "delivered").await;
    until_true("it came once", secs(5), || async {
        all.receiver.calls("/later").len() == 1
    })
    .await;
}
