//! What a principal may do, learnt by trying it where nothing can come of it.
//!
//! Kafka's authorizer is asked first by every request, so a request that is refused for another reason afterwards
//! tells the right without using it:
//!
//! | right | what is tried | why nothing comes of it |
//! |---|---|---|
//! | read a topic | a fetch at the end of partition 0 | it is a read |
//! | write a topic | a produce that wants `acks=2` | Kafka has refused that since 0.9, before it looks at the log |
//! | read a group | a commit for a topic that does not exist | unknown topics are taken out before anything is stored; nobody joins |
//!
//! The binding shows neither a topic's authorized operations nor ACLs, which would need rights of their own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, EMBEDDED_ID};
use crate::error::describe;

/// How long one poll lasts.
const STEP: Duration = Duration::from_millis(20);
/// How soon a broker has said that a group is none of this principal's business.
const COORDINATOR: Duration = Duration::from_millis(500);

/// One thing that a role has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    ReadTopic(String),
    WriteTopic(String),
    /// To join a group and to commit in it.
    ReadGroup(String),
}

/// What the broker says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Allowed,
    Denied,
    /// It did not say, and why.
    Unknown(String),
}

impl Cluster {
    /// Which of these rights the configured principal has. The topics must be there. Nothing is written, committed or
    /// joined. Ends within about `limit`.
    pub async fn try_rights(&self, wanted: Vec<Right>, limit: Duration) -> BTreeMap<Right, Answer> {
        let none = match self.probe(limit).await {
            // It has no ACLs, and would take the record.
            Ok(info) if info.cluster_id.starts_with(EMBEDDED_ID) => {
                Some("the embedded broker has no ACLs".to_owned())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = none {
            let none = Answer::Unknown(reason);
            return wanted.into_iter().map(|w| (w, none.clone())).collect();
        }
        let until = Instant::now() + limit;
        let mut writes = Vec::new();
        let mut trials = Vec::new();
        for right in wanted {
            match &right {
                Right::WriteTopic(topic) => writes.push(topic.clone()),
                Right::ReadTopic(topic) => {
                    let (topic, config) = (topic.clone(), self.trial_of_reading());
                    let trial = move || may_read(&config, &topic, until);
                    trials.push((right, tokio::task::spawn_blocking(trial)));
                }
                Right::ReadGroup(group) => {
                    let (config, topic) = (self.reading_as(group), self.no_topic());
                    let trial = move || may_read_group(&config, &topic, until);
                    trials.push((right, tokio::task::spawn_blocking(trial)));
                }
            }
        }
        let config = self.trial_of_writing(limit);
        let writing = tokio::task::spawn_blocking(move || may_write(&config, writes, until));
        let mut found = BTreeMap::new();
        for (right, trial) in trials {
            let answer = trial.await;
            found.insert(
                right,
                answer.unwrap_or_else(|e| Answer::Unknown(e.to_string())),
            );
        }
        for (topic, answer) in writing.await.unwrap_or_default() {
            found.insert(Right::WriteTopic(topic), answer);
        }
        found
    }

    /// A topic that nobody makes.
    fn no_topic(&self) -> String {
        format!("{}no-such-topic", self.topics().prefix())
    }

    fn trial_of_reading(&self) -> ClientConfig {
        let mut config = self.hand_assigned("tidegate-rights");
        config.set("enable.partition.eof", "true");
        config
    }

    fn trial_of_writing(&self, limit: Duration) -> ClientConfig {
        let mut config = self.admin_config();
        config
            // By both of its names: what the configuration passes through must not make a real produce of it.
            .set("acks", "2")
            .set("request.required.acks", "2")
            .set("enable.idempotence", "false")
            .set("retries", "0")
            .set("linger.ms", "0")
            .set("message.timeout.ms", limit.as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", "1000");
        config
    }
}

/// Callbacks of a client that tries something: what became of the record.
#[derive(Default)]
struct Trial {
    outcome: Mutex<Option<Result<(), Code>>>,
}

impl Trial {
    fn take(&self) -> Option<Result<(), Code>> {
        let mut outcome = self.outcome.lock().unwrap_or_else(|p| p.into_inner());
        outcome.take()
    }

    fn set(&self, result: Result<(), Code>) {
        let mut outcome = self.outcome.lock().unwrap_or_else(|p| p.into_inner());
        *outcome = Some(result);
    }
}

impl ClientContext for Trial {
    // Whoever tries is told by the answer.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: Native, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Trial {}

impl ProducerContext for Trial {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.set(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        });
    }
}

fn may_read(config: &ClientConfig, topic: &str, until: Instant) -> Answer {
    let mut list = TopicPartitionList::new();
    let consumer: BaseConsumer<Trial> = match config.create_with_context(Trial::default()) {
        Ok(consumer) => consumer,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let left = until.saturating_duration_since(Instant::now());
    match consumer.fetch_metadata(Some(topic), left) {
        Err(error) => return Answer::Unknown(describe(&error)),
        // One that may not even be seen is never asked for.
        Ok(metadata) => {
            let errors = metadata.topics().iter().filter_map(|topic| topic.error());
            if errors
                .map(Code::from)
                .any(|code| code == Code::TopicAuthorizationFailed)
            {
                return Answer::Denied;
            }
        }
    }
    let assigned = list
        .add_partition_offset(topic, 0, Offset::End)
        .and_then(|()| consumer.assign(&list));
    if let Err(error) = assigned {
        return Answer::Unknown(describe(&error));
    }
    let mut trouble = None;
    while Instant::now() < until {
        match consumer.poll(STEP) {
            None => {}
            // A record that came just now says the same as the end.
            Some(Ok(_)) | Some(Err(Native::PartitionEOF(_))) => return Answer::Allowed,
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(Code::TopicAuthorizationFailed) => return Answer::Denied,
                // Of the group that nobody joins: another right.
                Some(Code::GroupAuthorizationFailed) => {}
                _ => trouble = Some(describe(&error)),
            },
        }
    }
    unanswered(trouble)
}

fn may_read_group(config: &ClientConfig, no_topic: &str, until: Instant) -> Answer {
    let mut config = config.clone();
    // How long a commit waits for the coordinator of its group. Nobody joins, so it is no session.
    config
        .set("session.timeout.ms", "2000")
        .set("heartbeat.interval.ms", "500")
        .set("retry.backoff.ms", "20");
    let consumer: BaseConsumer<Trial> = match config.create_with_context(Trial::default()) {
        Ok(consumer) => consumer,
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    // Who may not even ask for the coordinator hears it as an error of the consumer, and the commit would wait.
    if is_group_denied(&consumer, until.min(Instant::now() + COORDINATOR)) {
        return Answer::Denied;
    }
    let mut list = TopicPartitionList::new();
    // The binding tells nothing of a commit that is not waited for.
    let committed = list
        .add_partition_offset(no_topic, 0, Offset::Offset(0))
        .and_then(|()| consumer.commit(&list, CommitMode::Sync));
    match committed.map_err(|error| error.rdkafka_error_code()) {
        Err(Some(Code::GroupAuthorizationFailed)) => Answer::Denied,
        // Past the group: what is wrong is the topic, as intended.
        Ok(())
        | Err(Some(
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::TopicAuthorizationFailed
            | Code::UnknownMemberId,
        )) => Answer::Allowed,
        Err(code) => match is_group_denied(&consumer, Instant::now() + STEP) {
            true => Answer::Denied,
            false => unanswered(code.map(|code| code.to_string())),
        },
    }
}

/// Whether the consumer has said so, or says so until then.
fn is_group_denied(consumer: &BaseConsumer<Trial>, until: Instant) -> bool {
    while Instant::now() < until {
        if let Some(Err(error)) = consumer.poll(STEP)
            && error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed)
        {
            return true;
        }
    }
    false
}

/// Topic after topic, so that a broker which takes what it should refuse is noticed at the first one.
fn may_write(config: &ClientConfig, topics: Vec<String>, until: Instant) -> Vec<(String, Answer)> {
    let producer: BaseProducer<Trial> = match config.create_with_context(Trial::default()) {
        Ok(producer) => producer,
        Err(error) => {
            let answer = Answer::Unknown(error.to_string());
            return topics.into_iter().map(|t| (t, answer.clone())).collect();
        }
    };
    let mut taken = false;
    let mut found = Vec::new();
    for topic in topics {
        let answer = match taken {
            true => Answer::Unknown(TAKEN.to_owned()),
            false => write(&producer, &topic, until, &mut taken),
        };
        found.push((topic, answer));
    }
    found
}

const TAKEN: &str = "this broker takes what Kafka refuses, so rights to write are not tried";

fn write(producer: &BaseProducer<Trial>, topic: &str, until: Instant, taken: &mut bool) -> Answer {
    let record = BaseRecord::<str, [u8]>::to(topic)
        .partition(0)
        .key("tidegate-doctor")
        .payload(b"");
    if let Err((error, _)) = producer.send(record) {
        // The client has heard of the topic already, with all others that it has to do with.
        return match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => Answer::Denied,
            _ => Answer::Unknown(describe(&error)),
        };
    }
    while Instant::now() < until {
        producer.poll(STEP);
        match producer.context().take() {
            None => {}
            Some(Err(Code::InvalidRequiredAcks)) => return Answer::Allowed,
            Some(Err(Code::TopicAuthorizationFailed)) => return Answer::Denied,
            Some(Ok(())) => {
                *taken = true;
                return Answer::Unknown(TAKEN.to_owned());
            }
            Some(Err(code)) => return Answer::Unknown(code.to_string()),
        }
    }
    unanswered(None)
}

fn unanswered(trouble: Option<String>) -> Answer {
    Answer::Unknown(trouble.unwrap_or_else(|| "no answer in time".to_owned()))
}
