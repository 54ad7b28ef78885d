//! A file a command.

mod config;
mod dev;
mod gateway;
mod process;
mod schemas;
mod submit;
mod topics;
mod worker;

use crate::cli::Command;
use crate::exit::{DONE, Failure};

/// Runs a command to its end and gives the exit code.
pub async fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Dev(args) => dev::run(args).await?,
        Command::Gateway(args) => gateway::run(args).await?,
        Command::Worker(args) => worker::run(args).await?,
        Command::Topics(command) => topics::run(command).await?,
        Command::Schemas(command) => schemas::run(command).await?,
        Command::Config(args) => config::run(&args)?,
        Command::Submit(args) => return submit::run(args).await,
    }
    Ok(DONE)
}
