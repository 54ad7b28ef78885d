//! Submits under an idempotency key, over two gateways, and with gateways that are killed half-way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use tidegate_tests::proxy::Proxy;
use tidegate_tests::{Broker, Client, Servers, Stack, kafka, rows, secs, until};
use uuid::Uuid;

/// A submit under a key that waits, or does not.
async fn submit(client: &Client, job_type: &str, key: &str, body: &str, wait: u64) -> Response {
    let request = client.wait(job_type, body.to_owned(), wait);
    let answer = request.header("idempotency-key", key).send().await;
    answer.expect("an answer")
}

fn job_id(answer: &Response) -> String {
    let id = answer.headers().get("tidegate-job-id");
    id.expect("a job id").to_str().unwrap().to_owned()
}

/// How many records there are of each job, in the order of the topic.
async fn records(stack: &Stack) -> Vec<String> {
    let (bootstrap, topic) = (
        stack.servers.kafka.clone(),
        format!("{}jobs.normal", stack.prefix),
    );
    let read = tokio::task::spawn_blocking(move || kafka::read_all(&bootstrap, &topic));
    let ids = read.await.unwrap().into_iter();
    ids.map(|message| kafka::header(&message, "job-id").unwrap())
        .collect()
}

/// The state and the job of a key.
async fn key(stack: &Stack, key: &str) -> Option<(String, String)> {
    let pool = PgPool::connect(&stack.store).await.unwrap();
    let found: Option<(String, Uuid)> =
        sqlx::query_as("SELECT state, job_id FROM idempotency_keys WHERE key = $1")
            .bind(key)
            .fetch_optional(&pool)
            .await
            .unwrap();
    pool.close().await;
    found.map(|(state, id)| (state, id.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_submits_with_one_key_to_two_gateways_are_one_job() {
    let stack = Stack::new().await;
    let (a, b, _worker) = tokio::join!(
        stack.gateway("gateway-a"),
        stack.gateway("gateway-b"),
        stack.worker("worker"),
    );
    let clients = [Client::new(a.url()), Client::new(b.url())];
    // The outcome comes to one of them two seconds later.
    let begun = Instant::now();
    let body = r#"{"order":7}"#;
    let submits = (0..20).map(|n| submit(&clients[n % 2], "slow-echo", "order-7", body, 20));
    let answers = join_all(submits).await;
    let took = begun.elapsed();
    let id = job_id(&answers[0]);
    for answer in answers {
        assert_eq!(
            (answer.status(), job_id(&answer)),
            (StatusCode::OK, id.clone())
        );
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), body);
    }
    println!("idempotency: 20 submits on 2 gateways, one job, all answered after {took:.1?}");
    assert!(took < secs(5), "who joins is told soon: {took:?}");

    // Later, waiting or not, on either; another request is refused.
    for client in &clients {
        let begun = Instant::now();
        let again = submit(client, "slow-echo", "order-7", body, 20).await;
        assert_eq!(
            (again.status(), job_id(&again)),
            (StatusCode::OK, id.clone())
        );
        assert!(begun.elapsed() < secs(1), "it is not run again");
        let later = submit(client, "slow-echo", "order-7", body, 0).await;
        assert_eq!(
            (later.status(), job_id(&later)),
            (StatusCode::ACCEPTED, id.clone())
        );
        let other = submit(client, "slow-echo", "order-7", r#"{"order":8}"#, 20).await;
        assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = other.json().await.unwrap();
        assert_eq!(problem["type"], "/problems/idempotency-key-reused");
    }

    // The same at once without waiting: the status is there when the answer is.
    let submits = (0..20).map(|n| submit(&clients[n % 2], "echo-async", "later", "1", 0));
    let answers = join_all(submits).await;
    let later = job_id(&answers[0]);
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(
            (answer.status(), job_id(&answer)),
            (StatusCode::ACCEPTED, later.clone())
        );
        assert!(clients[(n + 1) % 2].status(&later).await.is_some());
    }
    clients[0]
        .until_status(&later, &["completed"], secs(20))
        .await;
    assert_eq!(records(&stack).await.len(), 2, "one record a job");
    assert_eq!(rows::assert_agree(&stack).await, 2);
    let joined = clients[0].metric("tidegate_keyed_submits_total").await
        + clients[1].metric("tidegate_keyed_submits_total").await;
    assert_eq!(joined, 46.0);
}

/// A broker of its own, two gateways, the first of which reaches the store by a proxy.
struct Half {
    broker: Broker,
    stack: Stack,
    proxy: Proxy,
}

impl Half {
    async fn new() -> Self {
        let broker = tokio::task::spawn_blocking(|| Broker::up(1, true));
        let broker = broker.await.unwrap();
        let servers = Servers {
            kafka: broker.bootstrap.clone(),
            registry: broker.registry.clone(),
            ..Servers::shared()
        };
        let stack = Stack::bare(servers).await;
        stack.set_up();
        let (_, server) = stack.store.split_once('@').unwrap();
        let (server, _) = server.split_once('/').unwrap();
        let proxy = Proxy::to(server.to_owned()).await;
        Self {
            broker,
            stack,
            proxy,
        }
    }

    /// The store's URL by way of the proxy, as a setting.
    fn through(&self) -> String {
        let (user, server) = self.stack.store.split_once('@').unwrap();
        let (_, database) = server.split_once('/').unwrap();
        format!("store.url={user}@{}/{database}", self.proxy.address)
    }

    async fn broker(&self, verb: &'static str) {
        tokio::task::block_in_place(|| self.broker.broker(verb, 1));
    }

    async fn until_reserved(&self, text: &str) -> String {
        until("the key is reserved", secs(10), || async {
            let (state, id) = key(&self.stack, text).await?;
            assert_eq!(state, "reserved");
            Some(id)
        })
        .await
    }
}

/// The broker dies, so that the record stays in the gateway's queue; then the gateway dies with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_between_key_and_produce_leaves_a_key_that_the_next_one_goes_on_with() {
    let half = Half::new().await;
    let stack = &half.stack;
    let a = stack.gateway("gateway-a").await;
    let first = Client::new(a.url());
    half.broker("kill").await;
    let lost = tokio::spawn(async move {
        let request = first.submit("echo-async", r#"{"n":1}"#);
        request.header("idempotency-key", "order-1").send().await
    });
    let id = half.until_reserved("order-1").await;
    a.kill();
    assert!(
        lost.await.unwrap().is_err(),
        "the client was told something"
    );
    half.broker("start").await;
    let (b, _worker) = tokio::join!(stack.gateway("gateway-b"), stack.worker("worker"));
    assert_eq!(
        records(stack).await,
        Vec::<String>::new(),
        "nothing was written"
    );

    let client = Client::new(b.url());
    let begun = Instant::now();
    let answer = submit(&client, "echo-async", "order-1", r#"{"n":1}"#, 20).await;
    assert_eq!(
        (answer.status(), job_id(&answer)),
        (StatusCode::OK, id.clone())
    );
    assert_eq!(answer.text().await.unwrap(), r#"{"n":1}"#);
    println!(
        "idempotency: killed between key and produce, repeated: the same job, run after {:.1?}",
        begun.elapsed()
    );
    assert_eq!(records(stack).await, std::slice::from_ref(&id));
    assert_eq!(key(stack, "order-1").await, Some(("produced".into(), id)));
    assert_eq!(rows::assert_agree(stack).await, 1);
}

/// The record is written while the store is cut off, so that nobody can say so; then the gateway dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_between_produce_and_insert_leaves_one_job() {
    let half = Half::new().await;
    let stack = &half.stack;
    let a = stack.start("gateway", "gateway-a", &[&half.through()]);
    let a = stack.ready(a).await;
    let first = Client::new(a.url());
    half.broker("pause").await;
    let lost = tokio::spawn(async move {
        let request = first.submit("echo-async", r#"{"n":2}"#);
        request.header("idempotency-key", "order-2").send().await
    });
    let id = half.until_reserved("order-2").await;
    half.proxy.cut();
    half.broker("resume").await;
    until("the record is written", secs(20), || async {
        (records(stack).await == std::slice::from_ref(&id)).then_some(())
    })
    .await;
    a.kill();
    // It was cut off, or told that its job is accepted; never that it is not.
    if let Ok(answer) = lost.await.unwrap() {
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    assert_eq!(
        key(stack, "order-2").await,
        Some(("reserved".into(), id.clone()))
    );

    let (b, _worker) = tokio::join!(stack.gateway("gateway-b"), stack.worker("worker"));
    let client = Client::new(b.url());
    let begun = Instant::now();
    let answers =
        join_all((0..5).map(|_| submit(&client, "echo-async", "order-2", r#"{"n":2}"#, 25)));
    for answer in answers.await {
        assert_eq!(
            (answer.status(), job_id(&answer)),
            (StatusCode::OK, id.clone())
        );
    }
    let took: Duration = begun.elapsed();
    let written = records(stack).await;
    println!(
        "idempotency: killed between produce and insert, repeated 5 times: the same job after {took:.1?}, {} record(s)",
        written.len()
    );
    assert!(
        written.iter().all(|of| *of == id) && written.len() <= 2,
        "{written:?}"
    );
    assert_eq!(rows::assert_agree(stack).await, 1);
}
