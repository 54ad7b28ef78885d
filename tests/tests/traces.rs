//! One trace over two processes, and what logs say and do not say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;
use tidegate_tests::otlp::{Receiver, Span};
use tidegate_tests::{Client, Process, Stack, secs, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "`{name}` in {spans:#?}");
    found[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_joins_client_gateway_worker_and_reply() {
    let receiver = Receiver::start();
    let mut stack = Stack::new().await;
    stack.set(&format!("telemetry.otlp_endpoint={}", receiver.url));
    stack.set("telemetry.sample_ratio=1.0");
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let answer = client
        .wait("echo", r#"{"traced":"payload-marker"}"#, 10)
        .header("traceparent", format!("00-{TRACE}-{CLIENT_SPAN}-01"))
        .header("tracestate", "vendor=1")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["tidegate-trace-id"], TRACE);
    let id = answer.headers()["tidegate-job-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let status = client.until_status(&id, &["completed"], secs(10)).await;
    assert_eq!(status["traceId"], TRACE);

    let (jobs, replies) = (
        format!("{}jobs.normal", stack.prefix),
        format!("{}replies", stack.prefix),
    );
    let names = [
        "POST /v1/jobs/{type}".to_owned(),
        format!("send {jobs}"),
        format!("process {jobs}"),
        "handle echo".to_owned(),
        format!("send {replies}"),
        format!("process {replies}"),
    ];
    let spans = receiver.until_named(TRACE, &names, secs(20)).await;
    let [
        server,
        send_job,
        process_job,
        handle,
        send_reply,
        process_reply,
    ] = names.each_ref().map(|name| one(&spans, name));

    let line = |span: &Span| (span.service.clone(), span.kind, span.parent.clone());
    let (at_gateway, at_worker) = ("tidegate-gateway".to_owned(), "tidegate-worker".to_owned());
    for (span, service, kind, parent) in [
        (server, &at_gateway, SpanKind::Server, CLIENT_SPAN),
        (send_job, &at_gateway, SpanKind::Producer, &server.id),
        (process_job, &at_worker, SpanKind::Consumer, &send_job.id),
        (handle, &at_worker, SpanKind::Internal, &process_job.id),
        (send_reply, &at_worker, SpanKind::Producer, &process_job.id),
        (
            process_reply,
            &at_gateway,
            SpanKind::Consumer,
            &send_reply.id,
        ),
    ] {
        let expected = (service.clone(), kind, parent.to_owned());
        assert_eq!(line(span), expected, "{}", span.name);
        println!(
            "traces: {:32} {:9} {} <- {}  {}",
            span.name,
            format!("{kind:?}"),
            span.id,
            parent,
            service
        );
    }
    assert_eq!(server.attribute("http.request.method"), "POST");
    assert_eq!(server.attribute("http.route"), "/v1/jobs/{type}");
    assert_eq!(server.attribute("http.response.status_code"), "200");
    for (span, operation, topic) in [
        (send_job, "send", &jobs),
        (process_job, "process", &jobs),
        (send_reply, "send", &replies),
        (process_reply, "process", &replies),
    ] {
        assert_eq!(span.attribute("messaging.system"), "kafka");
        assert_eq!(span.attribute("messaging.operation.name"), operation);
        assert_eq!(span.attribute("messaging.operation.type"), operation);
        assert_eq!(span.attribute("messaging.destination.name"), topic);
        assert_eq!(span.attribute("messaging.message.conversation_id"), id);
        let partition = span.attribute("messaging.destination.partition.id");
        assert!(
            partition.parse::<i32>().is_ok(),
            "{}: partition `{partition}`",
            span.name
        );
    }
    let group = process_job.attribute("messaging.consumer.group.name");
    assert!(group.starts_with(&stack.prefix), "{group}");
    assert!(
        !format!("{spans:?}").contains("payload-marker"),
        "{spans:?}"
    );

    // A trace that nobody began is begun here; a malformed parent is none.
    let answer = client
        .wait("echo", "[]", 10)
        .header("traceparent", "00-nonsense")
        .send()
        .await
        .unwrap();
    let own = answer.headers()["tidegate-trace-id"]
        .to_str()
        .unwrap()
        .to_owned();
    until("the own trace came in", secs(30), || async {
        let spans = receiver.trace(&own);
        let server = spans.iter().find(|span| span.kind == SpanKind::Server)?;
        assert_eq!(server.parent, "");
        (spans.len() >= 6).then_some(())
    })
    .await;
    drop((gateway, worker));
}

const KEYS: &str = r#"
[auth]
enabled = true
# printf %s marker-key-7c1f | sha256sum
keys = [{ name = "tests", tenant = "shop", sha256 = "ce8f2a566e155a4b96c8b3fadd3a0f432fdb2641f9a03e7a38e0e23614bcfaa3" }]

# Says its body on standard error, and fails.
[types.tell]
handler = { kind = "command", program = ["sh", "-c", "cat >&2; exit 3"] }
retry = { attempts = 1 }
"#;

/// Every line of a log, read as JSON.
fn lines(process: &Process) -> Vec<Value> {
    let log = process.log();
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_carry_ids_and_neither_payloads_nor_keys() {
    let mut stack = Stack::new().await;
    stack.configure(KEYS);
    stack.set("telemetry.log_format=json");
    // As much as anybody would turn on.
    stack.set("telemetry.log=debug");
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let (key, payload) = ("marker-key-7c1f", "marker-payload-55aa");
    let body = format!(r#"{{"secret":"{payload}"}}"#);
    let mut ids = Vec::new();
    for (job_type, expected) in [("echo", 200), ("tell", 502), ("slow-echo", 202)] {
        let answer = client
            .wait(job_type, body.clone(), 1)
            .bearer_auth(key)
            .header("cookie", payload)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), expected, "{job_type}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        ids.push((header("tidegate-job-id"), header("tidegate-trace-id")));
    }
    // Refused ones: a wrong key, and a body that is no JSON.
    let wrong = client
        .wait("echo", "[]", 1)
        .header("x-api-key", "marker-wrong-key")
        .send()
        .await;
    assert_eq!(wrong.unwrap().status(), 401);
    let broken = client
        .wait("slow-echo", format!("{{\"{payload}\" nonsense"), 1)
        .bearer_auth(key);
    assert_eq!(broken.send().await.unwrap().status(), 400);
    let anonymous = client
        .get(&format!("/v1/jobs/{}", ids[0].0))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 401);

    until(
        "both have logged all three jobs with their traces",
        secs(15),
        || async {
            let said = |process: &Process, id: &str, trace: &str| {
                lines(process)
                    .iter()
                    .any(|line| line["job_id"] == id && line["trace_id"] == trace)
            };
            let all = ids
                .iter()
                .all(|(id, trace)| said(&worker, id, trace) && said(&gateway, id, trace));
            all.then_some(())
        },
    )
    .await;
    for process in [&gateway, &worker] {
        let lines = lines(process);
        for line in &lines {
            for name in ["timestamp", "level", "target", "message"] {
                assert!(line[name].is_string(), "{name} in {line}");
            }
        }
        let log = process.log();
        for secret in [payload, key, "marker-wrong-key", "tidegate:tidegate@"] {
            let line = log.lines().find(|line| line.contains(secret));
            assert!(
                line.is_none(),
                "{} logs `{secret}`: {line:?}",
                process.name()
            );
        }
        println!(
            "logs: {} lines of the {}, all JSON, no payload, no key",
            lines.len(),
            process.name()
        );
    }
    let (gateway, worker) = (gateway.stop(secs(30)).await, worker.stop(secs(30)).await);
    assert!(gateway.success() && worker.success());
}
