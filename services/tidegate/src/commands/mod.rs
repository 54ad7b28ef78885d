//! A file a command.

mod bench;
mod callbacks;
mod cancel;
mod client;
mod config;
mod dead_letters;
mod dev;
mod doctor;
mod gateway;
mod health;
mod jobs;
mod listing;
mod notifier;
mod process;
mod rebuild;
mod scheduler;
mod schemas;
mod submit;
mod tail;
mod topics;
mod trace;
mod types;
mod watch;
mod worker;

use crate::cli::{Command, JobsCommand, StoreCommand};
use crate::exit::{DONE, Failure};

/// Runs a command to its end and gives the exit code.
pub async fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Dev(args) => dev::run(args).await?,
        Command::Gateway(args) => gateway::run(args).await?,
        Command::Scheduler(args) => scheduler::run(args).await?,
        Command::Notifier(args) => notifier::run(args).await?,
        Command::Worker(args) => worker::run(args).await?,
        Command::Topics(command) => topics::run(command).await?,
        Command::Schemas(command) => schemas::run(command).await?,
        Command::Config(args) => config::run(&args)?,
        Command::Types(command) => types::run(command).await?,
        Command::Submit(args) => return submit::run(args).await,
        Command::Bench(args) => return bench::run(args).await,
        Command::Doctor(args) => return doctor::run(args).await,
        Command::Jobs(JobsCommand::List(args)) => listing::jobs(args).await?,
        Command::Jobs(JobsCommand::Show(args)) => jobs::run(args).await?,
        Command::Jobs(JobsCommand::Retry(args)) => dead_letters::retry(args).await?,
        Command::Jobs(JobsCommand::Cancel(args)) => return cancel::run(args).await,
        Command::Jobs(JobsCommand::Watch(args)) => return watch::run(args).await,
        Command::DeadLetters(command) => dead_letters::run(command).await?,
        Command::Callbacks(command) => callbacks::run(command).await?,
        Command::Trace(args) => trace::run(args).await?,
        Command::Store(StoreCommand::Rebuild(args)) => rebuild::run(args).await?,
        Command::Health(args) => health::run(&args).await?,
    }
    Ok(DONE)
}
