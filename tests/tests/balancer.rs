//! Two gateways behind the balancer that is shipped: clients see one service, whichever of them dies or stops.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::balancer::{Balancer, timeout};
use tidegate_tests::http::accepted;
use tidegate_tests::load::Load;
use tidegate_tests::stack::root;
use tidegate_tests::traffic::{self, Answer, Traffic};
use tidegate_tests::{Client, Process, Stack, secs, until, until_true};

/// Seconds that clients wait for their answers.
const WAIT: u64 = 20;

/// How long the balancer may take to see that a gateway has hung up. Until then it may send on a connection that it has
/// kept, and cannot know whether anybody has read what it sent.
const UNSEEN: Duration = Duration::from_secs(1);

/// Gateways as they are shipped for a balancer, and a worker.
async fn behind(stack: &Stack) -> (Process, Process, Process) {
    tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker")
    )
}

async fn until_both_serve(balancer: &Balancer, client: &Client) {
    until_true("both gateways serve", secs(20), || async {
        let answer = client.submit("echo", "[0]").send().await;
        assert!(answer.is_ok(), "{answer:?}");
        balancer.passed_to("gateway-a") > 0 && balancer.passed_to("gateway-b") > 0
    })
    .await;
}

fn unlike_success(answers: &[Answer]) -> Vec<&Answer> {
    answers
        .iter()
        .filter(|answer| !matches!(answer.status, Some(200 | 202)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_spread_and_a_gateway_that_dies_takes_only_what_it_was_answering() {
    let mut stack = Stack::new().await;
    // As clients see it: the balancer. Set before the balancer is there, as in a real installation.
    stack.set("gateway.public_url=https://jobs.example.com");
    let (a, b, _worker) = behind(&stack).await;
    let balancer = Balancer::before([&a, &b]).await;
    let client = Client::new(&balancer.url);
    until_both_serve(&balancer, &client).await;

    // Many at once, each with its own answer, on both.
    let before = (
        balancer.passed_to("gateway-a"),
        balancer.passed_to("gateway-b"),
    );
    let all = [client.clone()];
    let load = Load {
        gateways: &all,
        concurrency: 20,
        jobs: 400,
        until: None,
        sent: None,
        job_type: |number| {
            if number % 20 == 0 {
                "slow-echo"
            } else {
                "echo"
            }
        },
        pause: Duration::ZERO,
    };
    let tally = load.run().await;
    tally.assert_whole();
    let passed = [
        balancer.passed_to("gateway-a") - before.0,
        balancer.passed_to("gateway-b") - before.1,
    ];
    println!("balancer: {tally}; {passed:?} on each gateway");
    assert_eq!(passed.iter().sum::<usize>(), 400);
    assert!(
        passed.iter().all(|count| *count >= 100),
        "one of them had hardly any: {passed:?}"
    );

    // A job is the installation's, not a gateway's, and its links are those of the world outside.
    for gateway in [&a, &b] {
        let answer = Client::new(gateway.url())
            .submit("echo-async", "[1]")
            .send()
            .await
            .unwrap();
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let job = accepted(answer).await;
        let url = format!("https://jobs.example.com/v1/jobs/{}", job.id);
        assert_eq!((location, &job.status_url), (url.clone(), &url));
        for other in [a.url(), b.url(), &balancer.url] {
            let status = Client::new(other)
                .until_status(&job.id, &["completed"], secs(10))
                .await;
            assert_eq!(status["statusUrl"], url.as_str(), "{status}");
        }
    }
    let metrics = client.get("/metrics").send().await.unwrap();
    assert_eq!(
        metrics.status(),
        404,
        "the metrics of one gateway are not the service's"
    );

    // One dies in the middle of the traffic.
    let traffic = Traffic::start(&client, 16, 8, WAIT);
    traffic.until_more(200).await;
    a.kill();
    let died = traffic.now();
    traffic.until_more(600).await;
    let answers = traffic.stop().await;
    println!(
        "balancer: a gateway is killed after {died:.1?}:\n{}",
        traffic::summary(&answers)
    );
    let lost = unlike_success(&answers);
    assert!(lost.len() <= 24, "more than can have been in flight");
    for answer in &lost {
        assert!(
            answer.at < died + UNSEEN,
            "sent to a gateway that was dead: {answer:?}"
        );
        // The balancer says 502, or hangs up where a client has to reckon with that: on a connection used before.
        assert!(
            matches!(answer.status, None | Some(502)) && !answer.refused,
            "{answer:?}"
        );
    }
    let later = answers
        .iter()
        .filter(|answer| answer.at > died && answer.waits)
        .count();
    assert!(later > 100, "waits go on being served: {later}");

    // What was accepted is not lost with it.
    for id in traffic::accepted(&answers) {
        client.until_status(&id, &["completed"], secs(40)).await;
    }

    // None is left: what the balancer says is a problem document too, and true.
    b.kill();
    let answer = until("the balancer has seen it", UNSEEN, || async {
        let answer = client.submit("echo", "[3]").send().await.ok()?;
        (answer.status() != 502).then_some(answer)
    })
    .await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["repeatSafe"], true, "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_stops_without_refusing_a_request() {
    let mut stack = Stack::new().await;
    // As in deploy/tidegate.toml.
    stack.set(&format!(
        "gateway.leave_after={}",
        deployed("gateway", "leave_after")
    ));
    let (mut a, b, _worker) = behind(&stack).await;
    let balancer = Balancer::before([&a, &b]).await;
    let client = Client::new(&balancer.url);
    until_both_serve(&balancer, &client).await;
    let direct = Client::new(a.url());

    let traffic = Traffic::start(&client, 16, 8, WAIT);
    // A connection a request: who comes anew is let in as well.
    let fresh = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let fresh = Traffic::start(
        &Client {
            base: balancer.url.clone(),
            http: fresh,
        },
        8,
        4,
        WAIT,
    );
    traffic.until_more(200).await;
    let (begun, told) = (Instant::now(), traffic.now());
    a.terminate();
    // It says so before it refuses anything.
    direct.until_unready("shutting down", secs(2)).await;
    let unready = begun.elapsed();
    let answer = direct.submit("echo", "[2]").send().await.unwrap();
    assert_eq!(answer.status(), 200, "it still takes jobs");
    until_true("the balancer has noticed", secs(5), || async {
        balancer.log().contains("Server gateways/gateway-a is DOWN")
    })
    .await;
    let noticed = begun.elapsed();
    let exit = a.exit(secs(25)).await;
    assert!(exit.success(), "{exit}");
    println!(
        "balancer: not ready after {unready:.1?}, out of the rotation after {noticed:.1?}, ended after {:.1?}",
        begun.elapsed()
    );
    traffic.until_more(200).await;
    for traffic in [traffic, fresh] {
        let answers = traffic.stop().await;
        println!(
            "balancer: a gateway stops after {told:.1?}:\n{}",
            traffic::summary(&answers)
        );
        let refused = unlike_success(&answers);
        assert!(refused.is_empty(), "{refused:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_is_lost_over_is_sent_again_only_where_that_does_no_harm() {
    let (dying, living) = (HalfGateway::start(true), HalfGateway::start(false));
    let balancer = Balancer::before_urls([&dying.url, &living.url]).await;
    let address = balancer.url.trim_start_matches("http://");
    let ask = |request: &str| {
        let request = format!("{request}host: jobs\r\nconnection: close\r\n");
        let request = request + "content-length: 2\r\n\r\n{}";
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    until_true("a gateway is known", secs(10), || async {
        ask("GET /balancer HTTP/1.1\r\n").starts_with("HTTP/1.1 200")
    })
    .await;
    for (request, again) in [
        ("GET /v1/jobs/1 HTTP/1.1\r\n", true),
        (
            "POST /v1/jobs/echo HTTP/1.1\r\nidempotency-key: 7\r\n",
            true,
        ),
        ("POST /v1/jobs/echo HTTP/1.1\r\n", false),
        ("POST /v1/jobs/1/cancel HTTP/1.1\r\n", false),
    ] {
        let before = (dying.requests(), living.requests());
        let answers: Vec<_> = (0..12).map(|_| ask(request)).collect();
        let (lost, served) = (dying.requests() - before.0, living.requests() - before.1);
        let good = answers
            .iter()
            .filter(|answer| answer.starts_with("HTTP/1.1 200"));
        println!("{request:?}: {lost} gateways lost, {served} answers");
        assert!(lost > 0, "{request:?}: the dying one was never asked");
        assert_eq!(good.count(), served, "{request:?}: {answers:#?}");
        assert_eq!(served, if again { 12 } else { 12 - lost }, "{request:?}");
        for answer in answers
            .iter()
            .filter(|answer| !answer.starts_with("HTTP/1.1 200"))
        {
            assert!(
                answer.contains("502") && answer.contains("gateway-lost"),
                "{answer}"
            );
        }
    }
}

/// Says that it is ready, and counts what else it is asked: which it answers, or hangs up over.
struct HalfGateway {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl HalfGateway {
    /// Serves for as long as the test runs.
    fn start(dying: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else {
                    return;
                };
                let mut bytes = [0; 4096];
                // A check may come and go without a word.
                let read = connection.read(&mut bytes).unwrap_or(0);
                let is_check = bytes.starts_with(b"GET /readyz ");
                if read > 0 && !is_check {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if is_check || !dying {
                    let answer =
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
                    let _ = connection.write_all(answer.as_bytes());
                }
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_near_the_cap_is_answered_through_the_balancer() {
    let stack = Stack::new().await;
    let (a, b, _worker) = behind(&stack).await;
    let balancer = Balancer::before([&a, &b]).await;
    let client = Client::new(&balancer.url);
    until_both_serve(&balancer, &client).await;
    let cap = default_seconds("gateway", "max_wait");
    let begun = Instant::now();
    // The first ends just before the cap, the second does not end in time.
    let answered = client.wait("sleep", (cap - 2).to_string(), cap).send();
    let accepted = client.wait("sleep", (cap + 60).to_string(), cap).send();
    let (answered, accepted) = tokio::join!(answered, accepted);
    let (answered, accepted) = (answered.unwrap(), accepted.unwrap());
    println!(
        "balancer: waits of {cap} s ended after {:.1?}",
        begun.elapsed()
    );
    assert_eq!(
        (
            answered.status().as_u16(),
            answered.text().await.unwrap().as_str()
        ),
        (200, "slept\n")
    );
    assert_eq!(accepted.status(), 202);
    let accepted: Value = accepted.json().await.unwrap();
    assert_eq!(
        accepted["reason"], "a worker is running the job",
        "{accepted}"
    );
}

#[test]
fn the_balancer_waits_longer_than_a_gateway_may() {
    // The produce comes before the wait, and the answer after it.
    let longest =
        default_seconds("gateway", "max_wait") + default_seconds("kafka", "produce_timeout");
    let longest = longest.max(default_seconds("gateway", "max_long_poll"));
    let slack = 5;
    assert!(
        timeout("server") >= secs(longest + slack),
        "{:?}",
        timeout("server")
    );
    assert!(timeout("client") >= timeout("server"));
    // What is deployed with it does not raise the cap.
    let text = std::fs::read_to_string(root().join("deploy/tidegate.toml")).unwrap();
    assert!(
        !text.contains("max_wait") && !text.contains("produce_timeout"),
        "check it here too"
    );
    assert_eq!(
        deployed("gateway", "leave_after"),
        "3s",
        "longer than fall times inter, 1 s"
    );
}

/// A key of a TOML file whose value is a text; sections and keys are one a line there.
fn setting(file: &str, section: &str, key: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let after = text.split(&format!("\n[{section}]\n")).nth(1).unwrap();
    let section = after.split("\n[").next().unwrap();
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key} = \"")));
    line.unwrap_or_else(|| panic!("{key} in {file}"))
        .trim_end_matches('"')
        .to_owned()
}

fn deployed(section: &str, key: &str) -> String {
    setting("deploy/tidegate.toml", section, key)
}

fn default_seconds(section: &str, key: &str) -> u64 {
    let text = setting("services/tidegate/default.toml", section, key);
    text.trim_end_matches('s').parse().unwrap()
}
