//! Topics that are not as they must be, and stores that do not belong to them: not ready, with the mend in a sentence.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use tidegate_tests::topics::Admin;
use tidegate_tests::{Broker, Client, Process, Servers, Stack, secs, until_true};

/// A gateway and a worker that are not ready yet.
struct Roles {
    gateway: Process,
    worker: Process,
}

impl Roles {
    fn of(stack: &Stack) -> Self {
        Self {
            gateway: stack.start("gateway", "gateway", &[]),
            worker: stack.start("worker", "worker", &[]),
        }
    }

    fn clients(&self) -> [Client; 2] {
        [
            Client::new(self.gateway.url()),
            Client::new(self.worker.url()),
        ]
    }

    /// Not ready for this reason, submits refused with it, and still there.
    async fn wait_because(&mut self, sentence: &str) {
        for client in self.clients() {
            let report = client.until_unready(sentence, secs(45)).await;
            let conditions = report["conditions"].as_array().unwrap();
            let topics = conditions.iter().find(|c| c["name"] == "topics").unwrap();
            println!("{}", topics["reason"]);
            assert!(
                topics["reason"].as_str().unwrap().contains(sentence),
                "{report}"
            );
        }
        let [client, _] = self.clients();
        let refused = client.wait("echo", "1", 20).send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let text = refused.text().await.unwrap();
        assert!(text.contains(sentence), "{text}");
        assert!(self.gateway.is_running() && self.worker.is_running());
    }

    /// Ready without a restart.
    async fn go_on(&self) {
        for client in self.clients() {
            until_true("ready by itself", secs(40), || client.is_ready()).await;
        }
        answered(&self.clients()[0]).await;
    }
}

async fn answered(client: &Client) {
    let answer = client.wait("echo", "[1]", 20).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "[1]");
}

async fn stack_without_topics() -> Stack {
    let stack = Stack::bare(Servers::shared()).await;
    stack.succeed(&["schemas", "register"]);
    stack
}

#[tokio::test]
async fn missing_topics_are_named_with_the_command_that_makes_them() {
    let stack = stack_without_topics().await;
    let mut roles = Roles::of(&stack);
    roles
        .wait_because("missing: run `tidegate topics create`")
        .await;
    stack.succeed(&["topics", "create"]);
    roles.go_on().await;
}

#[tokio::test]
async fn too_few_partitions_are_named_and_more_are_noticed() {
    let mut stack = stack_without_topics().await;
    stack.set("kafka.partitions.jobs=2");
    stack.succeed(&["topics", "create"]);
    stack.set("kafka.partitions.jobs=4");
    let mut roles = Roles::of(&stack);
    roles
        .wait_because("has 2 partitions and needs 4: add partitions")
        .await;
    let create = stack.run(&["topics", "create"]);
    println!("topics create: {}", String::from_utf8_lossy(&create.stderr));
    let admin = Admin::of(&stack.servers.kafka);
    for tier in ["high", "normal", "low"] {
        admin.grow(&format!("{}jobs.{tier}", stack.prefix), 4).await;
    }
    roles.go_on().await;
}

#[tokio::test]
async fn a_topic_that_forgets_too_early_is_named() {
    let stack = stack_without_topics().await;
    let (admin, topic) = (
        Admin::of(&stack.servers.kafka),
        format!("{}replies", stack.prefix),
    );
    admin
        .create(
            &topic,
            8,
            &[
                ("retention.ms", "3600000"),
                ("max.message.bytes", "2097152"),
            ],
        )
        .await;
    stack.succeed(&["topics", "create"]);
    let mut roles = Roles::of(&stack);
    roles.wait_because("raise its retention.ms").await;
    admin
        .configure(
            &topic,
            &[("retention.ms", "-1"), ("max.message.bytes", "1000000")],
        )
        .await;
    roles.wait_because("raise its max.message.bytes").await;
    admin
        .configure(
            &topic,
            &[("retention.ms", "-1"), ("max.message.bytes", "2097152")],
        )
        .await;
    roles.go_on().await;
    // What somebody changes later is noticed by those that run.
    let later = |retention| {
        [
            ("retention.ms", retention),
            ("max.message.bytes", "2097152"),
        ]
    };
    admin.configure(&topic, &later("3600000")).await;
    roles.wait_because("raise its retention.ms").await;
    admin.configure(&topic, &later("-1")).await;
    roles.go_on().await;
}

#[tokio::test]
async fn less_durability_than_asked_for_is_refused_and_less_that_was_asked_for_is_repeated() {
    let mut stack = Stack::new().await;
    stack.set("kafka.durability=replicated");
    let mut roles = Roles::of(&stack);
    roles
        .wait_because("has 1 of 3 replicas: add replicas, or set kafka.durability to single-broker")
        .await;
    drop(roles);
    stack.set("kafka.durability=single-broker");
    let roles = Roles::of(&stack);
    roles.go_on().await;
    for client in roles.clients() {
        let report = client.readiness().await;
        assert!(
            report["notes"].to_string().contains("single-broker"),
            "{report}"
        );
    }
}

/// A gateway and a worker have run so many jobs, and are gone.
async fn used(stack: &Stack, jobs: usize) {
    let gateway = stack.gateway("used-gateway").await;
    let worker = stack.worker("used-worker").await;
    let client = Client::new(gateway.url());
    for _ in 0..jobs {
        let job = client.accept("echo-async", "1").await;
        client.until_status(&job.id, &["completed"], secs(20)).await;
    }
    assert!(worker.stop(secs(20)).await.success());
    assert!(gateway.stop(secs(20)).await.success());
}

/// A gateway that must not touch this store, until it gets an empty one.
async fn refused_then_mended(stack: &mut Stack, sentences: &[&str]) {
    let mut gateway = stack.start("gateway", "refused", &[]);
    let client = Client::new(gateway.url());
    for sentence in sentences {
        client.until_unready(sentence, secs(45)).await;
    }
    println!("{}", client.readiness().await["conditions"][5]["reason"]);
    // Nor does it take anything once it has had the time to borrow a partition.
    let begun = std::time::Instant::now();
    while begun.elapsed() < secs(4) {
        for request in [
            client.submit("echo-async", "1"),
            client.wait("echo", "1", 1),
        ] {
            let refused = request.send().await.unwrap();
            let (status, text) = (refused.status(), refused.text().await.unwrap());
            assert_eq!(status, 503, "{text}");
            assert!(text.contains(sentences[0]), "{text}");
        }
    }
    assert!(gateway.is_running());
    drop(gateway);
    let empty = Stack::bare(stack.servers.clone()).await;
    stack.set(&format!("store.url={}", empty.store));
    let mended = stack.gateway("mended").await;
    let _worker = stack.worker("worker").await;
    answered(&Client::new(mended.url())).await;
}

#[tokio::test]
async fn a_recreated_topic_is_not_taken_for_the_one_that_the_store_knows() {
    let mut stack = Stack::new().await;
    used(&stack, 5).await;
    let admin = Admin::of(&stack.servers.kafka);
    admin.delete(&format!("{}replies", stack.prefix)).await;
    stack.succeed(&["topics", "create"]);
    refused_then_mended(
        &mut stack,
        &["the topic was recreated", "give the gateway an empty store"],
    )
    .await;
}

#[tokio::test]
async fn nor_is_one_that_has_grown_as_long_again() {
    let mut stack = stack_without_topics().await;
    stack.set("kafka.partitions.replies=1");
    stack.succeed(&["topics", "create"]);
    used(&stack, 2).await;
    let (admin, store) = (Admin::of(&stack.servers.kafka), stack.store.clone());
    admin.delete(&format!("{}replies", stack.prefix)).await;
    stack.succeed(&["topics", "create"]);
    // Another installation of the same name goes on for longer than the first.
    let other = Stack::bare(stack.servers.clone()).await;
    stack.set(&format!("store.url={}", other.store));
    used(&stack, 8).await;
    stack.set(&format!("store.url={store}"));
    let sentences = [
        "another record at offset 1",
        "the topic was recreated",
        "give the gateway an empty store",
    ];
    refused_then_mended(&mut stack, &sentences).await;
}

#[tokio::test]
async fn a_store_that_follows_another_cluster_is_refused() {
    let here = Stack::new().await;
    used(&here, 2).await;
    let broker = tokio::task::spawn_blocking(|| Broker::up(1, false))
        .await
        .unwrap();
    let servers = Servers {
        kafka: broker.bootstrap.clone(),
        ..Servers::shared()
    };
    let name = here.prefix.trim_end_matches('.');
    let mut there = Stack::with_store(servers, name, here.store.clone());
    there.set_up();
    refused_then_mended(
        &mut there,
        &["follows Kafka cluster", "store of this cluster"],
    )
    .await;
}
