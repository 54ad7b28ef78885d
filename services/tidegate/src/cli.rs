//! The command line: what can be said, not what it does.

mod callbacks;
mod operators;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
pub use tidegate_runtime::args::{RoleArgs, SettingsArgs};

pub use callbacks::{
    CallbacksCommand, EnableArgs, EndpointsArgs, ListCallbacksArgs, RecoverArgs, ResendArgs,
};
pub use operators::{
    BenchArgs, CancelArgs, DeadLetterArgs, DeadLettersCommand, DoctorArgs, FilterArgs, GatewayArgs,
    JobsCommand, ListJobsArgs, ListLettersArgs, ListTypesArgs, RebuildArgs, RedriveArgs, RetryArgs,
    ShowArgs, StoreCommand, TailArgs, TraceArgs, WatchArgs,
};

/// Slow, bursty or fragile work behind a plain HTTP call, with Kafka as the queue.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in this one process: embedded broker, registry and store, gateway, worker, sample jobs
    Dev(RoleArgs),
    /// Run a gateway: HTTP in, replies back
    Gateway(RoleArgs),
    /// Run a worker: jobs in, outcomes out
    Worker(RoleArgs),
    /// Run a scheduler: retries and delayed jobs go back when they are due
    Scheduler(RoleArgs),
    /// Run a notifier: callbacks out, to those who asked to be told of a job's end
    Notifier(RoleArgs),
    /// Make or look at the topics
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Register or check the Avro schemas
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Show the settings as resolved, secrets redacted, each with where it came from
    Config(ConfigArgs),
    /// Check the job types, list those in force, pause one
    #[command(subcommand)]
    Types(TypesCommand),
    /// Submit a job to a gateway and print the answer
    #[command(after_help = SUBMIT_CODES)]
    Submit(SubmitArgs),
    /// Load a gateway and measure what it takes
    #[command(after_help = BENCH_CODES)]
    Bench(BenchArgs),
    /// Look at jobs, follow them, call them off
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Look at what failed for good, and do it again
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Look at callbacks, send them again, call a disabled endpoint again
    #[command(subcommand)]
    Callbacks(CallbacksCommand),
    /// Show the spans of a job's trace as a tree: from Jaeger (telemetry.query_url), or from `dev` itself
    Trace(TraceArgs),
    /// Look after the status store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Look at everything that the configuration names: brokers, topics, rights, registry, store, clocks, job types
    ///
    /// Each line is ok, a warning, a problem with its mend, or not checked because something that it takes is not there.
    /// Nothing is written, joined, committed or made.
    #[command(after_help = DOCTOR_CODES)]
    Doctor(DoctorArgs),
    /// Ask a gateway, a worker, a scheduler or a notifier whether it is ready, and if not, why; exit code 0 or 1
    Health(HealthArgs),
}

const SUBMIT_CODES: &str = "Exit codes: 0 the job completed, 3 it is accepted and still running, 1 it failed or was refused, 2 wrong usage.";

const DOCTOR_CODES: &str = "Exit codes: 0 no problem, 1 a problem, 2 wrong usage or configuration.";

const BENCH_CODES: &str = "A closed loop sends as soon as an answer has come, and hides a gateway that stands still: it is sent less. An open
loop (--rate) sends on time and measures each request from when it should have been sent.
Exit codes: 0 all were answered, 1 some were not or it could not be measured, 2 wrong usage.";

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics that are missing
    Create {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Say what would be made, and make nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the topics, and whether they are as the configuration asks
    Describe {
        #[command(flatten)]
        settings: SettingsArgs,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the records of a topic, decoded, one JSON object a line; payloads are shown
    ///
    /// Reads from the beginning to where the topic ends now, each partition in its order. Avro values are decoded with
    /// the schema that they were written with; bytes that are neither JSON nor text, and values that cannot be decoded,
    /// are shown as {"$base64": "…"}. What clients sent and jobs answered is printed as it is: mind who looks on. Joins
    /// no group and commits nothing.
    Tail(TailArgs),
}

#[derive(Debug, Subcommand)]
pub enum SchemasCommand {
    /// Register the compiled-in schemas
    Register(SettingsArgs),
    /// Check the compiled-in schemas against the registered ones; exit code 1 if one does not fit
    Check(SettingsArgs),
}

#[derive(Debug, Subcommand)]
pub enum TypesCommand {
    /// Check the job types with the rest of the configuration, and print them and their digest; exit code 2 if
    /// something is wrong with them
    Check {
        /// The file of job types, instead of the one that `types_file` names
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArgs,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the job types that a gateway has in force, and which are paused
    List(ListTypesArgs),
    /// Begin no more jobs of a type, for seven days or until it is resumed; asks a gateway
    Pause(TypeArgs),
    /// Begin jobs of a paused type again; asks a gateway
    Resume(TypeArgs),
}

#[derive(Debug, Args)]
pub struct TypeArgs {
    /// The type
    pub name: String,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// Job type
    #[arg(value_name = "TYPE")]
    pub job_type: String,
    /// Body: the text itself, `@FILE`, or `-` for standard input
    #[arg(long, short, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub data: String,
    /// Wait for the outcome, at most this many seconds
    #[arg(long, value_name = "SECONDS", conflicts_with = "async")]
    pub wait: Option<u32>,
    /// Do not wait: answer as soon as the job is accepted
    #[arg(long)]
    pub r#async: bool,
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// A request header; may be given more than once
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// API key; the variable TIDEGATE_API_KEY keeps it out of process lists
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The role; a URL without a path stands for its /readyz
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Ask again until it is ready, at most for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
