//! `tidegate topics`: the topics that a configuration needs, made and looked at.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_kafka::{Cluster, CreateOutcome, KafkaError, TopicInfo, TopicPlan, check_topics};

use crate::cli::{SettingsArgs, TopicsCommand};
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, settings};

/// An operator is waiting: a broker that says nothing for this long is away.
const LIMIT: Duration = Duration::from_secs(9);
/// How long it has for the first sign of life.
const PROBE: Duration = Duration::from_secs(4);
/// Before a broker that could not answer is asked again.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs one of the commands.
pub async fn run(command: TopicsCommand) -> Result<(), Failure> {
    match command {
        TopicsCommand::Create { settings, dry_run } => create(&settings, dry_run).await,
        TopicsCommand::Describe { settings, json } => describe(&settings, json).await,
        TopicsCommand::Tail(args) => super::tail::run(args).await,
    }
}

async fn create(args: &SettingsArgs, dry_run: bool) -> Result<(), Failure> {
    let settings = settings::load(args)?.value;
    let plan = settings.topic_plan();
    let outcomes = if dry_run {
        let found = look(&settings, &plan).await?;
        plan.iter()
            .map(|topic| (topic.name.clone(), would(topic, &found)))
            .collect()
    } else {
        let cluster = Cluster::new(settings.kafka.clone());
        let call = async {
            present(&cluster).await?;
            patient(async || cluster.create_topics(&plan).await).await
        };
        limited(&settings, call).await?
    };
    let mut short = 0;
    for (name, outcome) in &outcomes {
        let said = match outcome {
            CreateOutcome::Created if dry_run => "would be created".to_owned(),
            CreateOutcome::Created => "created".to_owned(),
            CreateOutcome::Exists => "exists".to_owned(),
            CreateOutcome::TooFewPartitions { found, planned } => {
                short += 1;
                format!(
                    "exists with too few partitions: {found} instead of {planned}; add some with \
                     `kafka-topics.sh --alter --topic {name} --partitions {planned}`"
                )
            }
        };
        output::line(format!("{name}: {said}"));
    }
    match short {
        0 => Ok(()),
        1 => Err(Failure::failed("1 topic has too few partitions")),
        n => Err(Failure::failed(format!(
            "{n} topics have too few partitions"
        ))),
    }
}

fn would(topic: &TopicPlan, found: &[TopicInfo]) -> CreateOutcome {
    match found.iter().find(|info| info.name == topic.name) {
        None => CreateOutcome::Created,
        Some(info) if info.partitions < topic.partitions => CreateOutcome::TooFewPartitions {
            found: info.partitions,
            planned: topic.partitions,
        },
        Some(_) => CreateOutcome::Exists,
    }
}

async fn describe(args: &SettingsArgs, as_json: bool) -> Result<(), Failure> {
    let settings = settings::load(args)?.value;
    let plan = settings.topic_plan();
    let found = look(&settings, &plan).await?;
    let mut bad = 0;
    let mut rows = Vec::new();
    let mut objects = Vec::new();
    for topic in &plan {
        let info = found.iter().find(|info| info.name == topic.name);
        let verdict = check_topics(
            std::slice::from_ref(topic),
            info.map(std::slice::from_ref).unwrap_or_default(),
            settings.kafka.durability,
        );
        let verdict = match verdict {
            Ok(()) => "ok".to_owned(),
            Err(problem) => {
                bad += 1;
                problem.to_string()
            }
        };
        rows.push(row(topic, info, verdict.clone()));
        objects.push(object(topic, info, &verdict));
    }
    if as_json {
        let text = serde_json::to_string_pretty(&objects).map_err(Failure::failed)?;
        output::line(text);
    } else {
        let head = [
            "topic",
            "partitions",
            "replication",
            "min.insync",
            "retention",
            "max.message.bytes",
            "verdict",
        ];
        output::line(output::table(&head, &rows));
    }
    match bad {
        0 => Ok(()),
        n => Err(Failure::failed(format!(
            "{n} of {} topics are not as the configuration asks",
            plan.len()
        ))),
    }
}

fn row(topic: &TopicPlan, info: Option<&TopicInfo>, verdict: String) -> Vec<String> {
    let number = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
    vec![
        topic.name.clone(),
        number(info.map(|info| info.partitions.into())),
        number(info.map(|info| info.replication.into())),
        number(info.and_then(|info| info.min_insync).map(i64::from)),
        info.and_then(|info| info.retention_ms)
            .map_or("-".to_owned(), retention),
        number(info.and_then(|info| info.max_message_bytes)),
        verdict,
    ]
}

fn object(topic: &TopicPlan, info: Option<&TopicInfo>, verdict: &str) -> serde_json::Value {
    json!({
        "topic": topic.name,
        "exists": info.is_some(),
        "partitions": info.map(|info| info.partitions),
        "replication": info.map(|info| info.replication),
        "minInsync": info.and_then(|info| info.min_insync),
        "retentionMs": info.and_then(|info| info.retention_ms),
        "maxMessageBytes": info.and_then(|info| info.max_message_bytes),
        "ok": verdict == "ok",
        "verdict": verdict,
    })
}

/// Whole units, as the configuration writes durations.
fn retention(ms: i64) -> String {
    match u64::try_from(ms) {
        Err(_) => "for ever".to_owned(),
        Ok(ms) => {
            let hours = ms / 3_600_000;
            if hours > 0 && hours % 24 == 0 {
                format!("{}d", hours / 24)
            } else if hours > 0 {
                format!("{hours}h")
            } else {
                format!("{ms}ms")
            }
        }
    }
}

/// An absent broker is told apart from a slow answer, and sooner.
pub(super) async fn present(cluster: &Cluster) -> Result<(), KafkaError> {
    cluster.probe(PROBE).await.map(drop)
}

async fn look(settings: &Settings, plan: &[TopicPlan]) -> Result<Vec<TopicInfo>, Failure> {
    let names: Vec<_> = plan.iter().map(|topic| topic.name.clone()).collect();
    let cluster = Cluster::new(settings.kafka.clone());
    let call = async {
        present(&cluster).await?;
        patient(async || cluster.describe(&names).await).await
    };
    limited(settings, call).await
}

/// A broker that was there a moment ago may be about to elect a leader, or be slow: what may work later is asked again,
/// for half of the time. All that is asked here can be asked twice.
async fn patient<T>(call: impl AsyncFn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let until = Instant::now() + LIMIT / 2;
    loop {
        match call().await {
            Err(error) if error.is_transient() && Instant::now() < until => {
                tracing::debug!(%error, "asking again");
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// The call's result, or one line that names the brokers.
pub(super) async fn limited<T>(
    settings: &Settings,
    call: impl Future<Output = Result<T, KafkaError>>,
) -> Result<T, Failure> {
    let brokers = &settings.kafka.brokers;
    match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::failed(format!("{brokers}: {error}"))),
        Err(_) => Err(Failure::failed(format!(
            "{brokers}: no broker answered within {} s",
            LIMIT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_may_work_later_is_asked_again_and_a_no_is_not() {
        let asked = Cell::new(0);
        let answer = |after: u32, error: fn() -> KafkaError| {
            let asked = &asked;
            asked.set(0);
            patient(async move || {
                asked.set(asked.get() + 1);
                if asked.get() < after {
                    Err(error())
                } else {
                    Ok(())
                }
            })
        };
        let away = || KafkaError::Unavailable("away".to_owned());
        let no = || KafkaError::Refused("no".to_owned());
        assert!(answer(4, away).await.is_ok());
        assert_eq!(asked.get(), 4);
        assert!(answer(2, no).await.is_err());
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn retention_reads_like_a_setting() {
        assert_eq!(retention(14 * 24 * 3_600_000), "14d");
        assert_eq!(retention(36 * 3_600_000), "36h");
        assert_eq!(retention(60_000), "60000ms");
        assert_eq!(retention(-1), "for ever");
    }
}
