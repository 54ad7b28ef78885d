//! The test kit says of a handler what a client would see of it.

use std::time::{Duration, Instant};

use tidegate_worker::{
    EventKind, Handler, JobContext, JobFailure, Outcome, Pair, Tier, async_trait, outcome, testkit,
    typed,
};

async fn sum(numbers: Vec<i64>, cx: JobContext) -> Result<i64, JobFailure> {
    for (index, _) in numbers.iter().enumerate() {
        cx.progress(index as f64, None, None);
    }
    Ok(numbers.iter().sum())
}

/// Does what the body says.
struct Script;

#[async_trait]
impl Handler for Script {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        match std::str::from_utf8(cx.body())? {
            "panic" => panic!("as told"),
            "sleep" => tokio::time::sleep(Duration::from_secs(600)).await,
            "slow" => {
                // Long enough for `started` and one progress to be sent.
                while cx.time_left() > Duration::from_millis(1500) {
                    cx.progress(10.0, Some("slow"), None);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            _ => {}
        }
        let job = cx.job();
        let said = format!(
            "{} {} {} {} {} {:?} {:?} {:?}",
            job.job_type,
            job.tenant,
            job.tier,
            cx.attempt(),
            job.request.path,
            job.request.path_params.get("order"),
            job.request.header("accept"),
            job.request.query,
        );
        Ok(outcome(200, "text/plain", said))
    }
}

#[tokio::test]
async fn one_call_gives_the_result_and_all_progress() -> Result<(), testkit::KitError> {
    let ran = testkit::run("sum", typed(sum), [1, 2, 3]).await?;
    assert_eq!(ran.kind(), EventKind::Completed);
    assert_eq!(ran.json::<i64>()?, 6);
    assert_eq!(ran.end.job.job_type.as_str(), "sum");
    let percent: Vec<_> = ran.progress.iter().map(|said| said.percent).collect();
    assert_eq!(percent, [0.0, 1.0, 2.0]);

    // The stack is there now, so that the next ones take no group's first join.
    let begun = Instant::now();
    for number in 0..20 {
        let ran = testkit::run("sum", typed(sum), [number]).await?;
        assert_eq!(ran.json::<i64>()?, number);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "20 more took {took:?}");
    Ok(())
}

#[tokio::test]
async fn the_handler_sees_the_job_that_was_described() -> Result<(), testkit::KitError> {
    let ran = testkit::job("script")
        .body("text/plain", "look")
        .tenant("shop")
        .tier(Tier::Low)
        .attempt(3)
        .request("POST", "/orders/7/report")
        .path_param("order", "7")
        .header("Accept", "text/csv")
        .query("a", "b")
        .run(Script)
        .await?;
    let query = [Pair::new("a", "b")];
    let wanted =
        format!("script shop low 3 /orders/7/report Some(\"7\") Some(\"text/csv\") {query:?}");
    assert_eq!(ran.text(), wanted);
    assert_eq!(ran.end.attempt, 3);
    Ok(())
}

#[tokio::test]
async fn every_end_is_told_apart() -> Result<(), testkit::KitError> {
    let script = |body: &'static str| testkit::job("script").body("text/plain", body);
    let ran = script("panic").run(Script).await?;
    assert_eq!((ran.kind(), ran.code()), (EventKind::Failed, Some("panic")));
    let said = ran.json::<String>().unwrap_err().to_string();
    assert_eq!(
        said,
        "the job ended as failed: panic: the handler panicked: as told"
    );

    let limit = Duration::from_millis(200);
    let ran = script("sleep").attempt_timeout(limit).run(Script).await?;
    assert_eq!(
        (ran.kind(), ran.code()),
        (EventKind::Failed, Some("timeout"))
    );

    let limit = Duration::from_secs(2);
    let ran = script("slow").attempt_timeout(limit).run(Script).await?;
    assert_eq!(ran.kind(), EventKind::Completed);
    let kinds: Vec<_> = ran.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds[..2], [EventKind::Started, EventKind::Progress]);

    let ran = script("look").deadline(Duration::ZERO).run(Script).await?;
    assert_eq!(ran.kind(), EventKind::Expired);
    Ok(())
}

#[tokio::test]
async fn a_job_that_cannot_be_is_refused_before_anything_runs() {
    for (job, said) in [
        (testkit::job("No Name"), "No Name"),
        (testkit::job("x").tenant(""), "tenant"),
        (testkit::job("x").attempt(0), "attempts count from 1"),
    ] {
        let refused = job.run(Script).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let large = testkit::job("x").body("a/b", vec![0; 3 << 20]);
    let refused = large.run(Script).await.unwrap_err().to_string();
    assert!(refused.contains("over the limit"), "{refused}");
}
