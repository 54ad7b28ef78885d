//! What `tidegate callbacks` takes.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use tidegate_contract::{FollowUpKind, JobId};

use super::GatewayArgs;

fn kinds() -> PossibleValuesParser {
    FollowUpKind::ALL.map(FollowUpKind::as_str).into()
}

#[derive(Debug, Subcommand)]
pub enum CallbacksCommand {
    /// List the callbacks and e-mails of a job, with every attempt
    List(ListCallbacksArgs),
    /// Send the callback and the e-mail of a job again, whatever became of them
    Resend(ResendArgs),
    /// Send again what was given up since a time
    Recover(RecoverArgs),
    /// List the endpoints that fail or are disabled
    Endpoints(EndpointsArgs),
    /// Call a disabled endpoint again
    Enable(EnableArgs),
}

#[derive(Debug, Args)]
pub struct ListCallbacksArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    pub id: JobId,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// One JSON object a callback instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ResendArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    pub id: JobId,
    /// Only that one of the two
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub kind: Option<String>,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Only what was given up at this time or later: RFC 3339 in UTC
    #[arg(long, value_name = "TIME")]
    pub since: String,
    /// Only callbacks of this URL, whatever its query
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Only callbacks, or only e-mails
    #[arg(long, value_name = "KIND", value_parser = kinds(), conflicts_with = "endpoint")]
    pub kind: Option<String>,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EndpointsArgs {
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
pub struct EnableArgs {
    /// The callback URL, as `callbacks endpoints` shows it
    #[arg(value_name = "ENDPOINT-URL")]
    pub endpoint: String,
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// The gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}
