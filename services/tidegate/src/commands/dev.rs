//! `tidegate dev`: a whole installation in one process, for trying things out.

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_contract::{Pool, Secret, Tier};
use tidegate_gateway::Gateway;
use tidegate_kafka::Durability;
use tidegate_kafka::embedded::{EmbeddedBroker, EmbeddedRegistry};
use tidegate_notifier::{Notifier, NotifierSettings};
use tidegate_runtime::config::Loaded;
use tidegate_runtime::{Readiness, RecentSpans, Shutdown};
use tidegate_scheduler::{Scheduler, SchedulerSettings};
use tidegate_worker::{Worker, WorkerSettings};
use tokio::sync::Notify;

use super::process;
use super::{gateway, notifier, scheduler, worker};
use crate::cli::RoleArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// Joining the embedded broker's groups takes some seconds; after this long something is wrong.
const READY: Duration = Duration::from_secs(60);

/// Signs callbacks if no key is configured: known to all, and good for trying out alone.
const SIGNING_KEY: &str = "whsec_dGlkZWdhdGUgZGV2IHNpZ25zIHdpdGggdGhpcyBrZXk=";
/// Receivers that somebody tries are on this host.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// What the settings say of servers, which are all in this process.
const NOT_USED: [&str; 5] = [
    "kafka.brokers",
    "kafka.durability",
    "registry.url",
    "registry.register",
    "store.url",
];

/// Runs everything until it is told to stop.
pub async fn run(args: RoleArgs) -> Result<(), Failure> {
    let args = args.with_listen("gateway.listen");
    let (loaded, types) = settings::load_dev(&args)?;
    let mut settings = loaded.value.clone();
    say_what_is_not_used(&loaded);
    let grace = settings.gateway.grace;
    let recent = RecentSpans::default();
    let process = process::start_keeping(&loaded, "dev", grace, Some(&recent))?;
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let broker = EmbeddedBroker::start_with(settings.kafka.clone(), &settings.topic_plan())
        .context("cannot start the embedded broker")?;
    // Never dropped, however this ends: clients close on threads of their own, and would complain of a broker that went
    // before them.
    let broker = ManuallyDrop::new(broker);
    let registry = EmbeddedRegistry::start().context("cannot start the embedded registry")?;
    embed(&mut settings, &broker, &registry, dir.path());

    let cluster = || broker.cluster();
    let metrics = process::metrics(&settings.types);
    let instance = &process.instance;
    let store =
        tidegate_store::open(&settings.store).map_err(|error| settings::refused(&loaded, error))?;
    let worker = worker::config(&settings, cluster(), metrics.clone(), instance).await?;
    let worker = Worker::build(worker).await;
    let worker = worker.map_err(|error| worker::refused(&loaded, error))?;
    let scheduler = scheduler::config(&settings, cluster(), metrics.clone(), instance);
    let scheduler = Scheduler::build(scheduler).await;
    let scheduler = scheduler.map_err(|error| scheduler::refused(&loaded, error))?;
    let wake = Arc::<Notify>::default();
    let notifier = notifier::config(
        &loaded,
        &settings,
        store.clone(),
        Arc::clone(&wake),
        metrics.clone(),
        instance,
    )?;
    let notifier = Notifier::build(notifier).await;
    let notifier = notifier.map_err(|error| notifier::refused(&loaded, error))?;
    let mut gateway = gateway::config(
        &settings,
        cluster(),
        store.clone(),
        metrics.clone(),
        instance,
    );
    gateway.recent_spans = Some(recent);
    gateway.on_follow_ups = Some(wake);
    let gateway = Gateway::build(gateway).await;
    let gateway = gateway.map_err(|error| gateway::refused(&loaded, error))?;
    let url = gateway.url();
    output::line(format!("gateway listening on {url}"));
    let ready = [
        gateway.readiness(),
        worker.readiness(),
        scheduler.readiness(),
        notifier.readiness(),
    ];
    // The worker first: what the gateway then takes is known there.
    let roles = vec![worker.types(), gateway.types()];
    process.follow_types(&settings.types, types, roles, ready.to_vec(), &metrics);

    // One after the other, half of the time each: a wait can only end in an answer while the worker runs.
    let stop = (Shutdown::new(grace / 2), Shutdown::new(grace / 2));
    let gateway = part(&process.shutdown, gateway.run(stop.0.clone()));
    let worker = part(&process.shutdown, worker.run(stop.1.clone()));
    let scheduler = part(&process.shutdown, scheduler.run(stop.1.clone()));
    let notifier = part(&process.shutdown, notifier.run(stop.1.clone()));
    tokio::select! {
        () = process.shutdown.triggered() => {}
        () = introduce(&settings, args.config.as_deref(), &url, &ready) => process.shutdown.triggered().await,
    }
    stop.0.trigger();
    let gateway = gateway.await.map_err(Failure::failed)?;
    stop.1.trigger();
    let worker = worker.await.map_err(Failure::failed)?;
    let scheduler = scheduler.await.map_err(Failure::failed)?;
    notifier.await.map_err(Failure::failed)?;
    gateway::close(&*store).await;
    process.end().await;
    gateway.map_err(Failure::failed)?;
    worker.map_err(Failure::failed)?;
    scheduler.map_err(Failure::failed)
}

/// Runs a role; when it ends, by itself or not, the others end too.
fn part<T: Send + 'static>(
    all: &Shutdown,
    role: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let all = all.clone();
    tokio::spawn(async move {
        let ended = role.await;
        all.trigger();
        ended
    })
}

/// Settings of servers that `dev` does not use are likely those of another role's file: no error, but no secret.
fn say_what_is_not_used(loaded: &Loaded<Settings>) {
    for line in loaded.describe() {
        if NOT_USED.contains(&line.key.as_str()) && line.source != "default" {
            output::complain(format!(
                "{}: {} is not used: dev has a broker, a registry and a store of its own",
                line.source, line.key
            ));
        }
    }
}

/// Points the settings at the servers in this process.
fn embed(
    settings: &mut Settings,
    broker: &EmbeddedBroker,
    registry: &EmbeddedRegistry,
    dir: &Path,
) {
    settings.kafka.brokers = broker.bootstrap().to_owned();
    settings.kafka.durability = Durability::SingleBroker;
    settings.registry.url = registry.url().to_owned();
    settings.registry.register = true;
    let file = dir.join("store.db");
    settings.store.url = Secret::new(format!("sqlite:{}", file.display()));
    // The gateway serves the metrics of all. A further port is only opened for those who ask for one.
    if settings.worker.listen == WorkerSettings::default().listen {
        settings.worker.listen = String::new();
    }
    if settings.scheduler.listen == SchedulerSettings::default().listen {
        settings.scheduler.listen = String::new();
    }
    if settings.notifier.listen == NotifierSettings::default().listen {
        settings.notifier.listen = String::new();
    }
    let callbacks = &mut settings.callbacks;
    callbacks.allow_http = true;
    let loopback = LOOPBACK.map(str::to_owned);
    callbacks.allow_networks.extend(loopback);
    if callbacks.keys.is_empty() {
        callbacks.keys.push(Secret::new(SIGNING_KEY));
    }
}

/// Waits until jobs can be run, and says what to try.
async fn introduce(settings: &Settings, config: Option<&Path>, url: &str, ready: &[Readiness]) {
    for role in ready {
        if let Err(report) = role.until_ready(READY).await {
            let reasons = report.conditions.iter().filter(|condition| !condition.ok);
            let reasons: Vec<_> = reasons
                .map(|c| format!("{}: {}", c.name, c.reason.as_deref().unwrap_or("unknown")))
                .collect();
            output::complain(format!("still not ready: {}", reasons.join("; ")));
            return;
        }
    }
    output::line(introduction(settings, url));
    let pools = pools_without_worker(settings);
    if !pools.is_empty() {
        output::line(own_worker(settings, config, &pools));
    }
}

fn introduction(settings: &Settings, url: &str) -> String {
    let brokers = &settings.kafka.brokers;
    let topics = tidegate_contract::Topics::new(settings.kafka.prefix.clone());
    let topic = topics.jobs(&Pool::default(), Tier::Normal);
    let types: Vec<_> = settings.types.keys().map(|name| name.as_str()).collect();
    let types = types.join(", ");
    let registry = &settings.registry.url;
    let keys: Vec<_> = settings.callbacks.keys.iter().collect();
    let signed = match keys[..] {
        [key] if key.expose() == SIGNING_KEY => SIGNING_KEY,
        _ => "the configured keys",
    };
    let tidegate = program();
    format!(
        "
Ready. Everything is in this one process, and forgotten when it ends: the embedded broker and the
store keep nothing. Ctrl-C stops it.

  API docs   {url}/docs
  metrics    {url}/metrics
  broker     {brokers}
  registry   {registry}
  callbacks  to this host too, signed with {signed}
  job types  {types}

Try:
  curl -i {url}/v1/jobs/echo -H 'content-type: application/json' -d '{{\"hello\":\"tide\"}}'
  curl -i {url}/process-report -H 'content-type: application/json' -H 'prefer: wait=20' -d '{{\"reportType\":\"sales\",\"dateRange\":\"2025-01\"}}'
  kcat -b {brokers} -C -q -t {topic} -f '%k %h\\n' -e
  {tidegate} trace --url {url} JOB-ID
  {tidegate} topics tail replies --set kafka.brokers={brokers} --set registry.url={registry}"
    )
}

/// This program as whoever reads that can call it: as it was called, by its path if it is not on the `PATH`.
fn program() -> String {
    let called = std::env::args().next();
    output::shell_word(called.as_deref().unwrap_or("tidegate"))
}

/// Pools of job types that the worker in this process does not serve.
fn pools_without_worker(settings: &Settings) -> BTreeSet<&Pool> {
    let pools = settings.types.values().map(|spec| &spec.pool);
    pools
        .filter(|pool| !settings.worker.pools.contains(pool))
        .collect()
}

/// The line that starts a worker of somebody's own for such pools: the ports in it are others at each start.
fn own_worker(settings: &Settings, config: Option<&Path>, pools: &BTreeSet<&Pool>) -> String {
    let names: Vec<_> = pools.iter().map(|pool| pool.as_str()).collect();
    let from = match config.map(|file| std::path::absolute(file).unwrap_or(file.to_owned())) {
        Some(file) => format!("--config {} ", output::shell_word(&file.to_string_lossy())),
        None => String::new(),
    };
    format!(
        "
Jobs of the pool {} wait for a worker of your own. In its folder:
  cargo run -- {from}--set 'worker.pools=[\"{}\"]' --set kafka.durability=single-broker --set kafka.brokers={} --set registry.url={}",
        names.join(", "),
        names.join("\",\""),
        settings.kafka.brokers,
        settings.registry.url,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::SettingsArgs;

    #[test]
    fn the_introduction_says_what_to_try_and_what_is_lost() {
        let mut settings = settings::load_dev(&SettingsArgs::default())
            .unwrap()
            .0
            .value;
        settings.kafka.brokers = "127.0.0.1:4242".to_owned();
        let said = introduction(&settings, "http://127.0.0.1:8080");
        for part in [
            "forgotten when it ends",
            "echo, process-report, word-count",
            "curl -i http://127.0.0.1:8080/v1/jobs/echo -H",
            r#"-d '{"hello":"tide"}'"#,
            " trace --url http://127.0.0.1:8080 JOB-ID",
            " topics tail replies --set kafka.brokers=127.0.0.1:4242 --set registry.url=",
            r"kcat -b 127.0.0.1:4242 -C -q -t tidegate.jobs.normal -f '%k %h\n' -e",
            &program(),
        ] {
            assert!(said.contains(part), "no {part} in {said}");
        }
    }
    #[test]
    fn a_pool_without_a_worker_is_named_with_the_line_that_starts_one() {
        let args = SettingsArgs {
            config: None,
            set: vec![
                "types.roman={handler={kind=\"custom\",name=\"roman\"},pool=\"numerals\"}"
                    .to_owned(),
            ],
        };
        let mut settings = settings::load_dev(&args).unwrap().0.value;
        settings.kafka.brokers = "127.0.0.1:4242".to_owned();
        settings.registry.url = "http://127.0.0.1:4343".to_owned();
        let pools = pools_without_worker(&settings);
        let said = own_worker(&settings, Some(Path::new("/a b/worker.toml")), &pools);
        let line = r#"
  cargo run -- --config '/a b/worker.toml' --set 'worker.pools=["numerals"]' --set kafka.durability=single-broker --set kafka.brokers=127.0.0.1:4242 --set registry.url=http://127.0.0.1:4343"#;
        assert!(said.ends_with(line), "{said}");
        assert!(said.contains("the pool numerals wait"), "{said}");

        settings.worker.pools.push("numerals".parse().unwrap());
        assert!(pools_without_worker(&settings).is_empty());
    }
}
