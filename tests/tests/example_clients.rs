//! The clients of `examples/clients`: every way to get an answer, in every language, gets the same one.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_tests::examples::{LANGUAGES, Said, client, receiver, run};
use tidegate_tests::{Client, Process, Stack, secs, until};

const REPORT: &str = r#"{"reportType":"sales","dateRange":"2025"}"#;
/// What receiver and notifier share.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Types that may be waited for as long as this gateway allows, one of which takes longer.
const SHORT: &str = r#"
[types.echo]
handler = { kind = "echo" }
wait = "1s"

[types.slow-echo]
handler = { kind = "command", program = ["sh", "-c", "sleep 2; cat"], content_type = "application/json" }
wait = "1s"

[types.fail]
handler = { kind = "command", program = ["sh", "-c", "exit 3"] }
retry = { attempts = 1 }
wait = "1s"
"#;

/// A gateway and a worker.
async fn installation(stack: &Stack) -> (Process, Process) {
    (stack.gateway("gateway").await, stack.worker("worker").await)
}

/// Runs a client in a language, in one way.
async fn say(language: &str, way: &str, gateway: &Process, job: [&str; 2]) -> Said {
    let mut command = client(language, way);
    command.args(job);
    run(command, gateway.url()).await
}

/// The report, as a client of ours gets it.
async fn report(gateway: &Process) -> Value {
    let client = Client::new(gateway.url());
    let answer = client.wait("process-report", REPORT, 25).send().await;
    answer.unwrap().json().await.unwrap()
}

/// The result in the last line that a client printed.
fn result(said: &Said) -> Value {
    let last = said.lines().last().copied().unwrap_or_default();
    let text = last.strip_prefix("completed: ");
    let text = text.unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(text).unwrap()
}

/// Every language follows a job to its end in one way, and says how a failed one ended.
async fn every_language(way: &str, sees_progress: bool) {
    let stack = Stack::new().await;
    let (gateway, _worker) = installation(&stack).await;
    let expected = report(&gateway).await;
    for language in LANGUAGES {
        let begun = Instant::now();
        let said = say(language, way, &gateway, ["process-report", REPORT]).await;
        assert_eq!(result(&said), expected, "{language}");
        let took = begun.elapsed();
        if sees_progress {
            let lines = said.lines();
            assert_eq!(lines.first(), Some(&"accepted"), "{said:?}");
            let steps = lines.iter().filter(|line| line.starts_with("progress "));
            assert!(steps.count() > 0, "{language}: {said:?}");
        }
        // A result that is no JSON does not stand in the status.
        let said = say(language, way, &gateway, ["sleep-async", "0"]).await;
        assert!(said.out.ends_with("completed: slept\n\n"), "{said:?}");

        let failed = say(language, way, &gateway, ["fail", "1"]).await;
        assert_eq!(failed.code, Some(1), "{language}: {failed:?}");
        assert!(
            failed.err.contains("command-exit"),
            "{language}: {failed:?}"
        );
        let unknown = say(language, way, &gateway, ["ecoh", "1"]).await;
        assert_eq!(unknown.code, Some(1), "{language}: {unknown:?}");
        assert!(
            unknown.err.contains("unknown-job-type"),
            "{language}: {unknown:?}"
        );
        println!("{language} {way}: the report after {took:.1?}");
    }
}

#[tokio::test]
async fn clients_wait_in_the_request_and_go_on_when_that_was_too_short() {
    let mut stack = Stack::new().await;
    stack.write_types(SHORT);
    stack.set("gateway.max_wait=1s");
    let (gateway, _worker) = installation(&stack).await;
    for language in LANGUAGES {
        let quick = say(language, "hold", &gateway, ["echo", "[1]"]).await;
        assert_eq!((quick.lines().len(), result(&quick)), (1, json!([1])));
        let slow = say(language, "hold", &gateway, ["slow-echo", "[2]"]).await;
        assert_eq!(slow.lines().first(), Some(&"accepted"), "{slow:?}");
        assert_eq!(result(&slow), json!([2]));
        let failed = say(language, "hold", &gateway, ["fail", "1"]).await;
        assert_eq!(failed.code, Some(1), "{language}: {failed:?}");
        assert!(
            failed.err.contains("command-exit"),
            "{language}: {failed:?}"
        );
    }
    let quick = say("curl", "hold", &gateway, ["echo", "[1]"]).await;
    assert_eq!((quick.code, quick.out.as_str()), (Some(0), "[1]"));
}

#[tokio::test]
async fn clients_poll_as_seldom_as_they_are_told() {
    every_language("poll", false).await;
}

#[tokio::test]
async fn clients_poll_long() {
    every_language("long-poll", false).await;
}

#[tokio::test]
async fn clients_follow_server_sent_events() {
    every_language("events", true).await;
}

#[tokio::test]
async fn clients_follow_a_web_socket() {
    every_language("websocket", true).await;
}

#[tokio::test]
async fn scripts_for_curl_print_the_status_that_ended_the_job() {
    let stack = Stack::new().await;
    let (gateway, _worker) = installation(&stack).await;
    let expected = report(&gateway).await;
    for way in ["poll", "long-poll", "events"] {
        let said = say("curl", way, &gateway, ["process-report", REPORT]).await;
        assert_eq!(said.code, Some(0), "{way}: {said:?}");
        let last = said.lines().last().copied().unwrap_or_default();
        let status: Value = serde_json::from_str(last.trim_start_matches("completed ")).unwrap();
        assert_eq!(status["result"], expected, "{way}");
        let failed = say("curl", way, &gateway, ["fail", "1"]).await;
        assert_eq!(failed.code, Some(1), "{way}: {failed:?}");
        assert!(failed.out.contains("command-exit"), "{way}: {failed:?}");
    }
}

#[tokio::test]
async fn clients_have_the_end_told_to_a_receiver() {
    let mut stack = Stack::new().await;
    stack.set(&format!("callbacks.keys=[\"{KEY}\"]"));
    stack.set("callbacks.allow_http=true");
    stack.set("callbacks.allow_networks=[\"127.0.0.0/8\"]");
    let (gateway, _worker) = installation(&stack).await;
    let _notifier = stack.ready(stack.start("notifier", "notifier", &[])).await;
    let receivers = ["python", "node"].map(|it| receiver(it, stack.dir.path(), &[KEY]));
    for receiver in &receivers {
        for language in LANGUAGES.into_iter().chain(["curl"]) {
            let mut command = client(language, "webhook");
            command.args(["echo", &format!("[\"{language}\"]"), receiver.url()]);
            let said = run(command, gateway.url()).await;
            assert_eq!(said.code, Some(0), "{said:?}");
            assert!(
                said.out.contains("accepted") || language == "curl",
                "{said:?}"
            );
            let wanted = format!(": [\"{language}\"]");
            let line = until(
                &format!("the webhook of {language} is there"),
                secs(20),
                || async {
                    let printed = receiver.printed();
                    let line = printed.lines().find(|line| line.ends_with(&wanted));
                    line.map(str::to_owned)
                },
            )
            .await;
            assert!(line.starts_with("job.completed: job "), "{line}");
            let id = line.split(' ').nth(2).unwrap();
            assert!(said.out.contains(id), "{line}: {said:?}");
        }
    }
}
