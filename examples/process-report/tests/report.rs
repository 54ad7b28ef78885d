//! The handler on the real orders, against sums computed another way.
#![allow(clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::collections::HashMap;
use std::time::Duration;

use process_report::{ProcessReport, generate};
use serde_json::Value;
use tidegate_contract::{
    JobId, JobMessage, Outcome, Pair, Pool, RequestInfo, Tenant, Tier, now_millis,
};
use tidegate_worker::{Handler, JobContext, JobFailure};

fn job(body: &str, accept: Option<&str>) -> JobMessage {
    let now = now_millis();
    JobMessage {
        job_id: JobId::generate(),
        job_type: "process-report".parse().unwrap(),
        pool: Pool::default(),
        tier: Tier::Normal,
        tenant: Tenant::default(),
        attempt: 1,
        created_at: now,
        deadline: now + 60_000,
        reply_partition: 0,
        request: RequestInfo {
            headers: accept
                .map(|value| Pair::new("accept", value))
                .into_iter()
                .collect(),
            ..RequestInfo::default()
        },
        content_type: Some("application/json".to_owned()),
        body: body.to_owned().into(),
        serial_key: None,
        not_before: None,
        retry_of: None,
        redrives: 0,
        follow_ups: Vec::new(),
    }
}

async fn run(
    report: &ProcessReport,
    body: &str,
    accept: Option<&str>,
) -> Result<Outcome, JobFailure> {
    let (cx, _) = JobContext::detached(job(body, accept));
    report.run(cx).await
}

/// Sums by splitting lines: nothing of the crate's reading is used.
fn naively(text: &str, from: &str, to: &str) -> HashMap<String, (u64, u64, u64)> {
    let mut sums = HashMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        if fields[1] < from || fields[1] > to {
            continue;
        }
        let key = format!("{}/{}/{}", &fields[1][..7], fields[2], fields[3]);
        let quantity: u64 = fields[4].parse().unwrap();
        let price: u64 = fields[5].parse().unwrap();
        let sum: &mut (u64, u64, u64) = sums.entry(key).or_default();
        *sum = (sum.0 + 1, sum.1 + quantity, sum.2 + quantity * price);
    }
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_agree_with_a_second_way_of_computing_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = generate::ensure(directory.path()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let report = ProcessReport::open(directory.path()).unwrap();
    for (body, from, to) in [
        (
            r#"{"reportType":"sales","dateRange":"2025-01"}"#,
            "2025-01-01",
            "2025-01-31",
        ),
        (
            r#"{"reportType":"sales","dateRange":"2024"}"#,
            "2024-01-01",
            "2024-12-31",
        ),
        (
            r#"{"reportType":"sales","from":"2024-12-15","to":"2025-03-02"}"#,
            "2024-12-15",
            "2025-03-02",
        ),
    ] {
        let expected = naively(&text, from, to);
        let answer = run(&report, body, None).await.unwrap();
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let rows = answer["rows"].as_array().unwrap();
        assert_eq!(rows.len(), expected.len());
        for row in rows {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let number = |name: &str| row[name].as_u64().unwrap();
            let key = format!("{}/{}/{}", text("month"), text("region"), text("product"));
            let found = (number("orders"), number("units"), number("revenueCents"));
            assert_eq!(Some(&found), expected.get(&key), "{key}");
        }
        let total: u64 = expected.values().map(|sums| sums.2).sum();
        assert_eq!(answer["totals"]["revenueCents"], total);
        assert_eq!(
            answer["totals"]["revenue"],
            format!("{}.{:02}", total / 100, total % 100)
        );

        let csv = run(&report, body, Some("text/csv")).await.unwrap();
        assert_eq!(csv.content_type.as_deref(), Some("text/csv; charset=utf-8"));
        let mut reader = csv::Reader::from_reader(&csv.body[..]);
        let mut lines = 0;
        for line in reader.records() {
            let line = line.unwrap();
            let key = format!("{}/{}/{}", &line[0], &line[1], &line[2]);
            let found = (
                line[3].parse().unwrap(),
                line[4].parse().unwrap(),
                line[5].parse().unwrap(),
            );
            assert_eq!(Some(&found), expected.get(&key), "{key}");
            lines += 1;
        }
        assert_eq!(lines, expected.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_without_orders_is_empty_and_a_bad_request_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let report = ProcessReport::open(directory.path()).unwrap();
    let empty = run(
        &report,
        r#"{"reportType":"sales","dateRange":"2019"}"#,
        None,
    );
    let empty: Value = serde_json::from_slice(&empty.await.unwrap().body).unwrap();
    assert_eq!(empty["rows"], serde_json::json!([]));
    assert_eq!(empty["totals"]["revenue"], "0.00");

    let bad = run(
        &report,
        r#"{"reportType":"sales","dateRange":"soon"}"#,
        None,
    );
    let failure = bad.await.unwrap_err();
    assert!(!failure.retryable);
    let answer = failure.outcome.unwrap();
    assert_eq!(answer.status, 422);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["field"], "dateRange");
    assert!(body["allowed"].as_str().unwrap().contains("2025-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_and_a_cancelled_report_stops() {
    let directory = tempfile::tempdir().unwrap();
    let report = ProcessReport::open(directory.path()).unwrap();
    let (cx, mut progress) =
        JobContext::detached(job(r#"{"reportType":"sales","dateRange":"2025"}"#, None));
    let mut seen = Vec::new();
    let running = report.run(cx);
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => { result.unwrap(); break; }
            Ok(()) = progress.changed() => {
                let latest = progress.borrow_and_update().clone().unwrap();
                seen.push(latest.percent);
                if let Some(partial) = latest.partial {
                    assert!(serde_json::from_slice::<Value>(&partial).unwrap()["totals"].is_object());
                }
            }
        }
    }
    assert!(
        seen.len() > 1 && seen.windows(2).all(|pair| pair[0] <= pair[1]),
        "{seen:?}"
    );

    let (cx, _) = JobContext::detached(job(r#"{"reportType":"sales","dateRange":"2025"}"#, None));
    cx.cancellation().cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(5), report.run(cx)).await;
    assert_eq!(stopped.unwrap().unwrap_err().code, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_fails_the_job_and_says_which() {
    let report = ProcessReport::of_file("/nowhere/orders.csv");
    let failure = run(
        &report,
        r#"{"reportType":"sales","dateRange":"2025"}"#,
        None,
    )
    .await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.code, "orders-unreadable");
    assert!(failure.retryable && failure.message.contains("/nowhere/orders.csv"));
}
