//! E-mails: whom a job type names is told how its jobs ended.

use tidegate_tests::mailbox::Mailbox;
use tidegate_tests::{Client, Stack, secs, until};

const TYPES: &str = r#"
[types.greet]
handler = { kind = "echo" }
mode = "async"
email = { to = ["ops@example.com"] }

[types.watched]
handler = { kind = "command", program = ["sh", "-c", "exit \"$(cat)\""] }
mode = "async"
retry = { attempts = 1 }
email = { to = ["ops@example.com"], events = "job.failed, job.dead_lettered", subject = "{type} {jobId} {status}" }
"#;

#[tokio::test]
async fn a_mail_tells_how_a_job_ended_and_only_the_ends_that_are_asked_for() {
    let mailbox = Mailbox::start().await;
    let mut stack = Stack::new().await;
    stack.write_types(TYPES);
    for setting in [
        "notifier.email.host=127.0.0.1",
        &format!("notifier.email.port={}", mailbox.port),
        "notifier.email.security=none",
        "notifier.email.from=jobs@example.org",
        "notifier.tick=100ms",
    ] {
        stack.set(setting);
    }
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let _notifier = stack.notifier("notifier").await;
    let client = Client::new(gateway.url());
    let submit = async |job_type: &str, body: &'static str| {
        let answer = client.submit(job_type, body).send().await;
        tidegate_tests::http::accepted(answer.expect("an answer"))
            .await
            .id
    };
    let mail = async |id: &str| {
        until(&format!("a mail of {id}"), secs(30), || async {
            let mails = mailbox.mails();
            mails.into_iter().find(|mail| mail.contains(id))
        })
        .await
    };

    let quiet = submit("watched", "0").await;
    client.until_status(&quiet, &["completed"], secs(20)).await;
    let failed = submit("watched", "3").await;
    let told = mail(&failed).await;
    assert!(told.contains("Subject: watched"), "{told}");

    let greeted = submit("greet", "{}").await;
    let told = mail(&greeted).await;
    for part in [
        "To: ops@example.com",
        "has ended: completed.",
        "From: jobs@example.org",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(mailbox.mails().len(), 2, "{:?}", mailbox.mails());

    let document = until("the mail is delivered", secs(20), || async {
        let answer = client.get(&format!("/v1/jobs/{greeted}/callbacks")).send();
        let text = answer.await.expect("an answer").text().await.expect("text");
        text.contains("\"delivered\"").then_some(text)
    })
    .await;
    assert!(!document.contains("ops@"), "{document}");
}
