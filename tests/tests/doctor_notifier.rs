//! What `tidegate doctor` knows of notifiers: what waits for one, and whether one could send it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use tidegate_tests::doctor::{as_json, doctor};
use tidegate_tests::mailbox::Mailbox;
use tidegate_tests::receiver::Receiver;
use tidegate_tests::{Client, Stack, secs, until};

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_nobody_sends_need_a_notifier() {
    let mut stack = Stack::new().await;
    stack.call_back();
    let receiver = Receiver::start();
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let answer = client.wait("echo", "[1]", 20);
    let url = format!("{}/hook", receiver.url);
    let answer = answer.header("tidegate-callback-url", url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let pool = sqlx::PgPool::connect(&stack.store).await.unwrap();
    // As if it had waited for two minutes.
    until("the callback is made", secs(20), || async {
        let late = "UPDATE follow_ups SET due_at = due_at - 120000";
        let late = sqlx::query(late).execute(&pool).await.unwrap();
        (late.rows_affected() == 1).then_some(())
    })
    .await;
    pool.close().await;
    let only = ["--only", "notifier"];
    let said = doctor(&stack, &only);
    assert_eq!(said.problems(), ["notifier"], "{}", said.page);
    said.one(
        "problem",
        "notifier",
        &[
            "1 callback waiting, the oldest due for 2 min",
            "no notifier takes them",
            "start `tidegate notifier`",
        ],
    );
    let none_of_kafka = ["store", "notifier", "clocks", "types", "roles"];
    assert_eq!(said.checks(), none_of_kafka);
    said.one("ok", "store", &["PostgreSQL"]);

    let notifier = stack.notifier("notifier").await;
    let said = until("it is sent", secs(20), || async {
        let said = as_json(&stack, &["--only", "notifier", "--role", notifier.url()]);
        (said.code == 0).then_some(said)
    })
    .await;
    let well = ["callbacks have keys to sign with", "0 callbacks waiting"];
    said.one("ok", "notifier", &well);
    said.one("ok", "roles", &[notifier.url(), "is ready"]);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_notifier_cannot_send_with_is_named() {
    let mut stack = Stack::new().await;
    stack.write_types(
        "[types.report]\nhandler = { kind = \"echo\" }\nemail = { to = [\"ops@example.com\"] }\n",
    );
    let only = ["--only", "notifier"];
    let lacking = ["type report", "notifier.email.host"];
    let before = "the store has not the tables";
    let said = doctor(&stack, &only);
    assert_eq!(said.code, 0);
    said.one("warning", "notifier", &lacking);
    said.one("not checked", "notifier", &["e-mails that wait", before]);
    drop(stack.gateway("gateway").await);

    let mailbox = Mailbox::start().await;
    for setting in [
        "notifier.email.host=127.0.0.1",
        &format!("notifier.email.port={}", mailbox.port),
        "notifier.email.security=none",
        "notifier.email.from=jobs@example.org",
        "callbacks.keys=[\"whsec_short\"]",
    ] {
        stack.set(setting);
    }
    let said = doctor(&stack, &only);
    let keys = ["callbacks.keys: ", "openssl rand -base64 32"];
    said.one("problem", "notifier", &keys);
    let server = format!("mail server 127.0.0.1:{} answers", mailbox.port);
    said.one("ok", "notifier", &[&server, "0 e-mails waiting"]);
    assert!(!said.page.contains("whsec_short"), "{}", said.page);
    assert!(mailbox.mails().is_empty());

    stack.set("callbacks.keys=[]");
    stack.set("notifier.email.port=1");
    let said = doctor(&stack, &only);
    let away = ["mail server 127.0.0.1:1", "refused", "notifier.email"];
    said.one("problem", "notifier", &away);
    // A server that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    stack.set(&format!("notifier.email.port={port}"));
    let said = doctor(&stack, &only);
    said.one("problem", "notifier", &["no answer within 4s"]);
}
