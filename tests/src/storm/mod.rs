//! The storm: real servers, several processes of each role, a mix of jobs, and trouble all the while; then a reckoning.
//!
//! [`Plan`] and [`Ask`] say what will happen to the processes and which jobs there are; both follow from a seed.
//! `setup` starts the servers and the proxies to them, `cast` the processes; `chaos` carries the plan out while `client`
//! submits and notes what it was told, `target`, which the workers post their jobs to, notes every run, and `hooks` every
//! callback. When all is
//! calm again and everything has ended, `observe` reads store and topics; out of all these [`Facts`] [`judge()`] makes a
//! [`Verdict`], and `report` prints it. See docs/storm.md.

mod answers;
mod callbacks;
mod cast;
mod chaos;
mod client;
mod facts;
mod hooks;
mod judge;
mod mix;
mod observe;
mod options;
mod plan;
mod report;
mod seed;
mod serial;
mod setup;
pub mod target;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::secs;

pub use callbacks::Callbacks;
pub use facts::{End, Facts, Incident, Message, Row, Run, Said, SaidEnd, Told};
pub use judge::{Fault, Verdict, Violation, judge};
pub use mix::{Ask, Kind};
pub use options::Options;
pub use plan::{Plan, Role, Seat, Step, Weather};

/// After the storm everybody has so long to be ready, and the last job so long to end.
const GATHER: Duration = secs(90);

/// Runs a storm to its end and prints what it was like. Everything that it started has ended then, or when this is
/// dropped.
pub async fn run(options: Options) -> Verdict {
    let plan = Plan::against(
        options.sabotage.as_deref(),
        options.seed,
        options.length(),
        options.brokers,
    );
    println!(
        "storm: seed {}, {} minutes, {} broker(s), {} jobs/s{}",
        options.seed,
        options.minutes,
        options.brokers,
        options.rate,
        options
            .sabotage
            .as_deref()
            .map_or(String::new(), |name| format!(", sabotage {name}")),
    );
    let begun = Instant::now();
    let setup = Arc::new(setup::Setup::new(options.brokers).await);
    let target = target::Target::start();
    let hooks = hooks::Hooks::start();
    let cast = cast::Cast::new(Arc::clone(&setup), target.clone());
    let watch = cast.enter().await;
    let mut facts = Facts::default();
    let clients = client::Clients::new(options.seed, Arc::clone(&cast), hooks.clone());
    match cast.gather(GATHER).await {
        Ok(()) => {
            println!(
                "storm: everything is ready after {:.0} s",
                begun.elapsed().as_secs_f64()
            );
            let observer = observe::Observer::new(&setup.stack).await;
            blow(&plan, &options, &setup, &cast, &clients, &mut facts).await;
            let accepted: BTreeSet<_> = facts.told.iter().filter_map(Told::accepted).collect();
            let took = observer.settle(&accepted, options.settle).await;
            println!("storm: settled after {:.0} s", took.as_secs_f64());
            observer.read(&setup.stack, &mut facts).await;
        }
        Err(text) => facts.unread.push(text),
    }
    facts.runs = target.runs();
    facts.messages = hooks.messages();
    facts.incidents = cast.incidents();
    facts.memory = cast.memory();
    let held_back = clients.held_back.load(std::sync::atomic::Ordering::Relaxed);
    if held_back > 0 {
        println!("storm: {held_back} jobs were not asked for, as too many requests were open");
    }
    let verdict = judge(&facts);
    print!("{}", report::report(&verdict));
    cast.leave().await;
    for watch in watch {
        watch.abort();
    }
    if !verdict.violations.is_empty() {
        keep(&setup);
    }
    verdict
}

/// Puts configuration and logs aside, where they are not thrown away.
fn keep(setup: &setup::Setup) {
    let dir = setup.stack.dir.path();
    let kept = dir.with_extension("storm");
    match std::fs::rename(dir, &kept) {
        Ok(()) => println!(
            "storm: configuration and logs are kept in {}",
            kept.display()
        ),
        Err(error) => println!("storm: configuration and logs are not kept: {error}"),
    }
}

/// Jobs and trouble, then calm.
async fn blow(
    plan: &Plan,
    options: &Options,
    setup: &Arc<setup::Setup>,
    cast: &Arc<cast::Cast>,
    clients: &Arc<client::Clients>,
    facts: &mut Facts,
) {
    let asking = tokio::spawn(Arc::clone(clients).run(options.rate));
    chaos::carry_out(plan, setup, cast, clients).await;
    println!("storm: calm");
    clients.stop();
    setup.wire_is(Weather::Open);
    setup.store_is(Weather::Open);
    if let Err(text) = cast.gather(GATHER).await {
        facts.unread.push(text);
    }
    asking.await.expect("clients");
    facts.told = clients.told();
    let strange = clients.strange();
    facts.unread.extend(
        strange
            .into_iter()
            .map(|text| format!("a strange answer: {text}")),
    );
}
