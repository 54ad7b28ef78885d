//! See docs/storm.md; `scripts/storm` builds what it needs and starts it.

// It is a program for a terminal.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use tidegate_tests::storm::{self, Options, Plan};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("storm: {error}");
            return ExitCode::from(2);
        }
    };
    if options.plan_only {
        let plan = Plan::against(
            options.sabotage.as_deref(),
            options.seed,
            options.length(),
            options.brokers,
        );
        println!("{}", plan.lines().join("\n"));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("storm: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(until_over(options));
    // Whatever is still under way is dropped, and with it the processes that were started.
    runtime.shutdown_timeout(Duration::from_secs(20));
    code
}

async fn until_over(options: Options) -> ExitCode {
    let (mut terminate, mut interrupt) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("storm: no signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    // In a task of its own, as a panic in it is to end in an exit code too.
    let mut storm = tokio::spawn(storm::run(options));
    tokio::select! {
        ended = &mut storm => match ended {
            Ok(verdict) if verdict.violations.is_empty() => {
                println!("storm: passed");
                ExitCode::SUCCESS
            }
            Ok(verdict) => {
                println!("storm: FAILED, {} violations", verdict.violations.len());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("storm: broke off: {error}");
                ExitCode::from(3)
            }
        },
        _ = terminate.recv() => ExitCode::from(143),
        _ = interrupt.recv() => ExitCode::from(130),
    }
}
