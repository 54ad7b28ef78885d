//! `tidegate doctor` on a broker with ACLs: what each role may not do, with the command that allows it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use tidegate_tests::doctor::{as_json, doctor};
use tidegate_tests::{Broker, Client, Servers, Stack, secs, until};

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
