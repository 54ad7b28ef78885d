//! `tidegate bench` on a gateway that works, one that does not and one that is not there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use serde_json::Value;
use tidegate_tests::topics::Admin;
use tidegate_tests::{Process, Stack, secs, until_true};

/// Runs it for a second and gives its code and what it printed as JSON.
fn bench(stack: &Stack, url: &str, args: &[&str]) -> (Option<i32>, Value) {
    let mut all = vec!["bench", "--json", "--url", url];
    all.extend(["--duration", "1s", "--warmup", "200ms"]);
    all.extend(args);
    let output = stack.run(&all);
    let said = serde_json::from_slice(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    (
        output.status.code(),
        said.unwrap_or_else(|_| panic!("{complaint}")),
    )
}

async fn stack() -> (Stack, Process, Process) {
    let stack = Stack::new().await;
    let (gateway, worker) = tokio::join!(stack.gateway("gateway"), stack.worker("worker"));
    (stack, gateway, worker)
}

#[tokio::test]
async fn figures_of_both_loops_and_the_floor() {
    let (stack, gateway, _worker) = stack().await;
    let before = Admin::of(&stack.servers.kafka).topics(&stack.prefix);
    let (code, closed) = bench(&stack, gateway.url(), &["--floor", "--concurrency", "8"]);
    println!("closed: {closed}");
    assert_eq!(code, Some(0));
    assert_eq!(
        (&closed["loop"], &closed["mode"]),
        (&"closed".into(), &"wait".into())
    );
    for target in ["gateway", "floor"] {
        let figures = &closed[target];
        assert!(figures["answered"].as_u64().unwrap() > 8, "{figures}");
        assert_eq!(figures["failures"], serde_json::json!({}));
        let latency = |name: &str| figures["latencyMs"][name].as_f64().unwrap();
        assert!(
            0.0 < latency("p50") && latency("p50") <= latency("p99"),
            "{figures}"
        );
        assert!(latency("p99") <= latency("max") * 1.01, "{figures}");
    }
    // HTTP, Avro and the rest cost something.
    let p50 = |target: &str| closed[target]["latencyMs"]["p50"].as_f64().unwrap();
    assert!(p50("gateway") > p50("floor") * 0.5, "{closed}");
    until_true("the floor's own topics are gone", secs(10), || async {
        Admin::of(&stack.servers.kafka).topics(&stack.prefix) == before
    })
    .await;

    let (code, open) = bench(
        &stack,
        gateway.url(),
        &["echo-async", "--async", "--rate", "50"],
    );
    println!("open: {open}");
    assert_eq!(
        (code, &open["loop"], &open["mode"]),
        (Some(0), &"open".into(), &"async".into())
    );
    assert_eq!(open["gateway"]["answered"], 50);
}

#[tokio::test]
async fn failures_are_counted_by_kind() {
    let (stack, gateway, _worker) = stack().await;
    let (code, failed) = bench(&stack, gateway.url(), &["fail", "--concurrency", "2"]);
    println!("failing: {failed}");
    assert_eq!((code, &failed["gateway"]["answered"]), (Some(1), &0.into()));
    let kinds = failed["gateway"]["failures"].as_object().unwrap();
    assert!(kinds.keys().all(|kind| kind.starts_with("502")), "{failed}");
    let (code, unknown) = bench(&stack, gateway.url(), &["ecoh", "--rate", "20"]);
    assert_eq!(code, Some(1));
    let kinds = &unknown["gateway"]["failures"];
    assert_eq!(kinds["404 unknown-job-type"], 20, "{unknown}");

    let url = gateway.url().to_owned();
    drop(gateway);
    let (code, away) = bench(&stack, &url, &["--rate", "20"]);
    println!("away: {away}");
    assert_eq!(code, Some(1));
    let kinds = away["gateway"]["failures"].as_object().unwrap();
    assert!(
        kinds.keys().all(|kind| kind.starts_with("cannot connect")),
        "{away}"
    );
}

#[tokio::test]
async fn many_watchers_of_one_job_are_all_told_of_its_end() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let process = gateway.id().to_string();
    let watch = ["--watch", "300", "--pid", &process];
    let (code, found) = bench(&stack, gateway.url(), &watch);
    println!("watch: {found}");
    assert_eq!((code, &found["watchers"]), (Some(0), &300.into()));
    let [first, last] = ["firstMs", "lastMs"].map(|name| found[name].as_f64().unwrap());
    assert!(0.0 < first && first <= last, "{found}");
    assert!(found["memoryOpenKib"].as_u64().unwrap() > 0, "{found}");
    let open = "tidegate_streams_open";
    let client = tidegate_tests::Client::new(gateway.url());
    let none = || async { client.metric(open).await == 0.0 };
    until_true("no stream is open", secs(10), none).await;
}
