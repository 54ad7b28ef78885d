//! Types that are paused and resumed.

use super::*;
use actix_web::test::TestRequest;
use tidegate_contract::pause::{LONGEST, TypeOrder};

async fn order(bench: &Bench, job_type: &str, what: &str) -> Answer {
    let request = TestRequest::post().uri(&format!("/v1/job-types/{job_type}/{what}"));
    bench.ask(request).await
}

fn orders(bench: &Bench) -> Vec<Outgoing> {
    let sent = bench.fake.sent.lock().unwrap();
    let orders = sent.iter().filter(|out| out.topic == "t.control");
    orders.cloned().collect()
}

#[actix_web::test]
async fn a_type_is_paused_and_resumed_by_orders_under_one_key() {
    let bench = Bench::new();
    for _ in 0..2 {
        let answer = order(&bench, "echo", "pause").await;
        assert_eq!(answer.status, 200);
        let doc = answer.json();
        assert_eq!(
            (&doc["type"], &doc["paused"]),
            (&"echo".into(), &true.into())
        );
        assert!(doc["until"].is_string(), "{doc}");
    }
    let answer = order(&bench, "echo", "resume").await;
    assert_eq!(answer.json()["paused"], false);
    let sent = orders(&bench);
    assert!(sent.iter().all(|out| out.key == "type:echo"));
    let now = tidegate_contract::now_millis();
    let read: Vec<_> = sent
        .iter()
        .map(|out| TypeOrder::read(&out.headers))
        .collect();
    let [
        Some(TypeOrder::Paused(_)),
        Some(TypeOrder::Paused(until)),
        Some(TypeOrder::Resumed),
    ] = read[..]
    else {
        panic!("{read:?}")
    };
    let left = until - now - LONGEST.as_millis() as i64;
    assert!((-10_000..=0).contains(&left), "{left}");
}

#[actix_web::test]
async fn a_type_that_is_not_there_is_not_paused() {
    let bench = Bench::new();
    for name in ["ecoh", "NOT-A-NAME"] {
        for what in ["pause", "resume"] {
            let answer = order(&bench, name, what).await;
            answer.problem(404, "unknown-job-type");
        }
    }
    assert!(orders(&bench).is_empty());
}
