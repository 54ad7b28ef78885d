//! The status store is away, cut off or standing still, while jobs go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use tidegate_tests::proxy::Proxy;
use tidegate_tests::topics::Admin;
use tidegate_tests::traffic::{self, Answer, Traffic};
use tidegate_tests::{Client, Postgres, Process, Servers, Stack, rows, secs, until_true};

/// `gateway.reply_queue_bytes`.
const QUEUE: usize = 1 << 20;
/// Until the gateway knows: `store.timeout` and the next call.
const NOTICE: Duration = Duration::from_secs(5);

/// Waits end as if nothing were wrong; what needs a row is refused; nothing else happens.
fn judge(answers: &[Answer], gone: Duration, back: Duration, again: Duration) {
    let mut during = (0, 0);
    for answer in answers {
        let away = answer.at > gone + NOTICE && answer.at < back;
        match (answer.waits, answer.status, away) {
            (true, Some(200), _) => during.0 += usize::from(away),
            // Sent before, it may still have met the cut.
            (false, Some(503), _) if answer.at + answer.took > gone && answer.at < again => {
                assert!(answer.retry_after && answer.took < secs(8), "{answer:?}");
                during.1 += usize::from(away);
            }
            // Accepted before it was noticed: its row follows from the log.
            (false, Some(202), false) => assert!(answer.took < secs(8), "{answer:?}"),
            _ => panic!("{answer:?}"),
        }
    }
    println!(
        "without the store: {} waits completed, {} submits refused",
        during.0, during.1
    );
    assert!(during.0 > 50 && during.1 > 10);
}

/// Every accepted job has its row, every partition is applied to its end, and rows and log agree.
async fn assert_caught_up(stack: &Stack, accepted: &[String]) {
    let admin = Admin::of(&stack.servers.kafka);
    let replies = format!("{}replies", stack.prefix);
    until_true(
        "the projection is at the end of the log",
        secs(60),
        || async {
            let ends = admin.ends(&replies);
            let at = rows::positions(stack).await;
            (0..)
                .zip(&ends)
                .all(|(partition, (_, next))| at.get(&partition) == Some(next))
        },
    )
    .await;
    let rows = rows::rows(stack).await;
    for id in accepted {
        let row = rows.get(&id.parse().unwrap());
        assert!(
            row.is_some_and(|row| row.status == "completed"),
            "job {id}: {row:?}"
        );
    }
    let compared = rows::assert_agree(stack).await;
    println!(
        "{} jobs accepted, {compared} rows, all as the log says",
        accepted.len()
    );
}

/// Load before, while `away` and after; memory of the gateway all the time.
async fn outage(stack: &Stack, gateway: &Process, away: Duration, cut: impl Fn(), mend: impl Fn()) {
    let client = Client::new(gateway.url());
    let old = client.accept("echo-async", "1").await;
    // So much that what waits for the store reaches its bound, and waits are served aside.
    let traffic = Traffic::padded(&client, 4, 3, 10, 5000);
    traffic.until_more(200).await;
    let before = gateway.memory_kib();

    let gone = traffic.now();
    cut();
    let (mut most, mut noted, mut queued, mut aside) = (before, false, 0.0f64, false);
    while traffic.now() < gone + away {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(gateway.memory_kib());
        queued = queued.max(client.metric("tidegate_projection_queue_bytes").await);
        aside = aside || client.metric("tidegate_waits_readers").await > 0.0;
        noted = noted
            || client.readiness().await["notes"]
                .to_string()
                .contains("asynchronous submits are refused");
    }
    assert!(noted && client.is_ready().await, "ready, with a note");
    let status = client.get(&old.status_url).send().await.unwrap();
    assert_eq!(status.status(), 503);
    assert!(status.headers().contains_key("retry-after"));
    // Before, because it is there again at some moment while it is being mended.
    let back = traffic.now();
    mend();
    until_true("asynchronous submits are taken again", secs(30), || async {
        let submit = client.submit("echo-async", "1").send().await.unwrap();
        submit.status() == 202
    })
    .await;
    let again = traffic.now();
    traffic.until_more(200).await;
    let answers = traffic.stop().await;

    println!(
        "away for {:.1?}, taken again {:.1?} later",
        back - gone,
        again - back
    );
    println!("{}", traffic::summary(&answers));
    judge(&answers, gone, back, again);
    assert_caught_up(stack, &traffic::accepted(&answers)).await;
    let after = gateway.memory_kib();
    println!("gateway: {before} KiB before, at most {most} during, {after} after");
    assert!(most.max(after) < before + 32 * 1024, "memory is not flat");
    println!("at most {queued} bytes waited for the store");
    assert!(aside && queued < 2.0 * QUEUE as f64, "{queued}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_under_load() {
    let away = if std::env::var("TIDEGATE_LONG").is_ok() {
        secs(60)
    } else {
        secs(20)
    };
    let mut stack = Stack::new().await;
    let (user, server) = stack.store.split_once('@').unwrap();
    let (server, database) = server.split_once('/').unwrap();
    let proxy = Proxy::to(server.to_owned()).await;
    let through = format!("store.url={user}@{}/{database}", proxy.address);
    stack.set(&through);
    stack.set(&format!("gateway.reply_queue_bytes={QUEUE}"));
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    outage(&stack, &gateway, away, || proxy.cut(), || proxy.mend()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standing_still_under_load() {
    let postgres = tokio::task::spawn_blocking(Postgres::up).await.unwrap();
    let servers = Servers {
        postgres: postgres.url.clone(),
        ..Servers::shared()
    };
    let mut stack = Stack::bare(servers).await;
    stack.set_up();
    stack.set(&format!("gateway.reply_queue_bytes={QUEUE}"));
    let gateway = stack.gateway("gateway").await;
    let _worker = stack.worker("worker").await;
    let (pause, resume) = (|| postgres.control("pause"), || postgres.control("resume"));
    outage(&stack, &gateway, secs(15), pause, resume).await;
}
