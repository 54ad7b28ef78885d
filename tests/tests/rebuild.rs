//! `tidegate store rebuild`: a lost store, made again from Kafka, row by row the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::Value;
use sqlx::PgPool;
use tidegate_contract::{EventKind, JobId, JobMessage, RecordHeaders, Secret, headers};
use tidegate_store::{Position, Store, StoreSettings};
use tidegate_tests::records::{codec, job, texts};
use tidegate_tests::topics::Admin;
use tidegate_tests::unreadable::completed;
use tidegate_tests::{Client, Servers, Stack, kafka, rows, secs, until, until_true};

const REPORT: &str = r#"{"reportType":"sales","dateRange":"2025-01"}"#;

/// All rows of a table of a PostgreSQL store, with all columns, as JSON texts.
async fn table(url: &str, query: &'static str) -> Vec<String> {
    let pool = PgPool::connect(url).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&pool).await.unwrap();
    pool.close().await;
    rows
}

const JOBS: &str = "SELECT to_jsonb(jobs)::text FROM jobs ORDER BY id";
const POSITIONS: &str = "SELECT to_jsonb(projections)::text FROM projections ORDER BY partition";
const TOMBSTONES: &str = "SELECT to_jsonb(tombstones)::text FROM tombstones ORDER BY id";

/// Runs the rebuild into a store, and gives its figures.
fn rebuild(stack: &mut Stack, url: &str) -> Value {
    stack.set(&format!("store.url={url}"));
    let said = stack.succeed(&["store", "rebuild", "--json"]);
    serde_json::from_str(&said).unwrap()
}

async fn open(url: &str) -> std::sync::Arc<dyn Store> {
    let settings = StoreSettings {
        url: Secret::new(url),
        ..StoreSettings::default()
    };
    let store = tidegate_store::open(&settings).unwrap();
    store.prepare().await.unwrap();
    store
}

async fn positions(store: &dyn Store) -> BTreeMap<i32, Option<Position>> {
    let mut found = BTreeMap::new();
    for partition in 0..8 {
        found.insert(partition, store.position(partition).await.unwrap());
    }
    found
}

/// Everything that makes rows: waits, asynchronous jobs, failures, progress, a wait that runs out.
async fn load(clients: &[Client]) {
    let jobs = (0..60).map(|number| {
        let client = &clients[number % clients.len()];
        async move {
            let body = format!(r#"{{"number":{number}}}"#);
            let (job_type, wait) = match number % 6 {
                0 | 1 => ("echo", Some(10)),
                2 | 3 => ("echo-async", None),
                4 => ("fail", Some(10)),
                _ if number % 12 == 5 => ("slow-echo", Some(1)),
                _ => ("fail", None),
            };
            match wait {
                Some(seconds) => {
                    let answer = client.wait(job_type, body, seconds).send().await.unwrap();
                    let status = answer.status().as_u16();
                    assert!([200, 202, 502].contains(&status), "{job_type}: {status}");
                }
                None => drop(client.accept(job_type, body).await),
            }
        }
    });
    join_all(jobs).await;
    for prefer in ["wait=20", "respond-async"] {
        let report = clients[0]
            .submit("process-report", REPORT)
            .header("prefer", prefer);
        assert!(report.send().await.unwrap().status().is_success());
    }
}

/// Waits until what lies on the replies topic is in the store.
async fn until_projected(stack: &Stack) {
    let (admin, topic) = (
        Admin::of(&stack.servers.kafka),
        format!("{}replies", stack.prefix),
    );
    until_true("all replies are projected", secs(30), || async {
        let positions = rows::positions(stack).await;
        let ends = admin.ends(&topic).into_iter().zip(0..);
        let all = ends.map(|((_, high), partition)| positions.get(&partition) == Some(&high));
        all.collect::<Vec<_>>().iter().all(|there| *there)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_store_has_the_same_rows() {
    let mut stack = Stack::new().await;
    let (one, two, worker) = tokio::join!(
        stack.gateway("one"),
        stack.gateway("two"),
        stack.worker("worker")
    );
    let clients = [Client::new(one.url()), Client::new(two.url())];
    load(&clients).await;
    until_true("every job has ended", secs(60), || async {
        let rows = rows::rows(&stack).await;
        rows.len() == 62 && rows.values().all(|row| row.is_ended())
    })
    .await;
    assert!(worker.stop(secs(30)).await.success());

    // Jobs that nobody runs: Kafka has them, and no event of theirs.
    let mut pending = Vec::new();
    for number in 0..8 {
        pending.push(
            clients[number % 2]
                .accept("echo-async", number.to_string())
                .await
                .id,
        );
    }
    let answer = clients[0].wait("echo", "1", 1).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    // One whose reply nobody can read: its gateway sets that aside and ends the job.
    let codec = codec(&stack).await;
    let topic = format!("{}replies", stack.prefix);
    let store = open(&stack.store).await;
    let unreadable: JobId = pending.pop().unwrap().parse().unwrap();
    let row = store.job(unreadable).await.unwrap().row().unwrap();
    let told = completed(&JobMessage {
        job_id: unreadable,
        ..job("echo-async", row.reply_partition)
    });
    let marks = RecordHeaders::of_event(&told, row.reply_partition);
    let write = async |partition, key: String, value: Vec<u8>, marks: &RecordHeaders| {
        let marks = texts(marks);
        kafka::write(
            &stack.servers.kafka,
            &topic,
            Some(partition),
            key,
            &marks,
            &value,
        )
        .await
    };
    write(
        row.reply_partition,
        unreadable.to_string(),
        b"no Avro".to_vec(),
        &marks,
    )
    .await;
    let failed = clients[0]
        .until_status(&unreadable.to_string(), &["failed"], secs(20))
        .await;
    assert_eq!(failed["error"]["code"], "unreadable-record");
    // And one that ends a second time.
    let late = completed(&JobMessage {
        job_id: unreadable,
        ..job("echo-async", row.reply_partition)
    });
    assert_eq!(late.kind, EventKind::Completed);
    let value = codec.encode_event(&late).unwrap().to_vec();
    assert_eq!(
        marks.get(headers::JOB_ID),
        Some(unreadable.to_string().as_str())
    );
    write(row.reply_partition, unreadable.to_string(), value, &marks).await;

    until_projected(&stack).await;
    let (one, two) = tokio::join!(one.stop(secs(30)), two.stop(secs(30)));
    assert!(one.success() && two.success());
    let before = table(&stack.store, JOBS).await;
    assert_eq!(before.len(), 62 + 9);

    // Into another PostgreSQL database: every column of every row, and every position.
    let empty = Stack::bare(Servers::shared()).await;
    let figures = rebuild(&mut stack, &empty.store);
    println!("rebuild: {figures}");
    let after = table(&empty.store, JOBS).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
    for query in [POSITIONS, TOMBSTONES] {
        assert_eq!(
            table(&stack.store, query).await,
            table(&empty.store, query).await
        );
    }
    assert_eq!(figures["rows"]["pending"], 8, "{figures}");
    assert_eq!(
        (&figures["late"], &figures["unreadable"]),
        (&1.into(), &1.into()),
        "{figures}"
    );
    assert_eq!(
        figures["left"].as_array().map(Vec::len),
        Some(0),
        "{figures}"
    );

    // Into SQLite: the same again, read through the store.
    let url = format!("sqlite:{}", stack.dir.path().join("rebuilt.db").display());
    let figures = rebuild(&mut stack, &url);
    println!("rebuild: {figures}");
    let sqlite = open(&url).await;
    assert_eq!(sqlite.rows_by_status().await, store.rows_by_status().await);
    for id in rows::rows(&stack).await.into_keys() {
        let id = JobId::try_from(id).unwrap();
        assert_eq!(sqlite.job(id).await, store.job(id).await);
    }
    assert_eq!(positions(&*sqlite).await, positions(&*store).await);
    sqlite.close().await;

    // When the oldest events are gone, no job that had ended waits again, and those that wait still do.
    let admin = Admin::of(&stack.servers.kafka);
    for (partition, (_, high)) in (0..).zip(admin.ends(&topic)) {
        if high > 20 {
            admin.cut(&topic, partition, high / 2).await;
        }
    }
    let cut = format!("sqlite:{}", stack.dir.path().join("cut.db").display());
    let figures = rebuild(&mut stack, &cut);
    println!("rebuild: {figures}");
    assert!(figures["jobsPassedOver"].as_u64() > Some(10), "{figures}");
    assert_eq!(figures["rows"]["pending"], 8, "{figures}");
    let cut = open(&cut).await;
    for (id, row) in rows::rows(&stack).await {
        let found = cut.job(JobId::try_from(id).unwrap()).await.unwrap().row();
        match found {
            Some(found) => assert_eq!(found.status.as_str(), row.status, "{id}"),
            None => assert!(row.is_ended(), "{id}"),
        }
    }
    cut.close().await;
    store.close().await;
    stack.set(&format!("store.url={url}"));

    // Not twice into the same.
    let again = stack.run(&["store", "rebuild"]);
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        said.contains("the store is not empty: give a database of its own"),
        "{said}"
    );

    // The gateways go on where the rebuild has ended, and what was pending is run.
    stack.set(&format!("store.url={}", empty.store));
    let (gateway, worker) = tokio::join!(stack.gateway("again"), stack.worker("later"));
    let client = Client::new(gateway.url());
    for id in &pending {
        client.until_status(id, &["completed"], secs(30)).await;
    }
    until("a new job ends too", secs(20), || async {
        let answer = client.wait("echo", "[]", 10).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    look_inside(&stack, &client, &pending[0]).await;
    drop((gateway, worker));
}

/// The events of one job among many, found by the time and partition of its record.
async fn look_inside(stack: &Stack, client: &Client, id: &str) {
    let shown = stack.succeed(&["jobs", "show", id, "--url", &client.base, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["notes"].as_array().map(Vec::len), Some(0), "{shown}");
    let timeline = shown["timeline"].as_array().unwrap();
    let events: Vec<_> = timeline
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["submitted", "completed"], "{shown}");
    // Without a gateway it is looked for in all jobs topics, up to their ends.
    let away = stack.succeed(&["jobs", "show", id, "--url", "http://127.0.0.1:9", "--json"]);
    let away: Value = serde_json::from_str(&away).unwrap();
    assert_eq!(away["timeline"], shown["timeline"]);

    let tail = stack.succeed(&["topics", "tail", "replies", "--job", id]);
    let records: Vec<Value> = tail
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), 1, "{tail}");
    assert_eq!(records[0]["value"]["kind"], "completed");
    // Between them lies what nobody can decode, and it does not stop anything.
    let all = stack.succeed(&["topics", "tail", "replies"]);
    let errors = all
        .lines()
        .filter(|line| line.contains("\"$base64\":\"bm8gQXZybw==\""));
    assert_eq!(errors.count(), 1, "{all}");
    assert!(all.lines().count() > 40, "{all}");
}
