//! The callbacks of a consumer. They run inside a poll, on the task that reads: nothing here may block for long,
//! panic, or ask the consumer for more than an assignment or a commit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc::UnboundedSender;

use super::position;
use super::{ConsumerEvent, OnRevoke};
use crate::contact::Contact;
use crate::embedded::memory::MemoryGuard;
use crate::error::describe;

/// Forwards what happens on a channel that the reader looks at before it takes the next record.
pub(super) struct Callbacks {
    pub(super) topic: String,
    /// A handful of events a rebalance: never many, as nothing is read while nobody reads.
    pub(super) events: UnboundedSender<ConsumerEvent>,
    pub(super) on_revoke: Option<Arc<dyn OnRevoke>>,
    pub(super) guard: Option<Arc<MemoryGuard>>,
    pub(super) contact: Contact,
    /// What the group has given this consumer and not taken back.
    pub(super) owned: Mutex<BTreeSet<i32>>,
    /// Held while a commit is under way, and over the whole of giving partitions up: no commit that was begun before
    /// comes after the last one.
    pub(super) commits: Mutex<()>,
}

impl Callbacks {
    /// What is given up with a consumer that is made anew.
    pub(super) fn owned(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn committing(&self) -> MutexGuard<'_, ()> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, event: ConsumerEvent) {
        // The reader is gone while the consumer closes: nobody needs to know.
        let _ = self.events.send(event);
    }

    fn own(&self, list: &TopicPartitionList) -> Vec<i32> {
        list.elements()
            .iter()
            .filter(|element| element.topic() == self.topic)
            .map(|element| element.partition())
            .collect()
    }

    fn commit_before_revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        let Some(on_revoke) = &self.on_revoke else {
            return;
        };
        let positions = on_revoke.offsets_to_commit(partitions);
        // Lost partitions are somebody else's already: a commit would be refused, or worse.
        if positions.is_empty() || consumer.assignment_lost() {
            return;
        }
        let list = position::listed(&self.topic, &positions);
        if list.count() == 0 {
            return;
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                if let Some(guard) = &self.guard {
                    for position in positions {
                        guard.read_to(&self.topic, position.partition, position.offset);
                    }
                }
                self.tell(ConsumerEvent::Committed(Ok(())));
            }
            Err(error) => self.tell(ConsumerEvent::Committed(Err(format!(
                "before partitions were given up: {}",
                describe(&error)
            )))),
        }
    }
}

impl ClientContext for Callbacks {
    fn stats_raw(&self, statistics: &[u8]) {
        self.contact.observe(statistics);
    }

    fn error(&self, error: Native, reason: &str) {
        // Not an error: the reader is told of it as `EndOfPartition`.
        let end = RDKafkaErrorCode::PartitionEOF;
        if matches!(error, Native::PartitionEOF(_)) || error.rdkafka_error_code() == Some(end) {
            return;
        }
        tracing::warn!(topic = %self.topic, error = %describe(&error), reason, "kafka consumer");
    }

    /// A commit that was not waited for has no callback in this binding, neither when it fails nor when it does not:
    /// librdkafka writes a line about each that fails, whole or in part, and that is all there is to be had.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match facility {
            "COMMITFAIL" => self.tell(ConsumerEvent::Committed(Err(message.to_owned()))),
            _ => DefaultClientContext.log(level, facility, message),
        }
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let own = self.own(list);
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let (result, event) = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let result = if cooperative {
                    consumer.incremental_assign(list)
                } else {
                    consumer.assign(list)
                };
                (result, ConsumerEvent::Assigned(own))
            }
            _ => {
                if !own.is_empty() {
                    blocking(|| {
                        let _alone = self.committing();
                        self.commit_before_revoke(consumer, &own);
                        self.owned().retain(|partition| !own.contains(partition));
                    });
                }
                // librdkafka keeps a pause beyond the assignment, and the reader does not.
                if let Err(error) = consumer.resume(list) {
                    tracing::debug!(topic = %self.topic, %error, "resume before partitions were given up");
                }
                let result = if cooperative {
                    consumer.incremental_unassign(list)
                } else {
                    consumer.unassign()
                };
                (result, ConsumerEvent::Revoked(own))
            }
        };
        if let ConsumerEvent::Assigned(own) = &event {
            self.owned().extend(own);
        }
        match &event {
            // A cooperative rebalance that adds nothing still calls back.
            ConsumerEvent::Assigned(own) | ConsumerEvent::Revoked(own) if own.is_empty() => {}
            _ => self.tell(event),
        }
        if let Err(error) = result {
            self.tell(ConsumerEvent::Trouble(format!(
                "rebalance: {}",
                describe(&error)
            )));
        }
    }
}

/// Runs a call that may wait for the broker. On a runtime with several threads, the other tasks of this thread move
/// to another one first.
fn blocking<T>(call: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(call),
        _ => call(),
    }
}
