//! Jobs of one serial key over several workers that come and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::HashMap;

use futures::future::join_all;
use tidegate_tests::{Client, Stack, secs};

const KEYS: usize = 12;
const JOBS: usize = 20;

/// One run of a job, or two of the same where it was cut off, as the shared log has them: key, number, `begin` or `end`.
fn lines(log: &str) -> Vec<(&str, usize, &str)> {
    log.lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let [what, key, number] = words[..] else {
                panic!("a torn line: {line:?}")
            };
            (key, number.parse().unwrap(), what)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_key_keep_their_order_while_workers_come_and_go() {
    let stack = Stack::new().await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display();
    // One write a line. What is cut off says when it ends, and is done by then.
    let script = format!(
        "read key number; \
         trap 'echo \"end $key $number\" >> {path}; exit 1' TERM; echo \"begin $key $number\" >> {path}; \
         sleep 0.05; echo \"end $key $number\" >> {path}"
    );
    let program = serde_json::to_string(&["sh", "-c", &script]).unwrap();
    stack.configure(&format!(
        "[types.ordered]\nhandler = {{ kind = \"command\", program = {program} }}\nmode = \"async\"\ncontent = \"any\"\n"
    ));
    let gateways = [stack.gateway("one").await, stack.gateway("two").await];
    let first = stack.worker("worker-1").await;
    let second = stack.worker("worker-2").await;
    let submits = (0..KEYS).map(|key| {
        // Each key by one gateway after the other: the order is that of the acceptances, wherever they were given.
        let clients = [&gateways[0], &gateways[1]].map(|gateway| Client::new(gateway.url()));
        async move {
            let mut ids = Vec::new();
            for number in 0..JOBS {
                let client = &clients[number % 2];
                let submit = client
                    .submit("ordered", format!("key-{key} {number}\n"))
                    .header("tidegate-serial-key", format!("key-{key}"));
                let answer = submit.send().await.unwrap();
                ids.push(tidegate_tests::http::accepted(answer).await.id);
            }
            ids
        }
    });
    let (ids, third) = tokio::join!(join_all(submits), stack.worker("worker-3"));
    // Cleanly, with jobs of all keys still to come.
    let begun = std::fs::read_to_string(log.path()).unwrap();
    assert!(first.stop(secs(30)).await.success());
    let client = Client::new(gateways[0].url());
    for id in ids.iter().flatten() {
        client.until_status(id, &["completed"], secs(90)).await;
    }
    let text = std::fs::read_to_string(log.path()).unwrap();
    let mut by_key: HashMap<&str, Vec<(usize, &str)>> = HashMap::new();
    for (key, number, what) in lines(&text) {
        by_key.entry(key).or_default().push((number, what));
    }
    let mut repeats = 0;
    for (key, seen) in &by_key {
        for pair in seen.chunks(2) {
            assert_eq!(
                (pair[0].1, pair.last().unwrap().1),
                ("begin", "end"),
                "{key}: {seen:?}"
            );
            assert_eq!(
                pair[0].0, pair[1].0,
                "{key}: one began while another ran: {seen:?}"
            );
        }
        let mut order: Vec<_> = seen.chunks(2).map(|pair| pair[0].0).collect();
        repeats += order.len();
        order.dedup();
        assert_eq!(order, (0..JOBS).collect::<Vec<_>>(), "{key}");
    }
    assert_eq!(by_key.len(), KEYS);
    // Whoever gave a partition up said so: nothing is done again for want of a commit, and nobody is suspected.
    for worker in [&second, &third] {
        let log = worker.log();
        assert!(!log.contains("without a farewell"), "{log}");
    }
    println!(
        "{KEYS} keys, {JOBS} jobs each: in order, none beside another of its key; {} of {} begun when a worker left; {} ran \
         again because their partition moved",
        lines(&begun)
            .iter()
            .filter(|line| line.2 == "begin")
            .count(),
        KEYS * JOBS,
        repeats - KEYS * JOBS,
    );
}
