//! `tidegate doctor` on installations that are well, and on broken ones: a line for each thing that is wrong, with its
//! mend, in time, and nothing written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::mailbox::Mailbox;
use tidegate_tests::receiver::Receiver;
use tidegate_tests::topics::Admin;
use tidegate_tests::{Broker, Client, Servers, Stack, secs, until};

/// Longest that an operator waits.
const LIMIT: Duration = Duration::from_secs(10);

/// What the doctor said.
struct Said {
    code: i32,
    object: Value,
    page: String,
}

impl Said {
    /// The sentences of one verdict on one subject, each with its mend.
    fn of(&self, verdict: &str, check: &str) -> Vec<String> {
        let findings = self.object["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|f| f["verdict"] == verdict && f["check"] == check);
        findings
            .map(|finding| {
                let says = finding["says"].as_str().unwrap();
                format!("{says}: {}", finding["mend"].as_str().unwrap_or("-"))
            })
            .collect()
    }

    /// Exactly one sentence of that verdict on that subject, which has these words in it.
    fn one(&self, verdict: &str, check: &str, words: &[&str]) {
        let found = self.of(verdict, check);
        let [only] = found.as_slice() else {
            panic!("{verdict} {check}: {found:#?}\n{}", self.page);
        };
        for word in words {
            assert!(only.contains(word), "`{word}` in `{only}`\n{}", self.page);
        }
    }

    fn problems(&self) -> Vec<&str> {
        let findings = self.object["findings"].as_array().unwrap().iter();
        let problems = findings.filter(|finding| finding["verdict"] == "problem");
        problems.map(|p| p["check"].as_str().unwrap()).collect()
    }
}

/// Runs it: in time, with nothing on standard error.
fn run(stack: &Stack, arguments: &[&str], more: &[&str]) -> (i32, String) {
    let begun = Instant::now();
    // Only roles that are named: others may listen on this machine.
    let mut command = stack.command(&["doctor"]);
    command.args(["--set", "gateway.listen=127.0.0.1:0"]);
    command.args(["--set", "worker.listen=127.0.0.1:0"]);
    command.args(["--set", "notifier.listen=127.0.0.1:0"]);
    let output = command.args(arguments).args(more).output().unwrap();
    let took = begun.elapsed();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "", "nothing but the page");
    assert!(took < LIMIT, "{took:?}");
    let (code, page) = (output.status.code(), output.stdout);
    let (code, page) = (code.unwrap(), String::from_utf8(page).unwrap());
    println!(
        "doctor: code {code} after {:.1} s\n{page}",
        took.as_secs_f64()
    );
    (code, page)
}

/// What it says as JSON.
fn as_json(stack: &Stack, arguments: &[&str]) -> Said {
    let (code, page) = run(stack, arguments, &["--json"]);
    let object: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(object["ok"], code == 0);
    Said { code, object, page }
}

/// What it says as a table and as JSON, which is the same.
fn doctor(stack: &Stack, arguments: &[&str]) -> Said {
    let (code, page) = run(stack, arguments, &[]);
    let said = as_json(stack, arguments);
    assert_eq!(code, said.code);
    let findings = said.object["findings"].as_array().unwrap().len();
    // A head, a line each, an empty one, the sum.
    assert_eq!(page.lines().count(), findings + 3, "one line each");
    Said { page, ..said }
}

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

/// The settings of a login on a broker that asks for one.
fn login(stack: &mut Stack, name: &str, password: &str) {
    for (key, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", name),
        ("sasl.password", password),
    ] {
        stack.set(&format!("kafka.librdkafka.\"{key}\"={value}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_a_login_are_learnt_from_kafkas_own_authorizer() {
    let broker = tokio::task::spawn_blocking(Broker::up_with_acls);
    let broker = broker.await.unwrap();
    let servers = Servers {
        kafka: broker.bootstrap.clone(),
        ..Servers::shared()
    };
    let mut stack = Stack::bare(servers).await;
    let prefix = stack.prefix.clone();
    login(&mut stack, "admin", "admin-secret");
    stack.set_up();
    let said = doctor(&stack, &[]);
    assert_eq!(said.code, 0, "{}", said.page);

    // A wrong password.
    login(&mut stack, "gateway", "guessed");
    let said = doctor(&stack, &[]);
    said.one(
        "problem",
        "broker",
        &[
            "does not take the login",
            "Authentication failed",
            "sasl.password",
        ],
    );
    said.one("not checked", "rights", &["does not take the login"]);
    assert!(!said.page.contains("guessed"), "{}", said.page);

    // One that may do nothing at all sees nothing.
    login(&mut stack, "gateway", "gateway-secret");
    let said = doctor(&stack, &["--only", "gateway"]);
    said.one("ok", "broker", &["1 broker"]);
    said.one("not checked", "topics", &["this login cannot see 9 topics"]);
    said.one(
        "problem",
        "rights",
        &["a gateway", "may not read", "write to", "nor join"],
    );

    // A read-only one.
    let allow = |login: &str, operation: &str, kinds: &[&str]| {
        let principal = format!("User:{login}");
        let mut arguments = vec!["--add", "--allow-principal", &principal];
        arguments.extend([
            "--operation",
            operation,
            "--resource-pattern-type",
            "prefixed",
        ]);
        arguments.extend(kinds.iter().flat_map(|kind| [*kind, &prefix]));
        broker.acls(&arguments);
    };
    allow("reader", "Read", &["--topic", "--group"]);
    login(&mut stack, "reader", "reader-secret");
    let said = until("the ACLs are in force", secs(20), || async {
        let said = as_json(&stack, &[]);
        let problems = said.of("problem", "rights");
        let may = |problem: &String| !problem.contains("may not read") && !problem.contains("join");
        problems.iter().all(may).then_some(said)
    })
    .await;
    assert_eq!(said.code, 1);
    let problems = said.of("problem", "rights");
    assert_eq!(problems.len(), 3, "every role: {problems:#?}");
    for problem in &problems {
        for topic in ["dead-letters", "delay.1s", "jobs.high"] {
            assert!(problem.contains(&format!("{prefix}{topic}")), "{problem}");
        }
        assert!(problem.contains("may not write to"), "{problem}");
        assert!(problem.contains("see the settings of"), "{problem}");
    }
    said.one("not checked", "topics", &["settings"]);

    // One that may only write.
    allow("worker", "Write", &["--topic"]);
    login(&mut stack, "worker", "worker-secret");
    let said = until("the ACL is in force", secs(20), || async {
        let said = as_json(&stack, &["--only", "worker"]);
        let problems = said.of("problem", "rights");
        (!problems[0].contains("write to")).then_some(said)
    });
    let may_not = format!("may not read {prefix}control, {prefix}jobs.high, ");
    said.await.one(
        "problem",
        "rights",
        &[&may_not, "nor join", "--operation Read --"],
    );

    // As the mend says: then it may.
    login(&mut stack, "reader", "reader-secret");
    let mend = problems[0].split(": kafka-acls ").nth(1).unwrap();
    println!("as it is told: kafka-acls {mend}");
    broker.acls(&mend.split_whitespace().collect::<Vec<_>>());
    let said = until("the ACLs are in force", secs(20), || async {
        let said = as_json(&stack, &[]);
        (said.code == 0).then_some(said)
    })
    .await;
    assert_eq!(said.of("ok", "rights").len(), 3, "{}", said.page);
    // And so says Kafka: the roles themselves get ready with it.
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let answer = Client::new(gateway.url())
        .wait("echo", "[1]", 20)
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    drop((gateway, worker));
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

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_nobody_sends_need_a_notifier() {
    let mut stack = Stack::new().await;
    stack.call_back();
    let receiver = Receiver::start();
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());
    let answer = client.wait("echo", "[1]", 20);
    let url = format!("{}/hook", receiver.url);
    let answer = answer.header("tidegate-callback-url", url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let pool = sqlx::PgPool::connect(&stack.store).await.unwrap();
    // As if it had waited for two minutes.
    until("the callback is made", secs(20), || async {
        let late = "UPDATE follow_ups SET due_at = due_at - 120000";
        let late = sqlx::query(late).execute(&pool).await.unwrap();
        (late.rows_affected() == 1).then_some(())
    })
    .await;
    pool.close().await;
    let only = ["--only", "notifier"];
    let said = doctor(&stack, &only);
    assert_eq!(said.problems(), ["notifier"], "{}", said.page);
    said.one(
        "problem",
        "notifier",
        &[
            "1 callback waiting, the oldest due for 2 min",
            "no notifier takes them",
            "start `tidegate notifier`",
        ],
    );
    let findings = said.object["findings"].as_array().unwrap().iter();
    let checks: Vec<_> = findings.map(|finding| &finding["check"]).collect();
    let none_of_kafka = ["store", "notifier", "clocks", "types", "roles"];
    assert_eq!(checks, none_of_kafka);
    said.one("ok", "store", &["PostgreSQL"]);

    let notifier = stack.notifier("notifier").await;
    let said = until("it is sent", secs(20), || async {
        let said = as_json(&stack, &["--only", "notifier", "--role", notifier.url()]);
        (said.code == 0).then_some(said)
    })
    .await;
    let well = ["callbacks have keys to sign with", "0 callbacks waiting"];
    said.one("ok", "notifier", &well);
    said.one("ok", "roles", &[notifier.url(), "is ready"]);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_notifier_cannot_send_with_is_named() {
    let mut stack = Stack::new().await;
    stack.write_types(
        "[types.report]\nhandler = { kind = \"echo\" }\nemail = { to = [\"ops@example.com\"] }\n",
    );
    let only = ["--only", "notifier"];
    let lacking = ["type report", "notifier.email.host"];
    let before = "the store has not the tables";
    let said = doctor(&stack, &only);
    assert_eq!(said.code, 0);
    said.one("warning", "notifier", &lacking);
    said.one("not checked", "notifier", &["e-mails that wait", before]);
    drop(stack.gateway("gateway").await);

    let mailbox = Mailbox::start().await;
    for setting in [
        "notifier.email.host=127.0.0.1",
        &format!("notifier.email.port={}", mailbox.port),
        "notifier.email.security=none",
        "notifier.email.from=jobs@example.org",
        "callbacks.keys=[\"whsec_short\"]",
    ] {
        stack.set(setting);
    }
    let said = doctor(&stack, &only);
    let keys = ["callbacks.keys: ", "openssl rand -base64 32"];
    said.one("problem", "notifier", &keys);
    let server = format!("mail server 127.0.0.1:{} answers", mailbox.port);
    said.one("ok", "notifier", &[&server, "0 e-mails waiting"]);
    assert!(!said.page.contains("whsec_short"), "{}", said.page);
    assert!(mailbox.mails().is_empty());

    stack.set("callbacks.keys=[]");
    stack.set("notifier.email.port=1");
    let said = doctor(&stack, &only);
    let away = ["mail server 127.0.0.1:1", "refused", "notifier.email"];
    said.one("problem", "notifier", &away);
    // A server that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    stack.set(&format!("notifier.email.port={port}"));
    let said = doctor(&stack, &only);
    said.one("problem", "notifier", &["no answer within 4s"]);
}
