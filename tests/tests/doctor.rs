//! `tidegate doctor` on installations that are well, and on broken ones: a line for each thing that is wrong, with its
//! mend, in time, and nothing written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use tidegate_tests::doctor::doctor;
use tidegate_tests::topics::Admin;
use tidegate_tests::{Broker, Client, Servers, Stack, secs, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_installation_is_told_so_and_left_alone() {
    let stack = Stack::new().await;
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let answer = client.wait("echo", "[1]", 20).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    let admin = Admin::of(&stack.servers.kafka);
    let look = || {
        let topics = admin.topics(&stack.prefix).into_iter();
        let ends = topics.map(|topic| (admin.ends(&topic), topic));
        let group = format!("{}gateway", stack.prefix);
        let committed = admin.committed(&group, &format!("{}replies", stack.prefix));
        (ends.collect::<Vec<_>>(), committed)
    };
    // The last commits of what has been read.
    until("the reply is committed", secs(20), || async {
        let (ends, committed) = look();
        let read: i64 = committed.iter().flatten().sum();
        let replies = ends
            .iter()
            .find(|(_, topic)| topic.ends_with("replies"))
            .unwrap();
        (read == replies.0.iter().map(|(_, next)| next).sum::<i64>()).then_some(())
    })
    .await;
    let before = look();
    let said = doctor(&stack, &["--role", gateway.url(), "--role", worker.url()]);
    assert_eq!((said.code, said.problems().len()), (0, 0), "{}", said.page);
    said.one(
        "ok",
        "broker",
        &["1 broker (127.0.0.1:", "Kafka 4.2 or later"],
    );
    said.one("warning", "broker", &["single-broker"]);
    said.one("ok", "topics", &["9 topics", "replies with 8 partitions"]);
    said.one(
        "ok",
        "registry",
        &["3 schemas registered: tidegate.v1.Job is "],
    );
    said.one("ok", "store", &["PostgreSQL", "tables at migration"]);
    said.one("ok", "notifier", &["nobody asks for callbacks or e-mails"]);
    said.one("ok", "clocks", &["store", gateway.url(), worker.url()]);
    said.one(
        "ok",
        "types",
        &["job types from the configuration, digest "],
    );
    let groups = said.of("ok", "groups");
    assert!(
        groups[0].starts_with("1 gateway and 8 partitions of replies"),
        "{groups:?}"
    );
    assert!(
        groups[1].starts_with("1 worker of pool default and 4 partitions"),
        "{groups:?}"
    );
    let rights = said.of("ok", "rights");
    assert!(
        rights.len() == 3
            && ["12 rights tried", "16 rights tried", "14 rights tried"]
                .iter()
                .zip(&rights)
                .all(|(count, line)| line.contains(count)),
        "{rights:?}"
    );
    let roles = said.of("ok", "roles");
    assert!(
        roles.len() == 2 && roles[0].contains("is ready, 0."),
        "{roles:?}"
    );
    // Rights are tried by what Kafka refuses for another reason.
    assert_eq!(look(), before, "nothing is written and nothing committed");
    let answer = client.wait("echo", "[2]", 20).send().await.unwrap();
    assert_eq!(answer.status(), 200, "and nothing joined");
    let rebalances = client.metric("tidegate_consumer_rebalances_total").await;
    println!("rebalances of the gateway: {rebalances}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_away_are_a_line_each_in_time() {
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set("kafka.brokers=127.0.0.1:1");
    stack.set("registry.url=http://127.0.0.1:1/apis/ccompat/v7");
    stack.set("store.url=postgres://nobody:secret@127.0.0.1:1/jobs");
    let said = doctor(&stack, &["--role", "http://127.0.0.1:1"]);
    assert_eq!(said.code, 1);
    said.one(
        "problem",
        "broker",
        &[
            "no broker answers at 127.0.0.1:1",
            "Connection refused",
            "kafka.brokers",
        ],
    );
    for check in ["topics", "groups", "rights"] {
        said.one("not checked", check, &["no broker answers"]);
    }
    said.one(
        "problem",
        "registry",
        &["127.0.0.1:1", "does not answer", "registry.url"],
    );
    said.one("problem", "store", &["it is away", "store.url"]);
    said.one(
        "problem",
        "roles",
        &["cannot reach http://127.0.0.1:1", "--role"],
    );
    said.one("not checked", "clocks", &["nobody told the time"]);
    assert!(!said.page.contains("secret"), "{}", said.page);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_on_servers_that_answer_is_named_with_the_command() {
    let mut stack = Stack::bare(Servers::shared()).await;
    let admin = Admin::of(&stack.servers.kafka);
    let replies = format!("{}replies", stack.prefix);
    let an_hour = [
        ("retention.ms", "3600000"),
        ("max.message.bytes", "1000000"),
    ];
    admin.create(&replies, 2, &an_hour).await;
    // A registry that has none of our schemas, and a database of another program.
    let broker = tokio::task::spawn_blocking(|| Broker::up(1, true));
    let other = broker.await.unwrap();
    stack.set(&format!("registry.url={}", other.registry));
    let pool = sqlx::PgPool::connect(&stack.store).await.unwrap();
    for statement in [
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, success BOOLEAN, checksum BYTEA)",
        "INSERT INTO _sqlx_migrations VALUES (1, true, 'other')",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let said = doctor(&stack, &[]);
    assert_eq!(said.code, 1);
    let topics = said.of("problem", "topics");
    let expected = [
        "jobs.high and 7 more are missing: run `tidegate topics create`",
        "replies has 2 partitions and needs 8: add partitions",
        "replies keeps records for 0.0 days and needs 14.0: raise its retention.ms",
        "replies takes records of up to 1000000 bytes and needs 2097152: raise its max.message.bytes",
    ];
    assert_eq!(topics.len(), expected.len(), "{topics:#?}");
    for (found, expected) in topics.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
    said.one(
        "problem",
        "registry",
        &["has no tidegate.v1.Job, ", "tidegate schemas register"],
    );
    said.one(
        "problem",
        "store",
        &["not made by this tidegate", "another database"],
    );
    said.one("not checked", "roles", &["none was named"]);
    // Servers that take connections and say nothing.
    stack.set(&format!("kafka.brokers={}", other.bootstrap));
    tokio::task::block_in_place(|| {
        other.broker("pause", 1);
        other.registry("pause");
    });
    let said = doctor(&stack, &[]);
    said.one("problem", "broker", &["no broker answers at"]);
    said.one("problem", "registry", &["does not answer"]);
    tokio::task::block_in_place(|| {
        other.broker("resume", 1);
        other.registry("resume");
    });

    let only = doctor(&stack, &["--only", "worker"]);
    assert!(
        only.of("problem", "store").is_empty(),
        "workers have no store"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_of_job_types_and_a_broken_file_of_them_are_told() {
    const ECHO: &str = "[types.echo]\nhandler = { kind = \"echo\" }\n";
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set_up();
    stack.write_types("");
    let file = stack.dir.path().join("shared.toml");
    std::fs::write(&file, ECHO).unwrap();
    stack.set(&format!("types_file={}", file.display()));
    let gateway = stack.gateway("gateway").await;
    let other = stack.dir.path().join("other.toml");
    std::fs::write(&other, format!("{ECHO}wait = \"3s\"\n")).unwrap();
    let setting = format!("types_file={}", other.display());
    let worker = stack.start("worker", "worker", &[&setting]);
    let worker = stack.ready(worker).await;

    let roles = ["--role", gateway.url(), "--role", worker.url()];
    let said = doctor(&stack, &roles);
    assert_eq!(said.problems(), ["roles"], "{}", said.page);
    said.one("ok", "roles", &[gateway.url()]);
    said.one(
        "problem",
        "roles",
        &[worker.url(), "has job types of digest", "the same file"],
    );

    // The file of the gateway breaks: it keeps its types, and says so; here, there are none to compare with.
    std::fs::write(
        &file,
        format!("{ECHO}[types.new]\nhandler = {{ kind = \"eco\" }}\n"),
    )
    .unwrap();
    let client = Client::new(gateway.url());
    until("the gateway has noticed", secs(20), || async {
        let report = client.readiness().await;
        report["types"]["error"].is_string().then_some(())
    })
    .await;
    let said = doctor(&stack, &roles);
    said.one(
        "problem",
        "types",
        &[
            "shared.toml: line 4, column 13: types.new.handler.kind",
            "mend it",
        ],
    );
    let problems = said.of("problem", "roles");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].contains(gateway.url()) && problems[0].contains("holds on to the job types of")
    );
    assert!(problems[0].contains("line 4, column 13"), "{problems:#?}");
    assert!(problems[1].contains(worker.url()) && problems[1].contains(gateway.url()));
    said.one("ok", "store", &["PostgreSQL"]);

    // What is wrong elsewhere in the configuration is wrong usage, as everywhere.
    let output = stack.run(&["doctor", "--set", "kafka.brokrs=x"]);
    assert_eq!(output.status.code(), Some(2));
}
