//! The least that a job gateway on Kafka can be: a request becomes a record, the answering record ends the request.
//!
//! No schemas, traces, store, status, deadlines, limits or recovery: what Tidegate takes beyond this is the price of
//! those. [`gateway`] and [`worker`] are two processes, as Tidegate's are; [`kafka`] has the settings that both share
//! with Tidegate where they decide the speed (`acks=all`, idempotent, fetches). `benches/side-by-side` runs both.

mod gateway;
mod kafka;
mod worker;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "A bare gateway on Kafka and its worker, to measure Tidegate against")]
struct Cli {
    #[command(subcommand)]
    role: Role,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Role {
    /// Takes requests on any path and answers each with the record that a worker sends back.
    Gateway {
        /// Where HTTP is served.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: String,
    },
    /// Sends every record back as it is.
    Worker,
}

/// What both roles need to know.
#[derive(Args, Clone)]
pub struct Common {
    /// Where Kafka is.
    #[arg(long, global = true, default_value = "127.0.0.1:9092")]
    pub brokers: String,
    /// In front of the names of topics and group: fresh ones for every run.
    #[arg(long, global = true, default_value = "bare.")]
    pub prefix: String,
    /// `linger.ms` of the producers.
    #[arg(long, global = true, default_value = "1")]
    pub linger: String,
}

fn main() -> anyhow::Result<()> {
    let Cli { role, common } = Cli::parse();
    match role {
        Role::Gateway { listen } => {
            actix_web::rt::System::new().block_on(gateway::run(&common, &listen))
        }
        Role::Worker => tokio::runtime::Runtime::new()?.block_on(worker::run(&common)),
    }
}
