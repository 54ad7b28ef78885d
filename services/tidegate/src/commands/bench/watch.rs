//! `tidegate bench --watch N`: what it costs a gateway that many follow a job, and how soon all of them know its end.
//!
//! One job with a delay is submitted, followed by so many event streams, and cancelled: no worker is needed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt as _;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::commands::client;
use crate::exit::{self, Failure};
use crate::output;

/// Streams that are opened at once.
const OPENING: usize = 64;
/// For a stream to begin, and for all of them to end.
const LIMIT: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    watchers: usize,
    /// Until all streams had begun, in milliseconds.
    opened_ms: f64,
    /// From sending the cancellation until a watcher knew of it.
    first_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    last_ms: f64,
    /// Resident memory of the gateway, in KiB, where its process is on this machine and was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_before_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_open_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_after_kib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kib_a_watcher: Option<f64>,
}

/// What is measured.
pub struct Watching {
    /// Where jobs are posted.
    pub submit: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub watchers: usize,
    /// The gateway's process.
    pub process: Option<u32>,
    pub json: bool,
}

/// Measures and prints.
pub async fn run(watching: Watching) -> Result<u8, Failure> {
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT);
    let http = http.build().map_err(Failure::failed)?;
    let submit = http
        .post(watching.submit.clone())
        .headers(watching.headers.clone())
        .header("prefer", "respond-async")
        .header("tidegate-delay", "1h")
        .body(watching.body.clone());
    let accepted = answer(submit, &watching.submit).await?;
    let id = accepted["jobId"].as_str().context("202 without a jobId")?;
    let job = watching.submit.join(id).map_err(Failure::failed)?;
    let address = address(&job).await?;

    let before = watching.process.and_then(memory);
    let begun = Instant::now();
    let head = head(&job, &watching.headers);
    let opening = futures::stream::iter(0..watching.watchers)
        .map(|_| Watcher::open(address, &head))
        .buffer_unordered(OPENING);
    let opened: Vec<Result<Watcher, anyhow::Error>> = opening.collect().await;
    let opened_ms = ms(begun.elapsed());
    let watchers: Result<Vec<Watcher>, anyhow::Error> = opened.into_iter().collect();
    let watchers = watchers.map_err(Failure::failed)?;
    let open = watching.process.and_then(memory);

    let mut ends = JoinSet::new();
    let begun = Instant::now();
    for watcher in watchers {
        ends.spawn(tokio::time::timeout(LIMIT, watcher.end()));
    }
    let cancel = job.join(&format!("{id}/cancel")).map_err(Failure::failed)?;
    let cancelling = http.post(cancel.clone()).headers(watching.headers.clone());
    answer(cancelling, &cancel).await?;
    let mut times = Vec::with_capacity(watching.watchers);
    for ended in ends.join_all().await {
        let at = ended.context("a stream did not end in time")??;
        times.push(ms(at.duration_since(begun)));
    }
    times.sort_by(f64::total_cmp);
    let last = times.len().saturating_sub(1);
    let of = |share: usize| {
        times
            .get((times.len() * share / 100).min(last))
            .copied()
            .unwrap_or_default()
    };
    let grown = before.zip(open);
    let found = Found {
        watchers: times.len(),
        opened_ms,
        first_ms: of(0),
        p50_ms: of(50),
        p99_ms: of(99),
        last_ms: of(100),
        memory_before_kib: before,
        memory_open_kib: open,
        memory_after_kib: watching.process.and_then(memory),
        kib_a_watcher: grown
            .map(|(before, open)| open.saturating_sub(before) as f64 / watching.watchers as f64),
    };
    match watching.json {
        true => output::line(serde_json::to_string_pretty(&found).map_err(Failure::failed)?),
        false => output::line(found.text()),
    }
    Ok(exit::DONE)
}

impl Found {
    fn text(&self) -> String {
        let mut text = format!(
            "{} watchers, all there after {:.0} ms\nend of the job known after: first {:.1} ms, p50 {:.1} ms, p99 {:.1} ms, last {:.1} ms",
            self.watchers, self.opened_ms, self.first_ms, self.p50_ms, self.p99_ms, self.last_ms
        );
        if let (Some(before), Some(open), Some(after), Some(each)) = (
            self.memory_before_kib,
            self.memory_open_kib,
            self.memory_after_kib,
            self.kib_a_watcher,
        ) {
            text.push_str(&format!(
                "\nmemory of the gateway: {before} KiB before, {open} KiB with all of them ({each:.1} KiB each), {after} KiB after"
            ));
        }
        text
    }
}

/// A stream that has begun.
struct Watcher(TcpStream);

impl Watcher {
    async fn open(address: SocketAddr, head: &str) -> Result<Self, anyhow::Error> {
        let opening = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(head.as_bytes()).await?;
            read_until(&mut stream, "event: accepted").await?;
            Ok(Self(stream))
        };
        tokio::time::timeout(LIMIT, opening)
            .await
            .context("a stream did not begin in time")?
    }

    /// When the end was known.
    async fn end(mut self) -> Result<Instant, anyhow::Error> {
        read_until(&mut self.0, "event: cancelled").await?;
        Ok(Instant::now())
    }
}

async fn read_until(stream: &mut TcpStream, word: &str) -> Result<(), anyhow::Error> {
    let mut read = Vec::new();
    while !read.windows(word.len()).any(|part| part == word.as_bytes()) {
        if stream.read_buf(&mut read).await? == 0 {
            let text = String::from_utf8_lossy(&read).into_owned();
            anyhow::bail!("a stream ended too soon: {text}");
        }
    }
    Ok(())
}

/// The request for the events of a job.
fn head(job: &Url, headers: &HeaderMap) -> String {
    let host = job.host_str().unwrap_or_default();
    let mut head = format!("GET {}/events HTTP/1.1\r\nHost: {host}\r\n", job.path());
    for (name, value) in headers {
        if let (true, Ok(value)) = (name == "authorization", value.to_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head + "\r\n"
}

async fn address(url: &Url) -> Result<SocketAddr, Failure> {
    if url.scheme() != "http" {
        return Err(Failure::usage("--url: bench speaks plain HTTP: http://…"));
    }
    let host = url.host_str().context("--url has no host")?;
    let port = url.port_or_known_default().unwrap_or(80);
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.map_err(|error| Failure::failed(format!("{host}: {error}")))?;
    found
        .next()
        .ok_or_else(|| Failure::failed(format!("{host} has no address")))
}

/// The JSON of an answer that is a good one.
async fn answer(request: reqwest::RequestBuilder, url: &Url) -> Result<Value, Failure> {
    let sent = request.send().await;
    let answer = sent.map_err(|error| Failure::failed(client::unreachable(url, &error)))?;
    let status = answer.status();
    let text = answer.text().await.map_err(Failure::failed)?;
    if !status.is_success() {
        return Err(Failure::failed(format!("{url} answered {status}: {text}")));
    }
    serde_json::from_str(&text).map_err(Failure::failed)
}

/// Resident memory of a process on this machine, in KiB.
fn memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
