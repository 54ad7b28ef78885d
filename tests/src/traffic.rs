//! Clients that go on submitting while something breaks, and note what each of them was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{Client, secs, until_true};

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(40);

/// What came of one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// When it was sent, since the traffic began.
    pub at: Duration,
    pub took: Duration,
    /// It asked to wait.
    pub waits: bool,
    /// `None`: no whole answer came.
    pub status: Option<u16>,
    /// The code of the problem, the reason of a `202`, or why there is no answer.
    pub says: String,
    /// Nothing was sent, because no connection could be made.
    pub refused: bool,
    pub retry_after: bool,
    pub job: Option<String>,
}

/// The clients, until they are stopped.
pub struct Traffic {
    begun: Instant,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Answer>>>,
}

impl Traffic {
    /// So many clients that wait for an `echo`, and so many that do not wait for an `echo-async`.
    pub fn start(gateway: &Client, waiting: usize, not_waiting: usize, wait: u64) -> Self {
        Self::padded(gateway, waiting, not_waiting, wait, 0)
    }

    /// The same with so many bytes in each body.
    pub fn padded(
        gateway: &Client,
        waiting: usize,
        not_waiting: usize,
        wait: u64,
        padding: usize,
    ) -> Self {
        let (begun, stop, answers) = (Instant::now(), Arc::default(), Arc::default());
        let modes = [true]
            .repeat(waiting)
            .into_iter()
            .chain([false].repeat(not_waiting));
        let clients = modes.enumerate().map(|(number, waits)| {
            let client = One {
                number,
                gateway: gateway.clone(),
                wait: waits.then_some(wait),
                padding: "x".repeat(padding),
                begun,
                stop: Arc::clone(&stop),
                answers: Arc::clone(&answers),
            };
            tokio::spawn(client.run())
        });
        Self {
            clients: clients.collect(),
            begun,
            stop,
            answers,
        }
    }

    /// The time on the clock of its answers.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits for so many more answers.
    pub async fn until_more(&self, answers: usize) {
        let wanted = self.answers.load(Ordering::Relaxed) + answers;
        until_true(&format!("{answers} more answers"), secs(60), || async {
            self.answers.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    /// Lets every client finish its request.
    pub async fn stop(self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in self.clients {
            answers.extend(client.await.expect("a client"));
        }
        answers
    }
}

struct One {
    number: usize,
    gateway: Client,
    wait: Option<u64>,
    padding: String,
    begun: Instant,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl One {
    async fn run(self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            answers.push(self.one(answers.len()).await);
            self.answers.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        answers
    }

    async fn one(&self, count: usize) -> Answer {
        let body = serde_json::json!([self.number, count, self.padding]).to_string();
        let request = match self.wait {
            Some(seconds) => self.gateway.wait("echo", body.clone(), seconds),
            None => self.gateway.submit("echo-async", body.clone()),
        };
        let at = self.begun.elapsed();
        let mut answer = Answer {
            at,
            took: Duration::ZERO,
            waits: self.wait.is_some(),
            status: None,
            says: String::new(),
            refused: false,
            retry_after: false,
            job: None,
        };
        match request.send().await {
            Ok(response) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                answer.retry_after = headers.contains_key("retry-after");
                let id = headers.get("tidegate-job-id");
                answer.job = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
                match response.text().await {
                    Ok(text) => {
                        answer.status = Some(status);
                        if status == 200 {
                            assert_eq!(text, body, "the answer to another request");
                        }
                        let document: Value = serde_json::from_str(&text).unwrap_or_default();
                        let said = document["code"].as_str().or(document["reason"].as_str());
                        answer.says = said.unwrap_or_default().to_owned();
                    }
                    Err(error) => answer.says = format!("broke off: {error:?}"),
                }
            }
            Err(error) => {
                answer.refused = error.is_connect();
                answer.says = format!("{error:?}");
            }
        }
        answer.took = self.begun.elapsed() - at;
        answer
    }
}

/// How many answers of each sort, and the slowest of each.
pub fn summary(answers: &[Answer]) -> String {
    let mut sorts: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
    for answer in answers {
        let mode = if answer.waits { "wait" } else { "async" };
        let status = answer
            .status
            .map_or("none".to_owned(), |code| code.to_string());
        let sort = format!("{mode} {status} {}", answer.says);
        let (count, slowest) = sorts.entry(sort).or_default();
        *count += 1;
        *slowest = (*slowest).max(answer.took);
    }
    let lines = sorts
        .iter()
        .map(|(sort, (count, slowest))| format!("  {count} x {sort}, slowest {slowest:.1?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The ids of the jobs that were accepted: a `200` or a `202` was given.
pub fn accepted(answers: &[Answer]) -> Vec<String> {
    let told = answers
        .iter()
        .filter(|answer| matches!(answer.status, Some(200 | 202)));
    told.map(|answer| answer.job.clone().expect("an id"))
        .collect()
}
