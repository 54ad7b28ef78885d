//! `tidegate topics tail`: the records of a topic, decoded.

use std::time::{Duration, Instant};

use tidegate_contract::schema;
use tidegate_kafka::{Cluster, Codec, DecodeError, Decoded, Place, Record, Scan};

use super::topics::{limited, present};
use crate::cli::TailArgs;
use crate::exit::Failure;
use crate::settings::Settings;
use crate::view::record;
use crate::{output, settings};

/// The name in the broker's logs.
const CLIENT: &str = "tidegate-tail";
/// A registry that did not answer is asked again after this time, not for every record.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Prints records until the end, the count, or for ever.
pub async fn run(args: TailArgs) -> Result<(), Failure> {
    if args.from == Place::Latest && !args.follow {
        return Err(Failure::usage(
            "--from latest shows nothing without --follow",
        ));
    }
    let settings = settings::load(&args.settings)?.value;
    let cluster = Cluster::new(settings.kafka.clone());
    let mut scan = open(&settings, &cluster, &args).await?;
    let mut values = Values {
        codec: Codec::new(&settings.registry),
        away: None,
    };
    let wanted = args.job.map(|id| id.to_string());
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let next = scan.next().await;
        let next = next.map_err(|error| Failure::failed(format!("{}: {error}", args.topic)))?;
        let Some(record) = next else { break };
        let key = record.key.as_deref();
        if wanted
            .as_deref()
            .is_some_and(|id| key != Some(id.as_bytes()))
        {
            continue;
        }
        let decoded = values.decode(&record).await;
        let line = serde_json::to_string(&record::line(&record, decoded));
        if !output::is_read(line.map_err(Failure::failed)?) {
            break;
        }
        left -= 1;
    }
    Ok(())
}

async fn open(settings: &Settings, cluster: &Cluster, args: &TailArgs) -> Result<Scan, Failure> {
    let topic = name(&settings.kafka.prefix, &args.topic);
    let call = async {
        present(cluster).await?;
        Scan::of(cluster, &topic, args.from, CLIENT).await
    };
    match limited(settings, call).await? {
        Some(scan) if args.follow => Ok(scan.follow()),
        Some(scan) => Ok(scan),
        None => {
            let prefix = &settings.kafka.prefix;
            let plan = settings.topic_plan();
            let known = plan.iter().map(|topic| topic.name.as_str());
            let known: Vec<_> = known
                .map(|name| name.strip_prefix(prefix).unwrap_or(name))
                .collect();
            Err(Failure::failed(format!(
                "there is no topic {topic}: with these settings there may be {}",
                known.join(", ")
            )))
        }
    }
}

/// The topic's name under the prefix; a name that has it already is left alone.
fn name(prefix: &str, topic: &str) -> String {
    match topic.starts_with(prefix) {
        true => topic.to_owned(),
        false => format!("{prefix}{topic}"),
    }
}

/// What values mean, as the registry says.
struct Values {
    codec: Codec,
    /// When the registry did not answer, and why.
    away: Option<(Instant, String)>,
}

impl Values {
    async fn decode(&mut self, record: &Record) -> Option<Result<Decoded, DecodeError>> {
        let payload = record.payload.as_deref()?;
        let decoded = self.value(payload).await;
        Some(match decoded {
            Ok(decoded) if decoded.schema.as_deref() == Some(schema::DEAD_LETTER.subject) => {
                Ok(self.dead_letter(payload, decoded).await)
            }
            other => other,
        })
    }

    async fn value(&mut self, payload: &[u8]) -> Result<Decoded, DecodeError> {
        if let Some((at, reason)) = &self.away
            && at.elapsed() < ASK_AGAIN
        {
            return Err(DecodeError::RegistryUnavailable(reason.clone()));
        }
        let decoded = self.codec.decode_any(payload).await;
        self.away = match &decoded {
            Err(DecodeError::RegistryUnavailable(reason)) => Some((Instant::now(), reason.clone())),
            _ => None,
        };
        decoded
    }

    /// A dead letter holds a record whole: where its value can be read, that is what an operator wants to see.
    async fn dead_letter(&mut self, payload: &[u8], mut decoded: Decoded) -> Decoded {
        let letter = self.codec.decode_dead_letter(payload).await;
        if let Ok(letter) = letter
            && let Some(value) = letter.value
            && let Ok(inner) = self.value(&value).await
            && let Some(place) = decoded.value.get_mut("value")
        {
            *place = inner.value;
        }
        decoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_may_be_left_out_or_given() {
        assert_eq!(name("tidegate.", "replies"), "tidegate.replies");
        assert_eq!(name("tidegate.", "tidegate.replies"), "tidegate.replies");
        assert_eq!(name("", "replies"), "replies");
    }
}
