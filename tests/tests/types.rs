//! The file of job types, changed while jobs are taken and run: none is lost and none fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures::future::join_all;
use serde_json::Value;
use tidegate_tests::{Client, Process, Stack, rows, secs, until};

const JOBS: usize = 2000;

/// A file of types: `steady` is always there, with a timeout that changes; `guest` comes and goes.
fn version(timeout: u64, guest: bool, more: &str) -> String {
    let handler =
        r#"handler = { kind = "command", program = ["cat"], content_type = "application/json" }"#;
    let guest = match guest {
        true => format!("[types.guest]\n{handler}\nmode = \"async\"\n"),
        false => String::new(),
    };
    format!(
        "[types.steady]\n{handler}\nmode = \"async\"\nattempt_timeout = \"{timeout}s\"\n{guest}{more}"
    )
}

/// Puts a text in the file's place, and waits until every process says of its types what is expected.
async fn change(
    stack: &Stack,
    roles: &[&Process],
    text: &str,
    expected: impl Fn(&Value) -> bool,
) -> String {
    let (new, file) = (
        stack.dir.path().join("new"),
        stack.dir.path().join("shared.toml"),
    );
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
    let mut digests = Vec::new();
    for role in roles {
        let client = Client::new(role.url());
        let what = format!("{} has read it", role.name());
        let types = until(&what, secs(20), || async {
            let report = client.readiness().await;
            assert_eq!(report["ready"], true, "{report}");
            expected(&report["types"]).then(|| report["types"].clone())
        });
        digests.push(types.await["digest"].as_str().unwrap().to_owned());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "all have the same types: {digests:?}");
    digests.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_jobs_end_well_while_their_types_change() {
    let mut stack = Stack::new().await;
    let shared = stack.dir.path().join("shared.toml");
    std::fs::write(&shared, version(30, true, "")).unwrap();
    stack.set(&format!("types_file={}", shared.display()));
    stack.set("worker.park_after=100ms");
    stack.set("worker.park_at_most=1s");
    stack.set("worker.concurrency=8");
    let (gateway, _scheduler, one, two) = tokio::join!(
        stack.gateway("gateway"),
        stack.scheduler("scheduler"),
        stack.worker("worker-one"),
        stack.worker("worker-two")
    );
    let client = Client::new(gateway.url());
    let roles = [&gateway, &one, &two];
    let begun = Instant::now();

    let (accepted, changed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = join_all((0..8).map(|number| {
        let (client, accepted, changed) = (&client, &accepted, &changed);
        async move {
            let mut refused = 0;
            // At least so many, and until every version has been in force.
            while accepted.load(Ordering::Relaxed) < JOBS || !changed.load(Ordering::Relaxed) {
                let job_type = if number % 2 == 0 { "steady" } else { "guest" };
                let answer = client.submit(job_type, "[1]").send().await.unwrap();
                match (answer.status().as_u16(), job_type) {
                    (202, _) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                    (404, "guest") => refused += 1,
                    (status, _) => panic!("{job_type}: {status} {}", answer.text().await.unwrap()),
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            refused
        }
    }));
    let changes = async {
        let report = client.readiness().await;
        let mut digest = report["types"]["digest"].as_str().unwrap().to_owned();
        for round in 0..2 {
            let timeout = 20 + round;
            for (guest, more) in [
                (true, ""),
                (false, ""),
                (true, "[types.new]\nhandler = { kind = \"echo\" }\n"),
            ] {
                let text = version(timeout, guest, more);
                let before = digest.clone();
                let is_new = |types: &Value| types["error"].is_null() && types["digest"] != *before;
                digest = change(&stack, &roles, &text, is_new).await;
            }
            let answer = client.wait("new", "[2]", 20).send().await.unwrap();
            assert_eq!(
                answer.status(),
                200,
                "a type that came runs: {}",
                answer.text().await.unwrap()
            );
            let broken = version(
                timeout,
                false,
                "[types.new]\nhandler = { kind = \"eco\" }\n",
            );
            let told = |types: &Value| {
                types["error"]
                    .as_str()
                    .is_some_and(|e| e.contains("line 6, column 13: types.new.handler.kind"))
            };
            let kept = change(&stack, &roles, &broken, told).await;
            assert_eq!(kept, digest, "a broken file changes nothing");
        }
        changed.store(true, Ordering::Relaxed);
    };
    let (refused, ()) = tokio::join!(load, changes);
    let (accepted, refused) = (accepted.into_inner(), refused.iter().sum::<usize>());
    assert!(
        accepted >= JOBS && refused > 0,
        "{accepted} accepted, {refused} refused"
    );

    // `guest` is in force at the end, so what was parked meanwhile has somewhere to run.
    let rows = until("every job has ended", secs(60), || async {
        let rows = rows::rows(&stack).await;
        let ended = rows.values().filter(|row| row.is_ended()).count();
        (ended == accepted + 2).then_some(rows)
    })
    .await;
    let odd: Vec<_> = rows
        .values()
        .filter(|row| row.status != "completed")
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    let metric = async |role: &Process, name: &str| Client::new(role.url()).metric(name).await;
    let mut parked = 0.0;
    for worker in [&one, &two] {
        parked += metric(worker, "tidegate_jobs_parked_total").await;
        // Six good versions and two bad ones.
        assert_eq!(
            metric(worker, "tidegate_job_types_reloads_total").await,
            8.0
        );
        assert_eq!(
            worker.log().matches("cannot be used").count(),
            2,
            "{}",
            worker.log_tail()
        );
    }
    println!(
        "types: {accepted} jobs accepted and completed, {refused} refused while their type was away, {parked} times \
         parked, 6 changes and 2 broken files in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert!(parked > 0.0, "some jobs met a worker without their type");
    assert_eq!(rows::assert_agree(&stack).await, accepted + 2);
}
