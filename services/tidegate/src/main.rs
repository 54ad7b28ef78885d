//! The one binary: every role, all of them as `dev`, and the operators' commands.
//!
//! [`cli`] says what can be asked for, [`settings`] merges the configuration's layers (`default.toml` is the
//! reference) and [`validate`] refuses what does not go together; each of [`commands`] then builds its role from them,
//! or asks a server and prints; what it prints is made by the pure parts in [`view`] and [`diagnosis`]. A command ends with an [`exit`] code; what it says goes through [`output`].

mod cli;
mod commands;
mod diagnosis;
mod exit;
mod output;
mod settings;
mod validate;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Most of what is allocated is freed by another thread: requests, records and rows go from hand to hand. That, and
/// librdkafka's large buffers in between, cost a tenth of a loaded gateway with the system's own allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::Failure::failed(error).report(),
    };
    let ended = runtime.block_on(commands::run(cli.command));
    // A call that is still blocked somewhere, in a client of an absent server for instance, does not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
