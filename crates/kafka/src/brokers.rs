//! Which brokers there are, and how old Kafka is at most.
//!
//! No answer of a broker names its version. It tells which versions of each request it takes, from which the release
//! follows; librdkafka keeps that to itself, but writes it into its log when it is asked to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use crate::cluster::Cluster;
use crate::error::KafkaError;

/// How long the log may take to say what the connection has brought.
const LOG: Duration = Duration::from_millis(500);

/// What is known of the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers {
    /// `host:port` of each, as advertised, by their ids.
    pub addresses: Vec<String>,
    /// The release that the one that was asked has at least; `None` if it is older than 2.3, or does not say.
    pub release: Option<&'static str>,
}

/// Versions of the requests that a broker takes, by their number.
type Requests = BTreeMap<i16, (i16, i16)>;

const FETCH: i16 = 1;
const SHARE_FETCH: i16 = 78;

/// By what came with each: KIP-932, 1166, 896, 853, 951, 903, 516, 595 and 392.
fn release(requests: &Requests) -> Option<&'static str> {
    let share = requests.get(&SHARE_FETCH).map_or(0, |(_, newest)| *newest);
    let (oldest, newest) = *requests.get(&FETCH)?;
    match newest {
        _ if share >= 2 => Some("4.2"),
        18.. => Some("4.1"),
        _ if oldest >= 4 => Some("4.0"),
        17 => Some("3.9"),
        16 => Some("3.7"),
        15 => Some("3.5"),
        13.. => Some("3.1"),
        12 => Some("2.7"),
        11 => Some("2.3"),
        _ => None,
    }
}

/// A line such as `…: ApiKey Fetch (1) Versions 4..18`.
fn request(line: &str) -> Option<(i16, (i16, i16))> {
    let (_, rest) = line.split_once("ApiKey ")?;
    let (_, rest) = rest.split_once('(')?;
    let (key, rest) = rest.split_once(") Versions ")?;
    let (oldest, newest) = rest.trim().split_once("..")?;
    Some((
        key.parse().ok()?,
        (oldest.parse().ok()?, newest.parse().ok()?),
    ))
}

#[derive(Default)]
struct Listening {
    requests: Mutex<Requests>,
}

impl ClientContext for Listening {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if let Some((key, versions)) = request(message) {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.insert(key, versions);
        }
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Listening {}

impl Cluster {
    /// Asks for the brokers. Ends within about `limit`.
    pub async fn brokers(&self, limit: Duration) -> Result<Brokers, KafkaError> {
        let mut config = self.admin_config();
        config
            .set("debug", "feature")
            .set_log_level(RDKafkaLogLevel::Debug);
        let topic = self.topics().replies();
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer<Listening> = config
                .create_with_context(Listening::default())
                .map_err(|error| KafkaError::Settings(error.to_string()))?;
            let metadata = client
                .fetch_metadata(Some(&topic), limit)
                .map_err(KafkaError::call)?;
            let mut brokers: Vec<_> = metadata.brokers().iter().collect();
            brokers.sort_by_key(|broker| broker.id());
            let addresses = brokers.iter();
            let addresses = addresses.map(|broker| format!("{}:{}", broker.host(), broker.port()));
            let addresses = addresses.collect();
            let until = Instant::now() + LOG;
            let release = loop {
                let _ = client.poll(Duration::from_millis(5));
                let requests = &client.context().requests;
                let found = release(&requests.lock().unwrap_or_else(PoisonError::into_inner));
                if found.is_some() || Instant::now() >= until {
                    break found;
                }
            };
            Ok(Brokers { addresses, release })
        });
        asked
            .await
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_the_log() {
        let line =
            "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/1:   ApiKey Fetch (1) Versions 4..18";
        assert_eq!(request(line), Some((1, (4, 18))));
        let unknown = "x:   ApiKey Unknown-93? (93) Versions 0..1";
        assert_eq!(request(unknown), Some((93, (0, 1))));
        assert_eq!(request("Enabling feature MsgVer2"), None);
        assert_eq!(request("ApiKey Fetch (1) Versions 4"), None);
    }

    #[test]
    fn a_release_is_at_least_what_its_requests_came_with() {
        let of = |fetch, share| {
            let mut requests = Requests::from([(FETCH, fetch)]);
            if let Some(newest) = share {
                requests.insert(SHARE_FETCH, (1, newest));
            }
            release(&requests)
        };
        assert_eq!(of((4, 18), Some(2)), Some("4.2"));
        assert_eq!(of((4, 18), Some(1)), Some("4.1"));
        assert_eq!(of((4, 17), None), Some("4.0"));
        assert_eq!(of((0, 17), None), Some("3.9"));
        assert_eq!(of((0, 16), None), Some("3.7"));
        assert_eq!(of((0, 13), None), Some("3.1"));
        assert_eq!(of((0, 4), None), None);
        assert_eq!(release(&Requests::new()), None);
    }
}
