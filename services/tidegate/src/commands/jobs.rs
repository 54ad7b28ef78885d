//! `tidegate jobs show`: what happened to a job.

use serde_json::{Value, json};
use tidegate_contract::time::parse_rfc3339;
use tidegate_contract::{JobId, Millis};
use tidegate_kafka::{Cluster, Codec, KafkaError, Place, Record, Scan};
use tidegate_runtime::config::Loaded;

use super::client::{self, Told};
use super::topics::present;
use crate::cli::{SettingsArgs, ShowArgs};
use crate::exit::Failure;
use crate::settings::Settings;
use crate::view::timeline::{self, Line, Said, Sent};
use crate::{output, settings};

/// The name in the broker's logs.
const CLIENT: &str = "tidegate-jobs";
/// How far the clocks of gateways and brokers may be apart, in milliseconds.
const SKEW: Millis = 30_000;
/// How long after a job's end records of it are looked for, in milliseconds: a repeat after a crash comes within that.
const AFTER_END: Millis = 120_000;

/// Prints the timeline.
pub async fn run(args: ShowArgs) -> Result<(), Failure> {
    let loaded = settings::load(&args.settings)?;
    let told = client::status(&args.gateway, args.id).await?;
    let mut notes = Vec::new();
    let status = match &told {
        Told::Status(status) => Some(status),
        Told::None(reason) | Told::Nothing(reason) => {
            notes.push(reason.clone());
            None
        }
    };
    let mut found = Found::default();
    if names_kafka(&args.settings, &loaded) {
        match look(&loaded.value, args.id, status).await {
            Ok(records) => found = records,
            Err(error) => notes.push(format!(
                "events are not shown: {}: {error}",
                loaded.value.kafka.brokers
            )),
        }
    } else {
        notes.push("events are not shown: say where Kafka is, with --config FILE or --set kafka.brokers=HOST:PORT".to_owned());
    }
    let accepted = status.and_then(|status| parse_rfc3339(status["createdAt"].as_str()?));
    let accepted = accepted.unwrap_or(args.id.created_at());
    let lines = timeline::lines(accepted, status, &found.sent, &found.said);
    if lines.is_empty() {
        return Err(Failure::failed(match told {
            Told::Nothing(_) => notes.join("\n"),
            _ => notes.swap_remove(0),
        }));
    }
    if args.json {
        let all = json!({ "jobId": args.id, "status": status, "timeline": lines, "notes": notes });
        output::line(all.to_string());
        return Ok(());
    }
    output::line(head(args.id, status, &lines));
    let columns = [
        "time",
        "since accept",
        "event",
        "attempt",
        "worker",
        "detail",
    ];
    output::line(output::table(&columns, &timeline::rows(&lines)));
    for note in notes {
        output::complain(note);
    }
    Ok(())
}

/// Whether it was said where Kafka is: another one may be where the defaults point to.
fn names_kafka(args: &SettingsArgs, loaded: &Loaded<Settings>) -> bool {
    let named = |line: &tidegate_runtime::config::Line| {
        line.key == "kafka.brokers" && line.source != "default"
    };
    args.config.is_some() || loaded.describe().iter().any(named)
}

fn head(id: JobId, status: Option<&Value>, lines: &[Line]) -> String {
    let Some(status) = status else {
        return format!("job {id}, {} records in Kafka", lines.len());
    };
    let text = |name: &str| status[name].as_str().unwrap_or("-");
    format!(
        "job       {id}
type      {} (pool {}, tier {}, tenant {})
status    {}, attempt {}
deadline  {}
trace     {}
",
        text("type"),
        text("pool"),
        text("tier"),
        text("tenant"),
        text("status"),
        status["attempt"],
        text("deadline"),
        text("traceId"),
    )
}

/// The records of a job in Kafka, in the order of their topics.
#[derive(Default)]
struct Found {
    sent: Vec<Sent>,
    said: Vec<Said>,
}

/// Looks where the job's time and its record say that its records are.
async fn look(settings: &Settings, id: JobId, status: Option<&Value>) -> Result<Found, KafkaError> {
    let cluster = Cluster::new(settings.kafka.clone());
    present(&cluster).await?;
    let codec = Codec::new(&settings.registry);
    let ended = status.and_then(|status| parse_rfc3339(status["endedAt"].as_str()?));
    let search = Search {
        cluster: &cluster,
        key: id.to_string(),
        since: id.created_at() - SKEW,
        until: ended.map(|at| at + AFTER_END),
    };
    let mut found = Found::default();
    let (mut partition, mut records) = (None, Vec::new());
    let rungs = settings.kafka.delay_rungs.rungs().iter();
    let rungs = rungs.map(|rung| cluster.topics().delay(*rung));
    for topic in jobs_topics(settings, status).into_iter().chain(rungs) {
        records.extend(search.records(&topic, None).await?);
    }
    for record in records {
        partition = record.headers.reply_partition().ok().or(partition);
        found.sent.push(sent(&record));
    }
    found.sent.sort_by_key(|sent| sent.at);
    let replies = cluster.topics().replies();
    for record in search.records(&replies, partition).await? {
        let event = match &record.payload {
            None => Err("it has no value".to_owned()),
            Some(payload) => codec
                .decode_event(payload)
                .await
                .map_err(|error| error.to_string()),
        };
        let place = place(&record);
        let at = record.timestamp.unwrap_or_default();
        found.said.push(Said { place, at, event });
    }
    Ok(found)
}

/// The jobs topic of the job's pool and tier, or all that there may be.
fn jobs_topics(settings: &Settings, status: Option<&Value>) -> Vec<String> {
    let topics = tidegate_contract::Topics::new(settings.kafka.prefix.clone());
    let named = status.and_then(|status| {
        let pool = status["pool"].as_str()?.parse().ok()?;
        Some(topics.jobs(&pool, status["tier"].as_str()?.parse().ok()?))
    });
    let first = format!("{}jobs.", settings.kafka.prefix);
    match named {
        Some(topic) => vec![topic],
        None => {
            let all = settings.topic_plan().into_iter().map(|topic| topic.name);
            all.filter(|name| name.starts_with(&first)).collect()
        }
    }
}

struct Search<'c> {
    cluster: &'c Cluster,
    key: String,
    since: Millis,
    until: Option<Millis>,
}

impl Search<'_> {
    async fn records(
        &self,
        topic: &str,
        partition: Option<i32>,
    ) -> Result<Vec<Record>, KafkaError> {
        let scan = Scan::of(self.cluster, topic, Place::Earliest, CLIENT).await?;
        let Some(mut scan) = scan else {
            return Ok(Vec::new());
        };
        if let Some(wanted) = partition {
            scan.only(|partition, _| partition == wanted);
        }
        let mut scan = scan.between(self.cluster, self.since, self.until).await?;
        let mut found = Vec::new();
        while let Some(record) = scan.next().await? {
            if record.key.as_deref() == Some(self.key.as_bytes()) {
                found.push(record);
            }
        }
        Ok(found)
    }
}

fn sent(record: &Record) -> Sent {
    Sent {
        place: place(record),
        at: record.timestamp.unwrap_or_default(),
        attempt: record.headers.attempt().unwrap_or_default(),
        parked: record.headers.parked(),
        delayed: record.headers.due().is_ok(),
        size: record.payload.as_ref().map_or(0, |payload| payload.len()),
    }
}

fn place(record: &Record) -> timeline::Place {
    timeline::Place {
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
    }
}
