//! What the operators' commands take.

use clap::{Args, Subcommand};
use tidegate_contract::JobId;
use tidegate_kafka::Place;

use super::SettingsArgs;

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
    /// Show what happened to a job, and when
    ///
    /// The status comes from the gateway. Each event comes from the job's reply partition, if it is said where Kafka is:
    /// by --config, --set or the environment.
    #[command(after_help = JOBS_CODES)]
    Show(ShowArgs),
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
