//! Calling jobs off: by request, and by going away.

use super::*;
use actix_web::test::TestRequest;

async fn cancel(bench: &Bench, id: &str) -> Answer {
    let request = TestRequest::post().uri(&format!("/v1/jobs/{id}/cancel"));
    bench.ask(request).await
}

async fn accepted(bench: &Bench) -> String {
    bench.fake.handle(|_| None);
    let answer = bench.post("later", &[], "x").await;
    answer.json()["jobId"].as_str().unwrap().to_owned()
}

fn sent_to(bench: &Bench, topic: &str) -> Vec<Outgoing> {
    let sent = bench.fake.sent.lock().unwrap();
    sent.iter()
        .filter(|out| out.topic == topic)
        .cloned()
        .collect()
}

#[actix_web::test]
async fn a_job_is_cancelled_by_an_event_and_workers_are_told() {
    let bench = Bench::new();
    bench.fake.projects.store(true, Ordering::Relaxed);
    let id = accepted(&bench).await;
    let answer = cancel(&bench, &id).await;
    let doc = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &doc["status"]),
        (200, &"cancelled".into()),
        "{doc}"
    );
    assert_eq!(doc["error"]["code"], "cancelled");
    let [event] = &sent_to(&bench, "t.replies")[..] else {
        panic!("one event")
    };
    assert_eq!(
        (event.partition, event.headers.get("event")),
        (Some(HOME), Some("cancelled"))
    );
    let [order] = &sent_to(&bench, "t.control")[..] else {
        panic!("one order")
    };
    assert_eq!(
        (&order.key, order.headers.get("event")),
        (&id, Some("cancelled"))
    );
    assert!(order.headers.deadline().unwrap().is_some());
    // Again: it is what it should be.
    assert_eq!(cancel(&bench, &id).await.status, 200);
    assert_eq!(sent_to(&bench, "t.replies").len(), 1);
}

#[actix_web::test]
async fn an_end_that_came_first_is_named() {
    let bench = Bench::new();
    let id = accepted(&bench).await;
    // In the log the job had completed before our event came.
    let fake = bench.fake.clone();
    let key: JobId = id.parse().unwrap();
    let complete = async {
        until("the event", || sent_to(&bench, "t.replies").len() == 1).await;
        let mut found = fake.found.lock().unwrap();
        let mut row = found[&key].clone().row().unwrap();
        row.status = Status::Completed;
        row.ended_at = Some(row.updated_at);
        found.insert(key, Lookup::Row(Box::new(row)));
    };
    let (answer, ()) = tokio::join!(cancel(&bench, &id), complete);
    assert_eq!(
        answer.problem(409, "already-ended")["jobStatus"],
        "completed"
    );
    let answer = cancel(&bench, &id).await;
    assert_eq!(
        answer.problem(409, "already-ended")["jobStatus"],
        "completed"
    );
    assert_eq!(sent_to(&bench, "t.replies").len(), 1, "nothing to say");
}

#[actix_web::test]
async fn what_cannot_be_cancelled_says_why() {
    let bench = Bench::new();
    cancel(&bench, "7").await.problem(400, "malformed-job-id");
    let unknown = JobId::generate().to_string();
    cancel(&bench, &unknown).await.problem(404, "unknown-job");
    let id = accepted(&bench).await;
    bench.fake.refuse_events.store(true, Ordering::Relaxed);
    let doc = cancel(&bench, &id).await.problem(503, "not-cancelled");
    assert_eq!(
        (&doc["source"], &doc["repeatSafe"]),
        (&"broker".into(), &true.into())
    );
    bench.fake.refuse_events.store(false, Ordering::Relaxed);
    *bench.fake.obstacle.lock().unwrap() = Some(ApiError::BrokerUnavailable("down".into()));
    cancel(&bench, &id).await.problem(503, "broker-unavailable");
    *bench.fake.obstacle.lock().unwrap() = None;
    // Written, and the projection stands still.
    let stop = bench.state.stop.waits.clone();
    let stopping = async {
        until("the event", || sent_to(&bench, "t.control").len() == 1).await;
        stop.cancel();
    };
    let (answer, ()) = tokio::join!(cancel(&bench, &id), stopping);
    assert_eq!(answer.problem(503, "not-judged")["jobId"], id);
}

#[actix_web::test]
async fn what_a_disconnect_does_is_one_of_two() {
    let bench = Bench::new();
    for value in ["cancel", "continue"] {
        let answer = bench
            .post("echo", &[("Tidegate-On-Disconnect", value)], "{}")
            .await;
        assert_eq!(answer.status, 200);
    }
    for value in ["", "stop", "Cancel "] {
        let answer = bench
            .post("echo", &[("Tidegate-On-Disconnect", value)], "{}")
            .await;
        let doc = answer.problem(400, "malformed-header");
        assert_eq!(doc["allowed"], "continue or cancel");
    }
}
