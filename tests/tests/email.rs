//! E-mails: whom a job type names is told how its jobs ended.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::mailbox::Mailbox;
use tidegate_tests::otlp::Receiver;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_tells_how_a_job_ended_and_only_the_ends_that_are_asked_for() {
    let mailbox = Mailbox::start().await;
    let traces = Receiver::start();
    let mut stack = Stack::new().await;
    stack.set(&format!("telemetry.otlp_endpoint={}", traces.url));
    stack.set("telemetry.sample_ratio=1.0");
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

    // The attempt is in the trace of its job, and says whom it told nowhere.
    let status = client.status(&greeted).await.expect("a status");
    let trace = status["traceId"].as_str().expect("a trace");
    let names = ["send e-mail".to_owned()];
    let spans = traces.until_named(trace, &names, secs(20)).await;
    let sent = spans.iter().find(|span| span.name == names[0]);
    let sent = sent.expect("the span of the attempt");
    assert_eq!(sent.service, "tidegate-notifier");
    assert_eq!(sent.attribute("tidegate.smtp.reply_code"), "250");
    assert_eq!(sent.attribute("server.port"), mailbox.port.to_string());
    assert!(!format!("{sent:?}").contains("ops@"), "{sent:?}");

    // As the operator says: once more, the same mail.
    let command = |arguments: &[&str]| {
        let mut command = Command::new(tidegate_tests::stack::program());
        command.args(arguments).args(["--url", gateway.url()]);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let said = command(&["callbacks", "resend", &greeted, "--kind", "email"]);
    assert!(said.ends_with(": the e-mail\n"), "{said}");
    let again = until("it comes again", secs(20), || async {
        let mails = mailbox.mails().into_iter();
        let of_job: Vec<_> = mails.filter(|mail| mail.contains(&greeted)).collect();
        (of_job.len() == 2).then_some(of_job)
    })
    .await;
    assert_eq!(again[0], again[1]);
    let listed = command(&["callbacks", "list", &greeted, "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["kind"], "email", "{listed}");
}
