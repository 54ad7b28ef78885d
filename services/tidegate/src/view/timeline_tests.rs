//! Timelines made from records and from a status alone.

use super::*;
use serde_json::json;
use tidegate_contract::{JobError, JobId, JobSummary, Outcome, Progress, Tier, Timings};

const ACCEPTED: Millis = 1_738_315_800_000;

fn event(kind: EventKind, after: Millis) -> JobEvent {
    JobEvent {
        job_id: JobId::generate(),
        kind,
        at: ACCEPTED + after,
        attempt: 1,
        job: JobSummary {
            job_type: "echo".parse().unwrap(),
            pool: Default::default(),
            tier: Tier::Normal,
            tenant: Default::default(),
            created_at: ACCEPTED,
            deadline: ACCEPTED,
            trace_id: None,
            retry_of: None,
            follow_ups: Vec::new(),
        },
        source: "worker-1".to_owned(),
        outcome: None,
        error: None,
        progress: None,
        timings: None,
        next_attempt_at: None,
        dead_letter: None,
    }
}

fn said(event: Result<JobEvent, String>, offset: i64, after: Millis) -> Said {
    Said {
        place: Place {
            topic: "t.replies".to_owned(),
            partition: 2,
            offset,
        },
        at: ACCEPTED + after,
        event,
    }
}

fn sent(parked: u32, after: Millis) -> Sent {
    Sent {
        place: Place {
            topic: "t.jobs.normal".to_owned(),
            partition: 0,
            offset: 5,
        },
        at: ACCEPTED + after,
        attempt: 1,
        parked,
        delayed: false,
        size: 90,
    }
}

#[test]
fn events_keep_the_order_of_the_log_and_late_ones_are_marked() {
    let mut done = event(EventKind::Completed, 70);
    done.outcome = Some(Outcome {
        status: 200,
        content_type: Some("text/plain".to_owned()),
        headers: Vec::new(),
        body: "hello".into(),
    });
    done.timings = Some(Timings {
        queue_us: 1500,
        handler_us: 40_000,
    });
    let mut failed = event(EventKind::Failed, 60);
    failed.error = Some(JobError {
        code: "timeout".to_owned(),
        message: "too long".to_owned(),
        source: tidegate_contract::FaultSource::Job,
        retryable: true,
        retry_after_ms: None,
        details: None,
        attempts: None,
    });
    let mut progress = event(EventKind::Progress, 50);
    progress.progress = Some(Progress {
        percent: 50.4,
        message: Some("half".to_owned()),
        partial: None,
    });
    let lines = lines(
        ACCEPTED,
        None,
        &[sent(0, 1), sent(1, 55)],
        &[
            said(Ok(progress), 1, 51),
            said(Err("no Avro".to_owned()), 2, 60),
            said(Ok(done), 3, 71),
            said(Ok(failed), 4, 90),
        ],
    );
    let drawn: Vec<_> = lines
        .iter()
        .map(|line| (line.event.as_str(), line.since_accept_ms, line.late))
        .collect();
    let expected = [
        ("submitted", 1, false),
        ("progress", 50, false),
        ("back (1)", 55, false),
        ("unreadable", 60, false),
        ("completed", 70, false),
        ("failed", 60, true),
    ];
    assert_eq!(drawn, expected);
    assert_eq!(lines[1].detail, "50 %: half");
    assert_eq!(
        lines[4].detail,
        "200 text/plain, 5 bytes; queue 1.5 ms, handler 40.0 ms"
    );
    assert_eq!(
        lines[5].detail,
        "late, the job had ended: timeout: too long (job)"
    );
    let row = &rows(&lines)[4];
    assert_eq!(
        row[..4],
        ["2025-01-31T09:30:00.070Z", "+70 ms", "completed", "1"].map(str::to_owned)
    );
    let json = serde_json::to_value(&lines[0]).unwrap();
    assert_eq!(
        (&json["topic"], &json["offset"]),
        (&json!("t.jobs.normal"), &json!(5))
    );
    assert_eq!(json.get("late"), None);
}

#[test]
fn a_status_alone_tells_a_little() {
    let status = json!({
        "status": "failed", "attempt": 2, "createdAt": "2025-01-31T09:30:00.000Z",
        "endedAt": "2025-01-31T09:30:02.500Z", "error": {"code": "boom", "message": "it broke"},
    });
    let lines = lines(ACCEPTED, Some(&status), &[], &[]);
    let drawn: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.event.as_str(),
                line.since_accept_ms,
                line.detail.as_str(),
            )
        })
        .collect();
    assert_eq!(
        drawn,
        [("accepted", 0, ""), ("failed", 2500, "boom: it broke")]
    );
    assert!(super::lines(ACCEPTED, None, &[], &[]).is_empty());
}

#[test]
fn a_retry_says_when_and_a_dead_letter_where() {
    let mut retry = event(EventKind::RetryScheduled, 10);
    retry.next_attempt_at = Some(ACCEPTED + 1_000);
    let mut lost = event(EventKind::DeadLettered, 2_000);
    lost.dead_letter = Some(tidegate_contract::DeadLetterPlace {
        partition: 3,
        offset: 17,
    });
    let mut waits = sent(0, 5);
    waits.delayed = true;
    let said = [said(Ok(retry), 0, 10), said(Ok(lost), 1, 2_000)];
    let lines = lines(ACCEPTED, None, &[waits], &said);
    let told: Vec<_> = lines
        .iter()
        .map(|l| (l.event.as_str(), l.detail.as_str()))
        .collect();
    assert_eq!(told[0].0, "delayed");
    assert_eq!(
        told[1..],
        [
            ("retry scheduled", "not before 2025-01-31T09:30:01.000Z"),
            ("dead lettered", "dead letter 3/17"),
        ]
    );
}
