//! What the operators' commands take.

use clap::{Args, Subcommand};
use tidegate_contract::JobId;
use tidegate_kafka::Place;

use super::SettingsArgs;
use crate::diagnosis::rights::Role;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Job type
    #[arg(value_name = "TYPE", default_value = "echo")]
    pub job_type: String,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Body: the text itself, `@FILE`, or `-` for standard input
    #[arg(
        long,
        short,
        value_name = "JSON|@FILE|-",
        default_value = "{\"hello\":\"tide\"}"
    )]
    pub data: String,
    /// A request header; may be given more than once
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Requests under way at once, each on a connection of its own; 64, or 512 with --rate
    #[arg(long, short, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Requests a second, whatever the answers do
    #[arg(long, short, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "20s")]
    pub duration: humantime::Duration,
    /// How long to load before that
    #[arg(long, value_name = "TIME", default_value = "3s")]
    pub warmup: humantime::Duration,
    /// How long each request waits for its outcome, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub wait: u32,
    /// Submit asynchronously: the answer is the acceptance
    #[arg(long, conflicts_with = "wait")]
    pub r#async: bool,
    /// Measure the raw two-hop round trip over Kafka too, in turns; the client settings come from --config and --set
    #[arg(long)]
    pub floor: bool,
    /// Instead: open so many event streams of one job, cancel it, and measure until all of them know
    #[arg(long, value_name = "N", conflicts_with_all = ["rate", "concurrency", "floor", "async"])]
    pub watch: Option<usize>,
    /// With --watch: the gateway's process on this machine, whose memory is shown
    #[arg(long, value_name = "PROCESS", requires = "watch")]
    pub pid: Option<u32>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TailArgs {
    /// The topic without the prefix, such as jobs.normal, replies or dead-letters
    pub topic: String,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Only records whose key is this job's id
    #[arg(long, value_name = "ID")]
    pub job: Option<JobId>,
    /// Where to begin in each partition: `earliest`, `latest`, an offset, or -N for the last N records
    #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = place, allow_hyphen_values = true)]
    pub from: Place,
    /// Stop after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Go on with what is written later, instead of ending where the topic ends now
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// A role that runs: is it ready, and has it the same job types? May be given more than once; without it
    /// those are asked that listen where the configuration says
    #[arg(long, value_name = "URL")]
    pub role: Vec<String>,
    /// Judge rights and needs of this kind of role alone, for a configuration that is not shared
    #[arg(long, value_name = "KIND", value_enum)]
    pub only: Option<Role>,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

fn place(text: &str) -> Result<Place, String> {
    let number = || text.parse::<i64>();
    match text {
        "earliest" => Ok(Place::Earliest),
        "latest" => Ok(Place::Latest),
        _ => match number() {
            Ok(offset) if offset < 0 => Ok(Place::Last(offset.saturating_neg())),
            Ok(offset) => Ok(Place::Offset(offset)),
            Err(_) => {
                Err("expected `earliest`, `latest`, an offset, or -N for the last N".to_owned())
            }
        },
    }
}

/// Where a gateway is, and who asks.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// The gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// API key; the variable TIDEGATE_API_KEY keeps it out of process lists
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List the jobs that are kept, newest first
    List(ListJobsArgs),
    /// Show what happened to a job, and when
    ///
    /// The status comes from the gateway. Each event comes from the job's reply partition, if it is said where Kafka is:
    /// by --config, --set or the environment.
    #[command(after_help = JOBS_CODES)]
    Show(ShowArgs),
    /// Do a failed or dead-lettered job again, as a new job
    Retry(RetryArgs),
    /// Call jobs off: those in line are not begun, those that run are stopped
    ///
    /// Answers when the log has judged each: one that had ended in another way stays as it ended.
    #[command(after_help = CANCEL_CODES)]
    Cancel(CancelArgs),
    /// Follow a job until it has ended: a line for each change
    ///
    /// From its acceptance on, as far as its events are kept. A stream that breaks is taken up again where it was, and
    /// standard error tells of it.
    #[command(after_help = WATCH_CODES)]
    Watch(WatchArgs),
}

#[derive(Debug, Args)]
pub struct ListJobsArgs {
    /// Only with this status, or one of these, with commas between them
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// Only of this job type
    #[arg(long = "type", value_name = "TYPE")]
    pub job_type: Option<String>,
    /// Only of this tier
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
    /// Only accepted at this time or later: RFC 3339 in UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only accepted before this time: RFC 3339 in UTC
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ListTypesArgs {
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

const CANCEL_CODES: &str =
    "Exit codes: 0 all are cancelled, 1 at least one is not, 2 wrong usage or not a job id.";
const WATCH_CODES: &str = "Exit codes: 0 completed, 1 ended in another way, no such job, or nobody answers, 2 wrong usage \
or not a job id.";

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<JobId>,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a job instead of a sentence
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The job's id
    pub id: JobId,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a change instead of a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The job's id
    pub id: JobId,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// JSON instead of a sentence
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters, newest first
    List(ListLettersArgs),
    /// Show one dead letter, with the record that it keeps
    Show(DeadLetterArgs),
    /// Do dead-lettered jobs again, each as a new job and each once
    ///
    /// A filter that matches nothing says so; without a filter it takes --all. Jobs that were done again already, or that
    /// have been too often on their chain, are left.
    Redrive(RedriveArgs),
}

#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only of this job type
    #[arg(long = "type", value_name = "TYPE")]
    pub job_type: Option<String>,
    /// Only of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only with this reason, such as attempts-exhausted
    #[arg(long)]
    pub reason: Option<String>,
    /// Only set aside at this time or later: RFC 3339 in UTC
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only set aside before this time: RFC 3339 in UTC
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListLettersArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DeadLetterArgs {
    /// Where it lies, as `list` and the status of a job show it
    #[arg(value_name = "PARTITION/OFFSET", value_parser = letter_place)]
    pub place: String,
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

fn letter_place(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u64>().is_ok();
    match text.split_once('/') {
        Some((partition, offset)) if number(partition) && number(offset) => Ok(text.to_owned()),
        _ => Err("expected PARTITION/OFFSET, such as 3/17".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// All of them, when no filter is given
    #[arg(long)]
    pub all: bool,
    /// Say how many it would be, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Jobs a second; 20 if nothing is said
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Leave jobs that have as many before them on their chain of retries; 5 if nothing is said
    #[arg(long, value_name = "N")]
    pub max_redrives: Option<i32>,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a job instead of a sum
    #[arg(long)]
    pub json: bool,
}

const JOBS_CODES: &str =
    "Exit codes: 0 shown, 1 no such job or nobody answers, 2 wrong usage or not a job id.";

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The job's id
    pub id: JobId,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The job's id, or a trace id of 32 hexadecimal digits
    pub id: String,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// JSON instead of a tree
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Fill an empty status store from what lies in Kafka
    ///
    /// Replays the jobs topics and the replies topic up to where they end now, with the gateways' own projection. Joins
    /// no group and commits nothing in Kafka. Gateways may run on another store meanwhile; on this one they begin when
    /// it is filled.
    Rebuild(RebuildArgs),
}

#[derive(Debug, Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The figures as JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_words_offsets_or_counts_from_the_end() {
        assert_eq!(place("earliest"), Ok(Place::Earliest));
        assert_eq!(place("latest"), Ok(Place::Latest));
        assert_eq!(place("17"), Ok(Place::Offset(17)));
        assert_eq!(place("-5"), Ok(Place::Last(5)));
        assert!(place("yesterday").is_err());
    }
}
