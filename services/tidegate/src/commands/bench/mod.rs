//! `tidegate bench`: a gateway under load, and what it takes.
//!
//! [`pace`] says when requests are sent, [`load`] sends them over [`http`] connections, [`tally`] counts, [`report`]
//! prints. With `--floor` the raw round trip over Kafka ([`floor`]) is measured in turns with the gateway, so that what
//! else the machine does falls on both. With `--watch` it is event streams that are measured: [`watch`].

mod floor;
mod http;
mod load;
mod pace;
mod report;
mod tally;
mod watch;

use std::io::IsTerminal;
use std::time::Duration;

use tidegate_kafka::Cluster;

use self::floor::Floor;
use self::http::{Connection, Shot};
use self::load::{Load, Ran, Target};
use self::pace::Pace;
use self::report::{Figures, Report};
use self::tally::Tally;
use self::watch::Watching;
use super::submit;
use crate::cli::BenchArgs;
use crate::exit::{self, Failure};
use crate::{output, settings};

/// Requests under way at once, unless said otherwise.
const CLOSED: usize = 64;
const OPEN: usize = 512;
/// How many turns the gateway and the floor take.
const TURNS: u32 = 2;
/// What an answer may take besides its wait.
const SLACK: Duration = Duration::from_secs(15);

/// Measures, prints, and gives the exit code: 1 if anything failed.
pub async fn run(args: BenchArgs) -> Result<u8, Failure> {
    let load = load_of(&args)?;
    let url = submit::address(&args.gateway.url, &args.job_type)?;
    let body = submit::body(&args.data)?;
    if let Some(watchers) = args.watch {
        if !(1..=25_000).contains(&watchers) {
            return Err(Failure::usage(format!(
                "--watch {watchers}: from 1 to 25000"
            )));
        }
        let key = args.gateway.api_key.as_deref();
        return watch::run(Watching {
            submit: url,
            headers: submit::headers(None, false, key, &args.header)?,
            body,
            watchers,
            process: args.pid,
            json: args.json,
        })
        .await;
    }
    let is_async = args.r#async;
    let headers = submit::headers(
        (!is_async).then_some(args.wait),
        is_async,
        args.gateway.api_key.as_deref(),
        &args.header,
    )?;
    let timeout = Duration::from_secs(u64::from(args.wait)) + SLACK;
    let shot = Shot::new(&url, headers, body.clone(), is_async, timeout)?;
    let gateway = || Connection::new(shot.clone());
    let floor = match args.floor {
        true => Some(start_floor(&args).await?),
        false => None,
    };

    let warmup = Load {
        duration: *args.warmup,
        ..load
    };
    let mut say = Progress::new(args.json);
    measure("warm-up", warmup, gateway, &mut say).await;
    let mode = if is_async { "async" } else { "wait" };
    let mut report = Report::new(url.to_string(), mode, load, body.len());
    match &floor {
        None => report.gateway = Figures::of(&[measure("gateway", load, gateway, &mut say).await]),
        Some(floor) => {
            let target = floor.target(body);
            measure("warm-up of the floor", warmup, &target, &mut say).await;
            let part = Load {
                duration: load.duration / TURNS,
                ..load
            };
            let (mut gateways, mut floors) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                gateways.push(measure("gateway", part, gateway, &mut say).await);
                floors.push(measure("floor", part, &target, &mut say).await);
            }
            report.gateway = Figures::of(&gateways);
            report.floor = Some(Figures::of(&floors));
        }
    }
    say.end();
    if let Some(floor) = floor
        && let Err(error) = floor.end().await
    {
        output::complain(format!("the floor's topics are still there: {error}"));
    }
    match args.json {
        true => output::line(serde_json::to_string_pretty(&report).map_err(Failure::failed)?),
        false => output::line(report.text()),
    }
    Ok(match report.gateway.failures.is_empty() {
        true => exit::DONE,
        false => exit::FAILED,
    })
}

fn load_of(args: &BenchArgs) -> Result<Load, Failure> {
    let (pace, usual) = match args.rate {
        None => (Pace::Closed, CLOSED),
        Some(rate) if rate > 0.0 && rate <= 1_000_000.0 => (Pace::Open { per_second: rate }, OPEN),
        Some(rate) => {
            return Err(Failure::usage(format!(
                "--rate {rate}: a number of requests a second, over 0 and up to 1000000"
            )));
        }
    };
    let concurrency = args.concurrency.unwrap_or(usual);
    if !(1..=20_000).contains(&concurrency) {
        return Err(Failure::usage(format!(
            "--concurrency {concurrency}: from 1 to 20000"
        )));
    }
    if args.duration.is_zero() || *args.duration > Duration::from_secs(24 * 3600) {
        return Err(Failure::usage("--duration: over 0 and up to 24h"));
    }
    Ok(Load {
        pace,
        concurrency,
        duration: *args.duration,
    })
}

async fn start_floor(args: &BenchArgs) -> Result<Floor, Failure> {
    let loaded = settings::load(&args.settings)?;
    let brokers = loaded.value.kafka.brokers.clone();
    let cluster = Cluster::new(loaded.value.kafka);
    Floor::start(cluster).await.map_err(|error| {
        Failure::failed(format!(
            "--floor on {brokers}: {error}: it needs a real Kafka that lets it make topics; name it with --config or \
             --set kafka.brokers=HOST:PORT"
        ))
    })
}

async fn measure<T: Target>(
    name: &'static str,
    load: Load,
    target: impl Fn() -> T,
    say: &mut Progress,
) -> Ran {
    load::run(load, target, |at, so_far| say.so_far(name, at, so_far)).await
}

/// One line on standard error that is written over again; on a file, a line now and then.
struct Progress {
    silent: bool,
    terminal: bool,
    before: u64,
}

impl Progress {
    fn new(silent: bool) -> Self {
        Self {
            silent,
            terminal: std::io::stderr().is_terminal(),
            before: 0,
        }
    }

    fn so_far(&mut self, name: &str, at: Duration, tally: &Tally) {
        let last = tally.count().saturating_sub(self.before);
        self.before = tally.count();
        let latency = tally.latency();
        let line = format!(
            "{name} {:>4.0} s  {last:>6}/s  p50 {:.2} ms  p99 {:.2} ms  failures {}",
            at.as_secs_f64(),
            latency.p50,
            latency.p99,
            tally.failure_count()
        );
        if !self.silent && (self.terminal || at.as_secs().is_multiple_of(5)) {
            output::progress(line);
        }
    }

    fn end(&self) {
        if self.terminal && !self.silent {
            output::progress("");
        }
    }
}
