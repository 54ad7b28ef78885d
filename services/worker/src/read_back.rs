//! What a group has committed of partitions that were just given to us, asked for until the broker has answered.

use std::sync::Arc;

use tidegate_kafka::{Committed, GroupConsumer, KafkaError};
use tidegate_runtime::backoff::Backoff;
use tokio::sync::mpsc;

/// The answer.
pub(crate) struct ReadBack {
    pub partitions: Vec<Found>,
}

/// What was found of a partition.
pub(crate) struct Found {
    /// Partition and number of the assignment.
    pub assigned: (i32, u64),
    pub committed: Option<Committed>,
    /// The offset that the next record of the partition will get, where that is of interest.
    pub end: Option<i64>,
}

/// Asks and tells. Ends without an answer when the consumer is closed.
pub(crate) async fn read_back(
    consumer: Arc<GroupConsumer>,
    assigned: Vec<(i32, u64)>,
    tell: mpsc::UnboundedSender<ReadBack>,
) {
    let backoff = Backoff::default();
    let mut failures = 0;
    let partitions = loop {
        match ask(&consumer, &assigned).await {
            Ok(partitions) => break partitions,
            Err(KafkaError::Refused(_)) if tell.is_closed() => return,
            Err(error) => {
                tracing::debug!(%error, "committed offsets could not be read back, trying again");
                let pause = backoff.delay(failures, rand::random_range(0.5..1.0));
                failures = failures.saturating_add(1);
                tokio::select! {
                    () = tell.closed() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    };
    let _ = tell.send(ReadBack { partitions });
}

async fn ask(consumer: &GroupConsumer, assigned: &[(i32, u64)]) -> Result<Vec<Found>, KafkaError> {
    let which: Vec<_> = assigned.iter().map(|(partition, _)| *partition).collect();
    let mut found = consumer.committed_whole(&which).await?;
    let mut partitions = Vec::with_capacity(assigned.len());
    for (partition, epoch) in assigned {
        let committed = found.iter_mut().find(|(of, _)| of == partition);
        let committed = committed.and_then(|(_, committed)| committed.take());
        // Only where there is a word of ours: how far its owner may have come.
        let ours = committed
            .as_ref()
            .and_then(|found| found.metadata.as_deref());
        let end = match ours {
            None | Some("") => None,
            Some(_) => Some(consumer.watermarks(*partition).await?.1),
        };
        partitions.push(Found {
            assigned: (*partition, *epoch),
            committed,
            end,
        });
    }
    Ok(partitions)
}
