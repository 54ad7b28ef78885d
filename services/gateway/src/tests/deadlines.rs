//! Jobs that nobody ends before their deadline.

use super::*;
use crate::sweep::{Told, round};

/// The events on the replies topic: partition, job and kind.
fn events(bench: &Bench) -> Vec<(Option<i32>, JobEvent)> {
    let sent = bench.fake.sent.lock().unwrap();
    let events = sent.iter().filter(|out| out.topic == "t.replies");
    events
        .map(|out| (out.partition, serde_json::from_slice(&out.payload).unwrap()))
        .collect()
}

#[actix_web::test]
async fn open_rows_past_their_deadline_are_told_to_the_log_once() {
    let bench = Bench::new();
    bench.fake.handle(|_| None);
    let mut ids = Vec::new();
    // More than one question finds.
    for _ in 0..250 {
        let answer = bench
            .post("later", &[("Tidegate-Deadline", "1h")], "x")
            .await;
        ids.push(
            answer.json()["jobId"]
                .as_str()
                .unwrap()
                .parse::<JobId>()
                .unwrap(),
        );
    }
    bench
        .post("later", &[("Tidegate-Deadline", "2h")], "x")
        .await;
    let deadline = bench
        .fake
        .jobs()
        .iter()
        .take(250)
        .map(|job| job.deadline)
        .max()
        .unwrap();
    let earliest = bench.fake.jobs().iter().map(|job| job.deadline).min();
    let mut told = Told::new();
    round(&bench.state, &mut told, earliest.unwrap() - 5_000).await;
    assert!(
        events(&bench).is_empty(),
        "not before its time, by any clock"
    );

    let now = deadline + 2_000;
    round(&bench.state, &mut told, now).await;
    round(&bench.state, &mut told, now + 2_000).await;
    let ended = events(&bench);
    let mut found: Vec<_> = ended.iter().map(|(_, event)| event.job_id).collect();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids, "each once, also while the projection is behind");
    let (partition, event) = &ended[0];
    assert_eq!((*partition, event.kind), (Some(HOME), EventKind::Expired));
    let error = event.error.as_ref().unwrap();
    assert_eq!(error.code, "deadline-passed");
    assert!(
        error.message.ends_with("before a worker was free"),
        "{error:?}"
    );
    // A row that stays open all the same is not given up.
    round(&bench.state, &mut told, now + 62_000).await;
    assert_eq!(events(&bench).len(), 500);
}

#[actix_web::test]
async fn what_keeps_a_sweep_from_its_work_is_met_again() {
    let bench = Bench::new();
    bench.fake.handle(|_| None);
    bench
        .post("later", &[("Tidegate-Deadline", "1h")], "x")
        .await;
    let now = bench.fake.jobs()[0].deadline + 2_000;
    let mut told = Told::new();
    *bench.fake.obstacle.lock().unwrap() = Some(ApiError::BrokerUnavailable("down".into()));
    round(&bench.state, &mut told, now).await;
    *bench.fake.obstacle.lock().unwrap() = None;
    bench.fake.store_away.store(true, Ordering::Relaxed);
    round(&bench.state, &mut told, now).await;
    bench.fake.store_away.store(false, Ordering::Relaxed);
    bench.fake.refuse_events.store(true, Ordering::Relaxed);
    round(&bench.state, &mut told, now).await;
    bench.fake.refuse_events.store(false, Ordering::Relaxed);
    assert!(events(&bench).is_empty() && told.is_empty());
    round(&bench.state, &mut told, now).await;
    assert_eq!(events(&bench).len(), 1);
}
