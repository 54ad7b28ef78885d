//! Many waits at once, each with a body of its own that must come back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;

use crate::Client;

/// What came of a load.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: usize,
    /// Answered with the worker's answer to this very request.
    pub matched: usize,
    /// Answered with something else by a worker.
    pub misrouted: Vec<String>,
    /// Every other answer, or none: a `202`, a problem, a broken connection.
    pub missing: Vec<String>,
    /// Answered jobs: number of the gateway, id.
    pub jobs: Vec<(usize, String)>,
    pub slowest: Duration,
    pub took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} of {} answers matched, {} missing, {} misrouted, {seconds:.1} s ({:.0}/s), slowest {:.1} s",
            self.matched,
            self.asked,
            self.missing.len(),
            self.misrouted.len(),
            self.asked as f64 / seconds,
            self.slowest.as_secs_f64(),
        )
    }
}

impl Tally {
    /// Panics unless every request got its own answer.
    pub fn assert_whole(&self) {
        let some = |texts: &[String]| texts.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            self.misrouted.is_empty() && self.missing.is_empty(),
            "{self}\nmisrouted:\n{}\nmissing:\n{}",
            some(&self.misrouted),
            some(&self.missing)
        );
        assert_eq!(self.matched, self.asked);
    }
}

/// Waits on gateways. The types must answer with the body that they were given.
pub struct Load<'a> {
    /// Used in turn.
    pub gateways: &'a [Client],
    /// Requests that wait at once.
    pub concurrency: usize,
    /// At least this many jobs.
    pub jobs: usize,
    /// Set once it may end, if there is more to wait for than `jobs`.
    pub until: Option<&'a AtomicBool>,
    /// Set once `jobs` have been sent.
    pub sent: Option<&'a AtomicBool>,
    /// The type of the job of a number.
    pub job_type: fn(usize) -> &'static str,
    /// Between two requests of one client.
    pub pause: Duration,
}

impl Load<'_> {
    /// Runs it. Each of `concurrency` clients sends one request after the other.
    pub async fn run(&self) -> Tally {
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        let clients = (0..self.concurrency).map(|_| async {
            let mut tally = Tally::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let on = self.until.is_some_and(|done| !done.load(Ordering::Relaxed));
                if let (true, Some(sent)) = (number >= self.jobs, self.sent) {
                    sent.store(true, Ordering::Relaxed);
                }
                if number >= self.jobs && !on {
                    return tally;
                }
                self.one(number, &mut tally).await;
                tokio::time::sleep(self.pause).await;
            }
        });
        let mut sum = Tally::default();
        for tally in join_all(clients).await {
            sum.asked += tally.asked;
            sum.matched += tally.matched;
            sum.misrouted.extend(tally.misrouted);
            sum.missing.extend(tally.missing);
            sum.jobs.extend(tally.jobs);
            sum.slowest = sum.slowest.max(tally.slowest);
        }
        sum.took = begun.elapsed();
        sum
    }

    async fn one(&self, number: usize, tally: &mut Tally) {
        let gateway = number % self.gateways.len();
        // No two alike, of different lengths.
        let body = json!({ "number": number, "padding": "x".repeat(number % 97 * 7) }).to_string();
        let begun = Instant::now();
        tally.asked += 1;
        let answer = self.gateways[gateway]
            .wait((self.job_type)(number), body.clone(), 30)
            .send()
            .await;
        let (status, id, text) = match answer {
            Ok(answer) => {
                let id = answer.headers().get("tidegate-job-id");
                let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
                (answer.status(), id, answer.text().await)
            }
            Err(error) => {
                let text = format!("{number} on gateway {gateway}: {error:?}");
                return tally.missing.push(text);
            }
        };
        tally.slowest = tally.slowest.max(begun.elapsed());
        match (status, id, text) {
            (StatusCode::OK, Some(id), Ok(text)) if text == body => {
                tally.matched += 1;
                tally.jobs.push((gateway, id));
            }
            (StatusCode::OK, id, text) => {
                tally
                    .misrouted
                    .push(format!("{number}: job {id:?}: {text:?}"));
            }
            (status, id, text) => {
                let after = begun.elapsed();
                let text = format!(
                    "{number} on gateway {gateway} after {after:.1?}: {status} {id:?} {text:?}"
                );
                tally.missing.push(text);
            }
        }
    }
}

/// Submits so many jobs of a type with that body, asynchronously, 50 at a time; each must be accepted.
pub async fn accept_all(gateway: &Client, job_type: &str, body: &str, jobs: usize) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let clients = (0..50.min(jobs)).map(|_| async {
        let mut ids = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < jobs {
            ids.push(gateway.accept(job_type, body.to_owned()).await.id);
        }
        ids
    });
    join_all(clients).await.concat()
}
