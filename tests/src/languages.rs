//! The workers of `examples/workers`, started as the README there says, and what their one small job should answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tidegate_contract::{JobEvent, RecordHeaders};

use crate::records::{codec, dead_letters, job};
use crate::stack::{Servers, root, variable};
use crate::unreadable::{Bad, assert_failed, unreadable, write};
use crate::{Client, Process, Stack, kafka, rows, secs, until};

/// The http workers, and the URLs that the example's job types have for them.
pub const HTTP: [(&str, &str); 3] = [
    ("python", "http://127.0.0.1:8101/"),
    ("node", "http://127.0.0.1:8102/"),
    ("go", "http://127.0.0.1:8103/"),
];

fn folder() -> PathBuf {
    root().join("examples/workers")
}

/// Starts an http worker on a free port.
pub fn http_worker(stack: &Stack, language: &str) -> Process {
    let mut command = match language {
        "python" => {
            let mut python = Command::new(variable("TIDEGATE_TEST_PYTHON"));
            python.arg(folder().join("http-python/worker.py"));
            python
        }
        "node" => {
            let mut node = Command::new(variable("TIDEGATE_TEST_NODE"));
            node.arg(folder().join("http-node/worker.js"));
            node
        }
        // Built from the example by `scripts/test`.
        "go" => Command::new(variable("TIDEGATE_TEST_GO_WORKER")),
        other => panic!("no worker in {other}"),
    };
    let name = format!("http-{language}");
    Process::start(&name, stack.dir.path(), command.env("PORT", "0"))
}

/// An installation with the example's job types, as an operator would take them over: with the URLs of `workers`,
/// whose names are languages, and the script where it lies. `more` are further tables.
pub async fn stack(more: &str) -> Stack {
    let mut stack = Stack::bare(Servers::shared()).await;
    stack.set(r#"worker.pools=["default","text"]"#);
    stack.write_types(&format!("{}\n{more}", types(&[])));
    stack.set_up();
    stack
}

/// The example's job types, with the URLs of these http workers.
pub fn types(workers: &[(&str, &Process)]) -> String {
    let mut types = std::fs::read_to_string(folder().join("types.toml")).expect("the example");
    let script = "examples/workers/command/text-stats.sh";
    let absolute = root().join(script).display().to_string();
    assert!(types.contains(script), "{types}");
    types = types.replace(script, &absolute);
    for (language, url) in HTTP {
        assert!(types.contains(url), "{url} in {types}");
        if let Some((_, worker)) = workers.iter().find(|(name, _)| *name == language) {
            types = types.replace(url, &format!("{}/", worker.url()));
        }
    }
    types
}

/// Starts a Kafka worker in Python for the pool `text`: the example's, or a script that does something with it.
pub fn kafka_worker(stack: &Stack, name: &str, script: &str) -> Process {
    let mut command = Command::new(variable("TIDEGATE_TEST_PYTHON"));
    command
        .arg(root().join(script))
        .env("KAFKA_BROKERS", &stack.servers.kafka)
        .env("REGISTRY_URL", &stack.servers.registry)
        .env("TIDEGATE_PREFIX", &stack.prefix)
        .env("POOL", "text")
        // As the stack configures them.
        .env("SHORTEST_DELAY", "200ms")
        .env("PYTHONPATH", folder().join("python-kafka"))
        // Nothing is left in the checkout.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Process::start_until(name, stack.dir.path(), &mut command, " takes jobs")
}

/// The example's Kafka worker.
pub const KAFKA_WORKER: &str = "examples/workers/python-kafka/worker.py";

/// A text of its own for every number, some of it not ASCII.
pub fn text(number: usize) -> String {
    let lines = number % 7;
    let words = "wörter 漢字 and\ttabs ".repeat(number % 40);
    format!("number {number} {words}{}", "\nline".repeat(lines))
}

/// What every worker counts in a text, counted in another way than theirs.
pub fn stats(text: &str) -> Value {
    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
    let words = text.split_ascii_whitespace().count();
    json!({ "lines": lines, "words": words, "characters": text.chars().count() })
}

/// A submit of a text.
pub fn submit(client: &Client, job_type: &str, text: impl Into<reqwest::Body>) -> RequestBuilder {
    let url = format!("{}/v1/jobs/{job_type}", client.base);
    let request = client.http.post(url).body(text);
    request.header("content-type", "text/plain; charset=utf-8")
}

/// A submit of a text that waits.
pub fn ask(client: &Client, job_type: &str, text: impl Into<reqwest::Body>) -> RequestBuilder {
    submit(client, job_type, text).header("prefer", "wait=20")
}

/// Waits for the answer to a text: status and document.
pub async fn answer(client: &Client, job_type: &str, text: String) -> (u16, Value) {
    let answer = ask(client, job_type, text).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// Everything on the replies topic, in the order of its partitions.
pub async fn events(stack: &Stack) -> Vec<JobEvent> {
    let codec = codec(stack).await;
    let (bootstrap, topic) = (
        stack.servers.kafka.clone(),
        format!("{}replies", stack.prefix),
    );
    let read = tokio::task::spawn_blocking(move || kafka::read_all(&bootstrap, &topic));
    let mut events = Vec::new();
    for message in read.await.unwrap() {
        let value = rdkafka::Message::payload(&message).unwrap_or_default();
        events.extend(codec.decode_event(value).await.ok());
    }
    events
}

/// Whether a Kafka worker in Python says so.
pub fn is_python(event: &JobEvent) -> bool {
    event.source.starts_with("python-")
}

/// Every row says what the first end in the log does.
pub async fn agree(stack: &Stack, events: &[JobEvent]) {
    let rows = rows::rows(stack).await;
    let mut first = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind.is_terminal()) {
        first.entry(event.job_id.as_uuid()).or_insert(event);
    }
    for (id, end) in first {
        let row = &rows[&id];
        let body = end.outcome.as_ref().map(|outcome| outcome.body.to_vec());
        assert_eq!(
            (row.ended_at, &row.outcome_body),
            (Some(end.at), &body),
            "{row:?} {end:?}"
        );
    }
}

/// Records that are no jobs are kept, their jobs told to have failed, and the others go on.
pub async fn poison(stack: &Stack, client: &Client, kept: usize) {
    let (codec, topic) = (
        codec(stack).await,
        format!("{}jobs.text.normal", stack.prefix),
    );
    let fresh = || {
        let mut job = job("text-stats", 3);
        job.pool = "text".parse().unwrap();
        job
    };
    let good = codec.encode_job(&fresh()).unwrap();
    let mut bad: Vec<_> = unreadable(&good)
        .into_iter()
        .map(|(name, value)| {
            let job = fresh();
            let key = job.job_id.to_string().into();
            let (headers, ends) = (RecordHeaders::of_job(&job), Some(job.job_id));
            Bad {
                name,
                key,
                headers,
                value,
                ends,
            }
        })
        .collect();
    let mut nowhere = fresh();
    nowhere.reply_partition = 4711;
    bad.push(Bad {
        name: "reply partition that does not exist",
        key: nowhere.job_id.to_string().into(),
        headers: RecordHeaders::of_job(&nowhere),
        value: codec.encode_job(&nowhere).unwrap().to_vec(),
        ends: None,
    });
    let places = write(stack, &topic, &[0, 1], &bad).await;
    for record in &bad {
        if let Some(id) = record.ends {
            assert_failed(client, id, record.name).await;
        }
    }
    let letters = until("every record is a dead letter", secs(20), || async {
        let letters = dead_letters(stack).await;
        (letters.len() == kept + bad.len()).then_some(letters)
    })
    .await;
    for (record, place) in bad.iter().zip(&places) {
        let letter = letters
            .iter()
            .find(|letter| (letter.partition, letter.offset) == *place && letter.topic == topic);
        let letter = letter.expect(record.name);
        assert_eq!(
            letter.value.as_deref().unwrap_or_default(),
            record.value,
            "{}",
            record.name
        );
        assert!(letter.source.starts_with("python-"), "{letter:?}");
        println!("{}: {}", record.name, letter.message);
    }
}
