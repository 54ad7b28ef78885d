//! A consumer whose group decides what it reads.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;

use super::handle::{AGAIN, CALL, Handle, Read, blocking};
use super::position::{self, Committed, Position};
use super::{ConsumerEvent, partitions};
use crate::embedded::memory::MemoryGuard;
use crate::error::{KafkaError, describe};

/// What a group consumer reads, and how.
#[derive(Clone)]
pub struct GroupOptions {
    pub topic: String,
    pub group: String,
    pub client_id: String,
    /// Tell when the end of a partition is reached.
    pub partition_eof: bool,
    /// Asked for what is to be committed when partitions are taken away.
    pub on_revoke: Option<Arc<dyn OnRevoke>>,
    /// Bytes that may be fetched ahead, over all partitions.
    pub queued_bytes: usize,
    /// How long the broker may hold back an answer for want of records, where that is not to be the usual: who need not
    /// know of a record at once asks less often.
    pub fetch_wait: Option<Duration>,
}

impl GroupOptions {
    /// A topic and a group, 16 MiB ahead, nothing else.
    pub fn new(
        topic: impl Into<String>,
        group: impl Into<String>,
        client_id: impl Into<String>,
    ) -> Self {
        Self {
            topic: topic.into(),
            group: group.into(),
            client_id: client_id.into(),
            partition_eof: false,
            on_revoke: None,
            queued_bytes: 16 << 20,
            fetch_wait: None,
        }
    }
}

/// Knows what is done when partitions are taken away.
pub trait OnRevoke: Send + Sync {
    /// The offsets (of the next record, per partition) to commit before these partitions are given up. Called inside
    /// the rebalance, on the task that reads or the thread that closes: it must be quick, and wait for neither.
    fn offsets_to_commit(&self, partitions: &[i32]) -> Vec<Position>;
}

/// A member of a consumer group on one topic.
///
/// Events are handed out in the order in which they happen: a record that comes before `Revoked` was read while the
/// partition was ours, and none of a revoked partition comes after. Read with one task; the other methods may be
/// called from any. While nobody calls [`next`](Self::next) rebalances do not proceed.
pub struct GroupConsumer {
    handle: Handle,
    guard: Option<Arc<MemoryGuard>>,
}

impl GroupConsumer {
    pub(crate) fn new(
        config: &ClientConfig,
        options: GroupOptions,
        guard: Option<Arc<MemoryGuard>>,
    ) -> Result<Self, KafkaError> {
        let handle = Handle::new(config, options.topic, options.on_revoke, guard.clone())?;
        handle
            .native()?
            .subscribe(&[&handle.topic])
            .map_err(|error| KafkaError::Settings(describe(&error)))?;
        Ok(Self { handle, guard })
    }

    /// The next event. Never ends: what does not work is `Trouble`, and is tried again. Cancel safe. Once the consumer
    /// is closed it waits for ever.
    pub async fn next(&self) -> ConsumerEvent {
        loop {
            let lost = match self.handle.read().await {
                Read::Event(event) => return event,
                Read::Lost(lost) => lost,
            };
            let topic = self.handle.topic.as_str();
            match self.handle.renew(lost, |native| native.subscribe(&[topic])) {
                None => tokio::time::sleep(AGAIN).await,
                Some(owned) if owned.is_empty() => {}
                Some(owned) => return ConsumerEvent::Revoked(owned.into_iter().collect()),
            }
        }
    }

    /// Stops handing out records of these partitions; what was fetched of them is dropped. Unknown ones are ignored.
    pub fn pause(&self, which: &[i32]) {
        let list = partitions(&self.handle.topic, which);
        if let Ok(native) = self.handle.native()
            && let Err(error) = native.pause(&list)
        {
            tracing::warn!(topic = %self.handle.topic, %error, "pause");
        }
    }

    /// Goes on after [`pause`](Self::pause), where the records handed out end.
    pub fn resume(&self, which: &[i32]) {
        let list = partitions(&self.handle.topic, which);
        if let Ok(native) = self.handle.native()
            && let Err(error) = native.resume(&list)
        {
            tracing::warn!(topic = %self.handle.topic, %error, "resume");
        }
    }

    /// Makes `offset` the next record of a partition that is ours. Waits, for up to five seconds, until the partition
    /// is ready for it: right after `Assigned` it still asks for its committed offset.
    pub async fn seek(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let native = self.handle.native()?;
        let until = Instant::now() + CALL;
        loop {
            let list = position::listed(&self.handle.topic, &[(partition, offset).into()]);
            let consumer = native.clone();
            let result = blocking(move || consumer.seek_partitions(list, CALL)).await?;
            let error = match result {
                Ok(list) => match element_error(&list, &self.handle.topic, partition) {
                    None => return Ok(()),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            let again = matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::State
                        | Code::Outdated
                        | Code::PreviousInProgress
                        | Code::OperationTimedOut
                )
            );
            if !again || Instant::now() >= until {
                let text = format!("seek of partition {partition}: {}", describe(&error));
                return Err(if again {
                    KafkaError::Unavailable(text)
                } else {
                    KafkaError::Refused(text)
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Commits these positions without waiting; only a failure is told of, as `Committed`.
    pub fn commit<P: Into<Position> + Clone>(&self, positions: &[P]) {
        let positions = own(positions);
        let list = position::listed(&self.handle.topic, &positions);
        let Ok(native) = self.handle.native() else {
            return;
        };
        if list.count() == 0 {
            return;
        }
        match native.commit(&list, CommitMode::Async) {
            Ok(()) => self.read_to(&positions),
            Err(error) => {
                let refused = ConsumerEvent::Committed(Err(describe(&error)));
                native.context().tell(refused);
            }
        }
    }

    /// Commits these positions and waits for the broker. Those of partitions that are not ours any more are left out:
    /// the broker would take them, and the next owner's would be lost.
    pub async fn commit_sync<P: Into<Position> + Clone>(
        &self,
        positions: &[P],
    ) -> Result<(), KafkaError> {
        let mut positions = own(positions);
        let (native, topic) = (self.handle.native()?, self.handle.topic.clone());
        let committed = blocking(move || {
            let context = native.context();
            let _alone = context.committing();
            let owned = context.owned().clone();
            positions.retain(|position| owned.contains(&position.partition));
            let list = position::listed(&topic, &positions);
            if list.count() > 0 {
                native.commit(&list, CommitMode::Sync)?;
            }
            Ok::<_, rdkafka::error::KafkaError>(positions)
        });
        self.read_to(&committed.await?.map_err(KafkaError::call)?);
        Ok(())
    }

    fn read_to(&self, positions: &[Position]) {
        if let Some(guard) = &self.guard {
            for position in positions {
                guard.read_to(&self.handle.topic, position.partition, position.offset);
            }
        }
    }

    /// What the group has committed of these partitions, as the broker has it; `None` where there is nothing.
    pub async fn committed(&self, which: &[i32]) -> Result<Vec<(i32, Option<i64>)>, KafkaError> {
        let found = self.committed_whole(which).await?;
        let offsets = found.into_iter().map(|(partition, committed)| {
            let offset = committed.map(|committed| committed.offset);
            (partition, offset)
        });
        Ok(offsets.collect())
    }

    /// The same with the texts beside the offsets.
    pub async fn committed_whole(
        &self,
        which: &[i32],
    ) -> Result<Vec<(i32, Option<Committed>)>, KafkaError> {
        let native = self.handle.native()?;
        let list = partitions(&self.handle.topic, which);
        let found = blocking(move || {
            let found = native.committed_offsets(list, CALL)?;
            for element in found.elements() {
                element.error()?;
            }
            Ok::<_, rdkafka::error::KafkaError>(position::found(&found))
        });
        found.await?.map_err(KafkaError::call)
    }

    /// The first offset that is there and the one that the next record will get.
    pub async fn watermarks(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.handle.watermarks(partition).await
    }

    /// Leaves the group, on a thread of its own, and waits for that no longer than `limit`: while the broker is away
    /// it takes as long as a session. Goes through `on_revoke` like any rebalance. Dropping does the same without
    /// waiting.
    pub async fn close(&self, limit: Duration) {
        if let Some(closed) = self.handle.close() {
            let _ = tokio::time::timeout(limit, closed).await;
        }
    }
}

fn own<P: Into<Position> + Clone>(positions: &[P]) -> Vec<Position> {
    positions.iter().cloned().map(Into::into).collect()
}

fn element_error(
    list: &TopicPartitionList,
    topic: &str,
    partition: i32,
) -> Option<rdkafka::error::KafkaError> {
    list.find_partition(topic, partition)?.error().err()
}
