//! What is committed of a partition: an offset, and a text beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

/// What is to be committed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: i32,
    /// Of the next record.
    pub offset: i64,
    /// Kept beside the offset by the broker, which takes 4096 bytes unless it is told otherwise; empty: none.
    pub metadata: String,
}

impl From<(i32, i64)> for Position {
    fn from((partition, offset): (i32, i64)) -> Self {
        Self {
            partition,
            offset,
            metadata: String::new(),
        }
    }
}

/// What a group has committed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Of the next record.
    pub offset: i64,
    /// The text beside it; `None` if it is not UTF-8, and so not ours.
    pub metadata: Option<String>,
}

/// Positions in one topic. Offsets that Kafka cannot have (negative) are left out.
pub(super) fn listed(topic: &str, positions: &[Position]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for position in positions.iter().filter(|position| position.offset >= 0) {
        let mut element = list.add_partition(topic, position.partition);
        if !position.metadata.is_empty() {
            element.set_metadata(&position.metadata);
        }
        let offset = position.offset;
        if let Err(error) = element.set_offset(Offset::Offset(offset)) {
            tracing::warn!(topic, partition = position.partition, offset, %error, "not an offset");
        }
    }
    list
}

/// The offsets of a list with what lies beside them, where there are any.
pub(super) fn found(list: &TopicPartitionList) -> Vec<(i32, Option<Committed>)> {
    let elements = list.elements();
    let found = elements.iter().map(|element| {
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(Committed {
                offset,
                metadata: metadata(element),
            }),
            _ => None,
        };
        (element.partition(), committed)
    });
    found.collect()
}

/// The binding takes for granted that it is UTF-8, and panics where another tool has written something else.
fn metadata(element: &TopicPartitionListElem<'_>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_into_a_list_and_come_out_of_it_with_their_texts() {
        let mut positions: Vec<Position> = vec![(0, 5).into(), (1, -1).into(), (2, 7).into()];
        positions[2].metadata = "text".to_owned();
        let committed = |offset, text: &str| Committed {
            offset,
            metadata: Some(text.to_owned()),
        };
        assert_eq!(
            found(&listed("t", &positions)),
            [(0, Some(committed(5, ""))), (2, Some(committed(7, "text")))]
        );
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 3);
        assert_eq!(found(&list), [(3, None)]);
    }
}
