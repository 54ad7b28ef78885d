//! Workers in other languages: over HTTP, as a program, and as Kafka clients written from `docs/wire-contract.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::future::join_all;
use serde_json::Value;
use tidegate_contract::{EventKind, JobEvent, now_millis};
use tidegate_tests::languages::{
    HTTP, KAFKA_WORKER, agree, answer, ask, events, http_worker, is_python, kafka_worker, poison,
    stack, stats, submit, text, types,
};
use tidegate_tests::records::dead_letters;
use tidegate_tests::topics::Admin;
use tidegate_tests::unreadable::MARK;
use tidegate_tests::{Client, Process, http, kafka, rows, secs, until, until_true};

#[tokio::test]
async fn http_workers_and_a_shell_script_give_the_same_answers() {
    let stack = stack("").await;
    let workers = HTTP.map(|(language, _)| (language, http_worker(&stack, language)));
    let named: Vec<_> = workers
        .iter()
        .map(|(name, worker)| (*name, worker))
        .collect();
    stack.write_types(&types(&named));
    let gateway = stack.gateway("gateway").await;
    let worker = stack.worker("worker").await;
    let client = Client::new(gateway.url());

    for job_type in ["python", "node", "go", "shell"].map(|name| format!("text-stats-{name}")) {
        let begun = Instant::now();
        let answers = (0..60).map(|number| {
            let (client, job_type) = (&client, &job_type);
            async move { (number, answer(client, job_type, text(number)).await) }
        });
        for (number, answer) in join_all(answers).await {
            let text = text(number);
            assert_eq!(answer, (200, stats(&text)), "{job_type}: {text:?}");
        }
        // A job without a body is one too.
        assert_eq!(
            answer(&client, &job_type, String::new()).await,
            (200, stats(""))
        );
        let refused = ask(&client, &job_type, vec![b'a', 0xff])
            .send()
            .await
            .unwrap();
        let (status, refusal) = (
            refused.status().as_u16(),
            refused.json::<Value>().await.unwrap(),
        );
        match job_type.as_str() {
            // A program has no way to say that the client is at fault.
            "text-stats-shell" => {
                assert_eq!(
                    (status, &refusal["code"]),
                    (502, &"command-exit".into()),
                    "{refusal}"
                );
                assert!(refusal.to_string().contains("not UTF-8"), "{refusal}");
            }
            _ => assert_eq!(
                (status, &refusal["code"]),
                (422, &"not-text".into()),
                "{refusal}"
            ),
        }
        println!("{job_type}: 62 jobs in {:.1?}", begun.elapsed());
    }
    assert!(worker.stop(secs(20)).await.success());
    for (language, worker) in workers {
        assert!(
            worker.stop(secs(10)).await.success(),
            "{language} ends cleanly"
        );
    }
}

#[tokio::test]
async fn a_kafka_worker_in_python_does_its_part_of_a_thousand_jobs_beside_one_in_rust() {
    const JOBS: usize = 1_000;
    const CLIENTS: usize = 20;
    let stack = stack("").await;
    let http = http_worker(&stack, "python");
    stack.write_types(&types(&[("python", &http)]));
    let gateway = stack.gateway("gateway").await;
    let _rust = stack.worker("rust").await;
    let python = kafka_worker(&stack, "python", KAFKA_WORKER);
    let client = Client::new(gateway.url());
    // Both are members of the group once Python has ended a job.
    let mut asked = 0;
    until("Python has its share of the partitions", secs(40), || {
        let (client, stack, number) = (&client, &stack, asked);
        asked += 1;
        async move {
            answer(client, "text-stats", text(number)).await;
            events(stack).await.iter().any(is_python).then_some(())
        }
    })
    .await;
    // While partitions moved, a job may have run twice.
    let before: BTreeSet<_> = events(&stack)
        .await
        .iter()
        .map(|event| event.job_id)
        .collect();

    let begun = Instant::now();
    let clients = (0..CLIENTS).map(|first| {
        let client = &client;
        async move {
            for number in (first..JOBS).step_by(CLIENTS) {
                let text = text(number);
                assert_eq!(
                    answer(client, "text-stats", text.clone()).await,
                    (200, stats(&text))
                );
            }
        }
    });
    join_all(clients).await;
    let took = begun.elapsed();

    let mut ends: BTreeMap<_, Vec<JobEvent>> = BTreeMap::new();
    for event in events(&stack).await {
        if event.kind.is_terminal() && !before.contains(&event.job_id) {
            ends.entry(event.job_id.to_string())
                .or_default()
                .push(event);
        }
    }
    assert_eq!(ends.len(), JOBS);
    let mut by_python = 0;
    for (id, ends) in &ends {
        assert_eq!(ends.len(), 1, "{id}: {ends:?}");
        let end = &ends[0];
        assert_eq!((end.kind, end.attempt), (EventKind::Completed, 1), "{id}");
        assert!(end.job.trace_id.is_some(), "{end:?}");
        by_python += usize::from(is_python(end));
    }
    println!("{JOBS} jobs in {took:.1?}, {by_python} of them by Python");
    // Half of the partitions are its own; the keys decide.
    assert!(
        (JOBS / 10..JOBS * 9 / 10).contains(&by_python),
        "{by_python}"
    );
    rows::assert_agree(&stack).await;

    // Its share goes on with the other as soon as it is told to stop, and nothing is left uncommitted.
    assert!(python.stop(secs(10)).await.success());
    let (status, counted) = answer(&client, "text-stats", text(1)).await;
    assert_eq!((status, counted), (200, stats(&text(1))));
    let topic = format!("{}jobs.text.normal", stack.prefix);
    let group = format!("{}worker.text.normal", stack.prefix);
    let admin = Admin::of(&stack.servers.kafka);
    until_true("everything is committed", secs(10), || async {
        let ends: Vec<_> = admin
            .ends(&topic)
            .into_iter()
            .map(|(_, next)| Some(next))
            .collect();
        admin.committed(&group, &topic) == ends
    })
    .await;
}

/// A type that only Rust has.
const SHOUT: &str = "[types.shout]\npool = \"text\"\nhandler = { kind = \"echo\" }\n";

#[tokio::test]
async fn whatever_a_kafka_worker_in_python_does_the_status_of_its_job_stays_right() {
    let stack = stack(SHOUT).await;
    let http = http_worker(&stack, "python");
    stack.write_types(&format!("{}\n{SHOUT}", types(&[("python", &http)])));
    let gateway = stack.gateway("gateway").await;
    let _scheduler = stack.scheduler("scheduler").await;
    let client = Client::new(gateway.url());
    let start = |name| kafka_worker(&stack, name, "tests/workers/misbehaving.py");
    let first = start("first");
    // Told to stop over a job, it ends that job, and the next worker does not get it again.
    let napping = client.accept("text-stats", "nap").await;
    client
        .until_status(&napping.id, &["processing"], secs(30))
        .await;
    assert!(first.stop(secs(10)).await.success());
    let ended = client
        .until_status(&napping.id, &["completed"], secs(5))
        .await;
    assert_eq!(ended["result"], stats("nap"));
    let python = start("misbehaving");
    let fine = |body: &str| (200, stats(body));
    let good = "a good job";
    assert_eq!(answer(&client, "text-stats", good.into()).await, fine(good));

    // It tells an end twice: the first one counts.
    for body in ["twice", "contradict"] {
        assert_eq!(answer(&client, "text-stats", body.into()).await, fine(body));
    }
    // It writes bytes that nobody can read. What they were to say is lost, so a job that they name has failed, unless
    // an answer lies before that end.
    let (status, problem) = answer(&client, "text-stats", "garbage".into()).await;
    assert_eq!(
        (status, &problem["code"]),
        (502, &"unreadable-record".into()),
        "{problem}"
    );
    let body = "anonymous_garbage";
    assert_eq!(answer(&client, "text-stats", body.into()).await, fine(body));
    let (status, _) = answer(&client, "text-stats", "garbage_first".into()).await;
    assert!([200, 502].contains(&status), "{status}");
    for (body, code, retryable) in [
        ("fail", "handler-error", true),
        ("huge", "outcome-too-large", false),
    ] {
        let (status, problem) = answer(&client, "text-stats", body.into()).await;
        assert_eq!((status, &problem["code"]), (502, &code.into()), "{problem}");
        assert_eq!(problem["error"]["retryable"], retryable, "{problem}");
    }
    let kept = until("all three are among the dead letters", secs(10), || async {
        let kept = dead_letters(&stack).await;
        (kept.len() == 3).then_some(kept)
    })
    .await;
    assert!(
        kept.iter()
            .all(|letter| letter.value.as_deref() == Some(MARK)),
        "{kept:?}"
    );

    poison(&stack, &client, kept.len()).await;
    assert_eq!(answer(&client, "text-stats", good.into()).await, fine(good));
    late(&client, &python).await;

    // It is killed over a job, and has parked another that it does not know: the next worker ends both.
    let unknown = client.accept("shout", "\"hello\"").await;
    until_true("the job was parked", secs(20), || async {
        let topic = format!("{}delay.200ms", stack.prefix);
        let jobs = kafka::read_all(&stack.servers.kafka, &topic);
        jobs.iter()
            .any(|job| kafka::header(job, "parked").is_some())
    })
    .await;
    let hanging = client.accept("text-stats", "hang").await;
    client
        .until_status(&hanging.id, &["processing"], secs(30))
        .await;
    python.kill();
    let begun = Instant::now();
    let _rust = stack.worker("rust").await;
    let ended = client
        .until_status(&hanging.id, &["completed"], secs(40))
        .await;
    assert_eq!(
        (&ended["result"], &ended["attempt"]),
        (&stats("hang"), &1.into())
    );
    let ended = client
        .until_status(&unknown.id, &["completed"], secs(40))
        .await;
    assert_eq!(ended["result"], "hello");
    println!(
        "the next worker had ended both {:.1?} after the kill",
        begun.elapsed()
    );

    // What was said too late changed no row.
    let ends = events(&stack).await;
    let mut seen = BTreeSet::new();
    let again = ends
        .iter()
        .filter(|event| event.kind.is_terminal() && !seen.insert(event.job_id));
    assert!(
        again.count() >= 3,
        "twice, contradict and garbage_first have two ends each"
    );
    let naps = ends
        .iter()
        .filter(|event| event.job_id.to_string() == napping.id && event.kind == EventKind::Started);
    assert_eq!(naps.count(), 1, "run once");
    agree(&stack, &ends).await;
}

/// A job past its deadline is not begun.
async fn late(client: &Client, python: &Process) {
    python.pause();
    let request = submit(client, "text-stats", "late")
        .header("prefer", "respond-async")
        .header("tidegate-deadline", "300ms");
    let job = http::accepted(request.send().await.unwrap()).await;
    let accepted = now_millis();
    until_true("the deadline has passed", secs(5), || async {
        now_millis() > accepted + 300
    })
    .await;
    python.resume();
    let ended = client.until_status(&job.id, &["expired"], secs(20)).await;
    assert_eq!(ended["error"]["code"], "deadline-passed", "{ended}");
}
