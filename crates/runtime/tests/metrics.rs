//! The names and labels that dashboards and alerts rely on.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_contract::{Pool, Tier};
use tidegate_runtime::{Metrics, Readiness};

/// Calls every helper once.
fn exercised() -> Metrics {
    let metrics = Metrics::new(["echo"]);
    let (took, topic) = (Duration::from_millis(20), "tidegate.replies");
    metrics.produced("jobs", "ok", took);
    metrics.produced("jobs", "queue-full", took);
    metrics.producer_queue(3);
    metrics.consumer_trouble("replies");
    metrics.rebalanced("replies", "assigned", 64);
    metrics.committed("replies", "ok");
    metrics.unreadable(topic, "malformed");
    metrics.unread_age(topic, took);
    metrics.topic_retention(topic, Duration::from_secs(60));
    metrics.store_call("insert", "ok", took);
    metrics.http_request("GET", "/v1/jobs/{id}", 200, took);
    metrics.submit("echo", "wait", "accepted");
    metrics.wait_opened().ended("outcome");
    metrics.reply_read("projection");
    metrics.waits_readers(1);
    metrics.projected("applied", 10, 2, took);
    metrics.projection_backlog(took, 1000);
    metrics.job_received(Tier::High);
    metrics.jobs_waiting(&Pool::default(), Tier::High, 4);
    metrics.jobs_waiting(&"gpu".parse().unwrap(), Tier::High, 5);
    metrics.job_queued(Tier::High, took);
    metrics.attempt_started("echo").ended("completed");
    metrics.job_parked("echo", "unknown-type");
    metrics.retry_scheduled("echo");
    metrics.dead_lettered("echo", "attempts-exhausted");
    metrics.delayed_moved("15s", "target");
    metrics.delay_lateness(took);
    metrics.delay_overdue("15s", took);
    metrics.delay_held("15s", 5);
    metrics.outcomes_unsent(7);
    metrics.callback_attempt().ended("delivered", took);
    metrics.callback_given_up("gone");
    metrics.callbacks_waiting(3, took);
    metrics.callback_endpoints(1, 2);
    metrics
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

#[test]
fn every_family_is_named_explained_and_in_base_units() {
    let text = exercised().encode();
    let mut explained = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(name.starts_with("tidegate_") && text.len() > 10, "{line}");
            assert!(!name.contains("_ms") && !name.contains("millis"), "{line}");
            assert!(explained.insert(name.to_owned()), "{name} is there twice");
        }
    }
    assert!(explained.len() >= 35, "{} families", explained.len());
    for line in [
        "tidegate_produce_records_total{destination=\"jobs\",result=\"queue-full\"} 1",
        "tidegate_produce_duration_seconds_count{destination=\"jobs\"} 1",
        "tidegate_topic_retention_seconds{topic=\"tidegate.replies\"} 60.0",
        "tidegate_http_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"200\"} 1",
        "tidegate_waits_open 0",
        "tidegate_waits_ended_total{reason=\"outcome\"} 1",
        "tidegate_projection_events_total 10",
        "tidegate_projection_late_events_total 2",
        "tidegate_projection_lag_seconds 0.02",
        // Lanes of two pools share a tier: neither overwrites the other.
        "tidegate_jobs_waiting{pool=\"default\",tier=\"high\"} 4",
        "tidegate_jobs_waiting{pool=\"gpu\",tier=\"high\"} 5",
        "tidegate_attempts_total{type=\"echo\",outcome=\"completed\"} 1",
        "tidegate_attempts_running{type=\"echo\"} 0",
    ] {
        assert!(has(&text, line), "{line} in\n{text}");
    }
    assert!(text.contains("tidegate_build_info{version=\""));
}

#[test]
fn what_clients_send_makes_no_new_series() {
    let metrics = exercised();
    metrics.submit("seed", "wait", "rejected");
    metrics.http_request("SEED", "unmatched", 404, Duration::ZERO);
    let before = metrics.encode().lines().count();
    for n in 0..1000 {
        metrics.submit(&format!("type-{n}"), "wait", "rejected");
        metrics.http_request(&format!("METHOD{n}"), "unmatched", 404, Duration::ZERO);
        drop(metrics.wait_opened());
        metrics.attempt_started("echo").ended("completed");
    }
    let text = metrics.encode();
    assert!(has(
        &text,
        "tidegate_submits_total{type=\"other\",mode=\"wait\",outcome=\"rejected\"} 1001"
    ));
    assert!(has(
        &text,
        "tidegate_waits_ended_total{reason=\"disconnected\"} 1000"
    ));
    // The reason `disconnected` is the one thing new: a counter and a histogram of 15 buckets, +Inf, sum and count.
    assert!(
        text.lines().count() <= before + 20,
        "{} lines, {before} before",
        text.lines().count()
    );
}

#[test]
fn a_guard_that_is_dropped_is_counted() {
    let metrics = exercised();
    let waits: Vec<_> = (0..3).map(|_| metrics.wait_opened()).collect();
    let attempt = metrics.attempt_started("echo");
    assert!(has(&metrics.encode(), "tidegate_waits_open 3"));
    assert!(has(
        &metrics.encode(),
        "tidegate_attempts_running{type=\"echo\"} 1"
    ));
    drop((waits, attempt));
    assert!(has(&metrics.encode(), "tidegate_waits_open 0"));
    assert!(has(
        &metrics.encode(),
        "tidegate_attempts_total{type=\"echo\",outcome=\"abandoned\"} 1"
    ));
}

#[test]
fn readiness_is_a_metric() {
    let (metrics, readiness) = (Metrics::new(["echo"]), Readiness::new());
    readiness.condition("store").fail("away");
    metrics.observe_readiness(&readiness.report());
    assert!(has(&metrics.encode(), "tidegate_ready 0"));
    assert!(has(
        &metrics.encode(),
        "tidegate_condition_ok{condition=\"store\"} 0"
    ));
}
