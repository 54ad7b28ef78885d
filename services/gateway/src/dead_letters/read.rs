//! Reads the dead-letters topic, newest first.

use std::collections::BTreeMap;

use tidegate_contract::{DeadLetter, DeadLetterPlace};
use tidegate_kafka::{Cluster, Codec, KafkaError, Newest, Record};

use super::filter::{Cursor, Filter};

/// The name in the broker's logs.
const CLIENT: &str = "tidegate-dead-letters";
/// Records of a partition that are read at once.
const PIECE: i64 = 64;
/// Records that one request looks at; a list that is not complete by then goes on with its cursor.
const LOOKED_AT: usize = 5_000;
/// The reason of a dead letter that cannot be read itself.
const UNREADABLE: &str = "unreadable-letter";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub filter: Filter,
    pub from: Cursor,
    pub limit: usize,
    /// The records themselves are wanted too.
    pub values: bool,
}

/// A dead letter and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub place: DeadLetterPlace,
    pub letter: DeadLetter,
    /// The record was kept whole.
    pub whole: bool,
}

/// A part of the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub found: Vec<Found>,
    /// Where it goes on, if there is more.
    pub next: Option<Cursor>,
    pub looked_at: usize,
}

/// The newest letters below the cursor that the filter takes.
pub async fn page(cluster: &Cluster, codec: &Codec, ask: &Ask) -> Result<Page, KafkaError> {
    let topic = cluster.topics().dead_letters();
    let Some(mut newest) = Newest::of(cluster, &topic, CLIENT, &ask.from.0).await? else {
        return Ok(Page::default());
    };
    let mut below: BTreeMap<i32, i64> = newest.positions().collect();
    let mut held: BTreeMap<i32, Vec<Found>> = below.keys().map(|p| (*p, Vec::new())).collect();
    let mut page = Page::default();
    loop {
        for (partition, items) in &mut held {
            if items.is_empty() && newest.has_more(*partition) {
                for record in newest.piece(*partition, PIECE).await? {
                    items.push(read(codec, record, ask.values).await);
                }
            }
        }
        let heads = held.iter();
        let heads =
            heads.filter_map(|(partition, items)| Some((items.last()?.letter.at, *partition)));
        let Some((_, partition)) = heads.max() else {
            return Ok(page);
        };
        if page.found.len() >= ask.limit || page.looked_at >= LOOKED_AT {
            page.next = Some(Cursor(below));
            return Ok(page);
        }
        let Some(item) = held.get_mut(&partition).and_then(Vec::pop) else {
            return Ok(page);
        };
        below.insert(partition, item.place.offset);
        page.looked_at += 1;
        if ask.filter.takes(&item.letter) {
            page.found.push(item);
        }
    }
}

/// The letter at a place; `None` if there is none any more.
pub async fn one(
    cluster: &Cluster,
    codec: &Codec,
    place: DeadLetterPlace,
) -> Result<Option<Found>, KafkaError> {
    let topic = cluster.topics().dead_letters();
    let below = BTreeMap::from([(place.partition, place.offset.saturating_add(1))]);
    let Some(mut newest) = Newest::of(cluster, &topic, CLIENT, &below).await? else {
        return Ok(None);
    };
    for record in newest.piece(place.partition, 1).await? {
        if record.offset == place.offset {
            return Ok(Some(read(codec, record, true).await));
        }
    }
    Ok(None)
}

async fn read(codec: &Codec, record: Record, values: bool) -> Found {
    let place = DeadLetterPlace {
        partition: record.partition,
        offset: record.offset,
    };
    let decoded = codec
        .decode_dead_letter(record.payload.as_deref().unwrap_or_default())
        .await;
    let mut letter = match decoded {
        Ok(letter) => letter,
        Err(error) => {
            let at = record.timestamp.unwrap_or_default();
            let why = format!("the dead letter itself cannot be read: {error}");
            record.dead_letter(record.headers.job_id().ok(), UNREADABLE, &why, "", at)
        }
    };
    let whole = letter.value.is_some();
    if !values {
        letter.value = None;
    }
    Found {
        place,
        letter,
        whole,
    }
}
