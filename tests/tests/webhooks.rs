//! Signed webhooks at their receivers: somebody else's code verifies them, and the receivers of `examples/webhooks` take
//! each once.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use reqwest::StatusCode;
use serde_json::json;
use tidegate_contract::{Secret, now_millis};
use tidegate_notifier::{Signed, Signer};
use tidegate_tests::examples::{node, receiver};
use tidegate_tests::stack::root;
use tidegate_tests::{Process, secs, until, until_true};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_Y3VycmVudCBrZXkgb2YgdGhlIHJlY2VpdmVyIG9mIHRlc3Rz";
const OTHER: &str = "whsec_bm8gcmVjZWl2ZXIga25vd3MgdGhpcyBvbmUsIGV2ZXIgPz8/";
const ID: &str = "msg_01a1fc70-3448-753f-a224-f6fdbacfd0cd_completed";

fn now() -> i64 {
    now_millis() / 1000
}

fn sign(keys: &[&str], id: &str, at: i64, body: &str) -> Signed {
    let keys: Vec<_> = keys.iter().copied().map(Secret::new).collect();
    Signer::new(&keys).unwrap().sign(id, at, body.as_bytes())
}

/// What the packages of Standard Webhooks for Python and Node say of a message, by one key.
fn verdicts(key: &str, signed: &Signed, body: &str) -> [String; 2] {
    let folder = root().join("tests/webhooks");
    let python = std::env::var("TIDEGATE_TEST_PYTHON");
    let mut python = Command::new(python.unwrap_or_else(|_| panic!("run through scripts/test")));
    python.arg(folder.join("verify.py"));
    let mut node = node();
    node.arg(folder.join("verify.js"));
    let asked = json!({
        "key": key,
        "headers": {
            "webhook-id": signed.id,
            "webhook-timestamp": signed.timestamp.to_string(),
            "webhook-signature": signed.signature,
        },
        "body": body,
    });
    [python, node].map(|mut command| {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(asked.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

#[test]
fn somebody_elses_code_takes_what_we_sign_and_nothing_else() {
    let body = r#"{"type":"job.completed","data":{"result":"grün 漢字"}}"#;
    let valid = ["valid", "valid"];
    let refused = ["refused", "refused"];
    let signed = sign(&[NEW], ID, now(), body);
    assert_eq!(verdicts(NEW, &signed, body), valid);
    assert_eq!(verdicts(OTHER, &signed, body), refused);
    assert_eq!(
        verdicts(NEW, &signed, &body.replace("grün", "blau")),
        refused
    );
    // While a key is replaced, a receiver with either takes it.
    let both = sign(&[OLD, NEW], ID, now(), body);
    assert_eq!(verdicts(OLD, &both, body), valid);
    assert_eq!(verdicts(NEW, &both, body), valid);
    assert_eq!(verdicts(OTHER, &both, body), refused);
    let elsewhere = Signed {
        id: "msg_other".to_owned(),
        ..signed.clone()
    };
    assert_eq!(verdicts(NEW, &elsewhere, body), refused);
    let early = sign(&[NEW], ID, now() - 3600, body);
    assert_eq!(verdicts(NEW, &early, body), refused, "an hour old");
    let later = Signed {
        timestamp: now(),
        ..early
    };
    assert_eq!(verdicts(NEW, &later, body), refused, "dated anew");
}

/// Posts a message, and gives the status of the answer.
async fn post(receiver: &Process, signed: &Signed, body: impl Into<reqwest::Body>) -> StatusCode {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http
        .post(receiver.url())
        .header("webhook-id", &signed.id)
        .header("webhook-timestamp", signed.timestamp.to_string())
        .header("webhook-signature", &signed.signature);
    request.body(body).send().await.unwrap().status()
}

async fn until_printed(receiver: &Process, line: &str) {
    let what = format!("{}: {line}\n{}", receiver.name(), receiver.printed());
    until(&what, secs(5), || async {
        let printed = receiver.printed();
        printed.lines().any(|known| known == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_receivers_take_each_message_once_and_refuse_what_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let body = json!({
        "type": "job.completed",
        "data": { "id": "1", "type": "echo", "result": ["grün"] },
    });
    let body = body.to_string();
    for language in ["python", "node"] {
        let receiver = receiver(language, dir.path(), &[OLD, NEW]);
        let took = |status| assert_eq!(status, StatusCode::NO_CONTENT, "{language}");
        let signed = sign(&[NEW], ID, now(), &body);
        took(post(&receiver, &signed, body.clone()).await);
        let result = if language == "python" {
            "[\"gr\\u00fcn\"]"
        } else {
            "[\"grün\"]"
        };
        until_printed(
            &receiver,
            &format!("job.completed: job 1 of type echo: {result}"),
        )
        .await;
        // Again, at another time and by the other key: it is still the same message.
        took(
            post(
                &receiver,
                &sign(&[OTHER, OLD], ID, now() + 2, &body),
                body.clone(),
            )
            .await,
        );
        until_printed(&receiver, &format!("repeat: {ID}")).await;
        assert_eq!(receiver.printed().matches("job.completed").count(), 1);

        for (why, signed, sent) in [
            (
                "no signature fits",
                sign(&[OTHER], "a", now(), &body),
                body.clone(),
            ),
            (
                "no signature fits",
                sign(&[NEW], "b", now(), &body),
                body.replace('1', "2"),
            ),
            (
                "the timestamp is too far from now",
                sign(&[NEW], "c", now() - 600, &body),
                body.clone(),
            ),
            (
                "the timestamp is too far from now",
                sign(&[NEW], "d", now() + 600, &body),
                body.clone(),
            ),
        ] {
            let status = post(&receiver, &signed, sent).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{language}: {why}");
            until_printed(&receiver, &format!("refused: {why}")).await;
        }
        let empty = Signed {
            signature: String::new(),
            ..signed.clone()
        };
        assert_eq!(
            post(&receiver, &empty, body.clone()).await,
            StatusCode::BAD_REQUEST
        );
        let large = "x".repeat((1 << 20) + 1);
        let status = post(&receiver, &sign(&[NEW], "e", now(), &large), large).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{language}");
        // None of these is known as taken.
        took(post(&receiver, &sign(&[NEW], "b", now(), &body), body.clone()).await);
        // It answers before it prints.
        let completed = || receiver.printed().matches("job.completed").count();
        until_true("it is printed too", secs(5), async || completed() == 2).await;
        assert!(receiver.stop(secs(10)).await.success(), "{language}");
    }
}
