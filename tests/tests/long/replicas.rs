//! Three brokers, three replicas: the leader of the busiest partitions is killed twice under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use tidegate_tests::{Broker, Client, Servers, Stack, rows, secs, until};
use uuid::Uuid;

/// What clients were told.
#[derive(Debug, Default)]
struct Told {
    answered: usize,
    /// Ids of all that was accepted: `200` and `202`.
    accepted: Vec<String>,
    /// `503`: certainly not accepted.
    refused: usize,
    /// `503`: it is not known.
    unknown: Vec<String>,
    slowest: Duration,
    longest_silence: Duration,
}

/// Submits one job after the other until it is over, every third without a wait.
async fn client(gateways: &[Client], number: &AtomicUsize, over: &AtomicBool) -> Told {
    let (mut told, mut last_accepted) = (Told::default(), Instant::now());
    while !over.load(Ordering::Relaxed) {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let gateway = &gateways[number % gateways.len()];
        let body = format!("[{number}]");
        let begun = Instant::now();
        let request = match number % 3 {
            0 => gateway.submit("echo-async", body.clone()),
            _ => gateway.wait("echo", body.clone(), 20),
        };
        let answer = request.send().await.expect("an answer to every request");
        told.slowest = told.slowest.max(begun.elapsed());
        let status = answer.status().as_u16();
        let id = answer.headers().get("tidegate-job-id");
        let id = id.map(|id| id.to_str().unwrap().to_owned());
        let retry_after = answer.headers().contains_key("retry-after");
        let text = answer.text().await.expect("a body");
        match status {
            200 | 202 => {
                if status == 200 {
                    assert_eq!(text, body, "misrouted");
                    told.answered += 1;
                }
                told.accepted.push(id.expect("an id"));
                told.longest_silence = told.longest_silence.max(last_accepted.elapsed());
                last_accepted = Instant::now();
            }
            503 => {
                let problem: Value = serde_json::from_str(&text).expect("a problem");
                assert!(retry_after, "503 without Retry-After: {problem}");
                match problem["repeatSafe"].as_bool().expect("repeatSafe") {
                    true => told.refused += 1,
                    false => told
                        .unknown
                        .push(problem["jobId"].as_str().expect("jobId").to_owned()),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            other => panic!("{other}: {text}"),
        }
        // Leaves three brokers on few cores some room.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    told
}

/// How many partitions of the busy topics each broker leads, and whether every one has all its replicas in sync.
fn leaders(stack: &Stack) -> (BTreeMap<i32, usize>, bool) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &stack.servers.kafka)
        .create()
        .unwrap();
    let (mut leaders, mut whole) = (BTreeMap::new(), true);
    for topic in ["jobs.normal", "replies"] {
        let topic = format!("{}{topic}", stack.prefix);
        let Ok(metadata) = consumer.fetch_metadata(Some(&topic), secs(5)) else {
            return (BTreeMap::new(), false);
        };
        for partition in metadata.topics()[0].partitions() {
            *leaders.entry(partition.leader()).or_default() += 1;
            whole &= partition.leader() > 0 && partition.isr().len() == 3;
        }
    }
    (leaders, whole)
}

async fn busiest(stack: &Stack) -> (u32, usize) {
    let (leaders, _) = leaders(stack);
    let (leader, partitions) = leaders.into_iter().max_by_key(|(_, n)| *n).unwrap();
    (leader as u32, partitions)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_job_is_lost_when_the_leader_is_killed_twice() {
    let kafka = Broker::up(3, true);
    let servers = Servers {
        kafka: kafka.bootstrap.clone(),
        registry: kafka.registry.clone(),
        ..Servers::shared()
    };
    let mut stack = Stack::bare(servers).await;
    stack.set("kafka.durability=replicated");
    stack.set("kafka.session_timeout=10s");
    stack.set_up();
    let (a, b, _one, _two) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker-1"),
        stack.worker("worker-2"),
    );
    let gateways = [Client::new(a.url()), Client::new(b.url())];
    let (number, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let kills = async {
        let mut told = Vec::new();
        for round in 1..=2 {
            // Under load: so many more jobs before each kill.
            let before = number.load(Ordering::Relaxed);
            until("there is load", secs(120), || async {
                (number.load(Ordering::Relaxed) > before + 1_500).then_some(())
            })
            .await;
            let (leader, partitions) = busiest(&stack).await;
            kafka.broker("kill", leader);
            let killed = Instant::now();
            until("the others lead", secs(60), || async {
                let (leaders, _) = leaders(&stack);
                let gone = !leaders.is_empty()
                    && !leaders.contains_key(&(leader as i32))
                    && !leaders.contains_key(&-1);
                gone.then_some(())
            })
            .await;
            let elected = killed.elapsed();
            // On two brokers of three all goes on.
            for gateway in &gateways {
                until("waits are answered again", secs(60), || async {
                    let answer = gateway.wait("echo", "[]", 10).send().await.ok()?;
                    (answer.status() == 200).then_some(())
                })
                .await;
            }
            let mended = killed.elapsed();
            told.push(format!(
                "kill {round}: broker {leader} led {partitions} of 12 partitions, new leaders after {:.1} s, waits answered after {:.1} s",
                elected.as_secs_f64(),
                mended.as_secs_f64()
            ));
            kafka.broker("start", leader);
            until("every replica is in sync", secs(120), || async {
                leaders(&stack).1.then_some(())
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
        told
    };
    let clients = join_all((0..40).map(|_| client(&gateways, &number, &over)));
    let (told, kills) = tokio::join!(clients, kills);

    let accepted: BTreeSet<Uuid> = told
        .iter()
        .flat_map(|told| &told.accepted)
        .map(|id| id.parse().unwrap())
        .collect();
    let begun = Instant::now();
    let lost = until("every accepted job is completed", secs(90), || async {
        let rows = rows::rows(&stack).await;
        let done = |id: &Uuid| rows.get(id).is_some_and(|row| row.status == "completed");
        let missing = accepted.iter().filter(|id| !done(id)).count();
        (missing == 0 || begun.elapsed() > secs(80)).then_some(missing)
    })
    .await;
    let sum = |of: fn(&Told) -> usize| told.iter().map(of).sum::<usize>();
    for line in kills {
        println!("replicas: {line}");
    }
    println!(
        "replicas: {} submits: {} accepted ({} answered in their wait), {} refused with 503, {} unknown; accepted jobs lost: {lost}; slowest answer {:.1?}, longest time without an accepted job of one client {:.1?}",
        number.load(Ordering::Relaxed),
        accepted.len(),
        sum(|told| told.answered),
        sum(|told| told.refused),
        sum(|told| told.unknown.len()),
        told.iter().map(|told| told.slowest).max().unwrap(),
        told.iter().map(|told| told.longest_silence).max().unwrap(),
    );
    assert_eq!(lost, 0);
    // What was unknown ran or did not; what ran has ended.
    let rows = rows::rows(&stack).await;
    for id in told.iter().flat_map(|told| &told.unknown) {
        let row = rows.get(&id.parse::<Uuid>().unwrap());
        assert!(row.is_none_or(rows::Row::is_ended), "{row:?}");
    }
    println!(
        "replicas: {} rows agree with the log",
        rows::assert_agree(&stack).await
    );
}
