//! A job's trace, asked for at Jaeger's query API, and as the tree that `tidegate trace` makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use serde_json::Value;
use tidegate_tests::jaeger::Jaeger;
use tidegate_tests::stack::program;
use tidegate_tests::{Client, Stack, secs, until};

#[tokio::test(flavor = "multi_thread")]
async fn jaeger_has_the_trace_of_a_job_and_trace_draws_it() {
    let jaeger = Jaeger::real_or_imitated();
    let mut stack = Stack::new().await;
    stack.set(&format!("telemetry.otlp_endpoint={}", jaeger.otlp));
    stack.set(&format!("telemetry.query_url={}", jaeger.query));
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    let client = Client::new(gateway.url());
    let submit = async |job_type: &str, status: u16| {
        let answer = client
            .wait(job_type, r#"{"marker":"payload-marker"}"#, 10)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), status, "{job_type}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        (header("tidegate-job-id"), header("tidegate-trace-id"))
    };
    let (id, trace) = submit("echo", 200).await;
    let (failed, _) = submit("fail", 502).await;

    // The query API itself.
    let url = format!("{}/api/traces/{trace}", jaeger.query);
    let spans = until("jaeger has all six spans", secs(30), || async {
        let answer: Value = client.http.get(&url).send().await.ok()?.json().await.ok()?;
        let spans = answer["data"][0]["spans"].as_array()?.clone();
        (spans.len() >= 6).then_some(spans)
    });
    let spans = spans.await;
    assert_eq!(spans.len(), 6, "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceID"] == trace.as_str()));
    assert!(!format!("{spans:?}").contains("payload-marker"));

    let draw = |arguments: &[&str]| {
        let output = stack.run(&[&["trace"], arguments].concat());
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            err,
        )
    };
    let (code, drawn, err) = draw(&[&id, "--url", gateway.url()]);
    assert_eq!(code, Some(0), "{err}");
    println!("real jaeger: {}\n{drawn}", jaeger.is_real);
    let (jobs, replies) = (
        format!("{}jobs.normal", stack.prefix),
        format!("{}replies", stack.prefix),
    );
    let expected = [
        (
            0,
            "POST /v1/jobs/{type}".to_owned(),
            "server",
            "tidegate-gateway",
        ),
        (1, format!("send {jobs}"), "producer", "tidegate-gateway"),
        (2, format!("process {jobs}"), "consumer", "tidegate-worker"),
        (3, "handle echo".to_owned(), "internal", "tidegate-worker"),
        (3, format!("send {replies}"), "producer", "tidegate-worker"),
        (
            4,
            format!("process {replies}"),
            "consumer",
            "tidegate-gateway",
        ),
    ];
    let lines: Vec<_> = drawn.lines().skip(2).collect();
    assert_eq!(lines.len(), expected.len(), "{drawn}");
    for (line, (depth, name, kind, service)) in lines.iter().zip(expected) {
        let wanted = format!("{}{name} ", "  ".repeat(depth));
        assert!(line.starts_with(&wanted), "no `{wanted}` in {line}");
        assert!(
            line.contains(kind) && line.contains(service) && line.contains(" ok"),
            "{line}"
        );
    }
    assert!(lines[2].contains(&format!("job={id}")), "{drawn}");

    // By the trace's id; and by the job's, when no gateway can tell its trace.
    assert_eq!(draw(&[&trace]).1, drawn);
    assert_eq!(draw(&[&id, "--url", "http://127.0.0.1:9"]).1, drawn);
    let drawn = until("the failed job's trace", secs(30), || async {
        let (_, drawn, _) = draw(&[&failed, "--url", gateway.url()]);
        drawn.contains("process").then_some(drawn)
    });
    assert!(drawn.await.contains("ERROR"));
    let (code, _, err) = draw(&["0123456789abcdef0123456789abcdef"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("has no spans"), "{err}");

    // A gateway keeps no spans, and says where they may be.
    let mut alone = std::process::Command::new(program());
    let output = alone
        .args(["trace", &id, "--url", gateway.url()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--set telemetry.query_url=URL"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    drop((gateway, worker));
}
