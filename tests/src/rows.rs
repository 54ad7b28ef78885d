//! The rows of the status store, held against the log that they are made from.

use std::collections::BTreeMap;

use sqlx::PgPool;
use tidegate_contract::{EventKind, JobEvent, Status, Transition};
use tidegate_kafka::{Codec, RegistrySettings};
use uuid::Uuid;

use crate::{Stack, kafka};

/// What a row says of how its job stands.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Row {
    pub id: Uuid,
    pub status: String,
    pub attempt: i32,
    pub updated_at: i64,
    pub ended_at: Option<i64>,
    pub outcome_status: Option<i32>,
    pub outcome_body: Option<Vec<u8>>,
    pub error: Option<String>,
}

impl Row {
    pub fn is_ended(&self) -> bool {
        self.ended_at.is_some()
    }
}

/// All rows, by id.
pub async fn rows(stack: &Stack) -> BTreeMap<Uuid, Row> {
    let pool = PgPool::connect(&stack.store).await.expect("PostgreSQL");
    let query = "SELECT id, status, attempt, updated_at, ended_at, outcome_status, outcome_body, error FROM jobs";
    let rows: Vec<Row> = sqlx::query_as(query).fetch_all(&pool).await.expect("rows");
    pool.close().await;
    rows.into_iter().map(|row| (row.id, row)).collect()
}

/// How far each partition of the replies topic is applied: its next offset.
pub async fn positions(stack: &Stack) -> BTreeMap<i32, i64> {
    let pool = PgPool::connect(&stack.store).await.expect("PostgreSQL");
    let query = "SELECT partition, next_offset FROM projections";
    let rows: Vec<(i32, i64)> = sqlx::query_as(query).fetch_all(&pool).await.expect("rows");
    pool.close().await;
    rows.into_iter().collect()
}

/// What the log says of a job.
#[derive(Debug)]
pub struct Fold {
    pub status: Status,
    /// The highest attempt of its events, up to its end: what calls a job off counts none.
    pub attempt: i32,
    /// The first event that ended it.
    pub end: Option<JobEvent>,
    /// How many events would have ended it.
    pub ends: usize,
}

/// The events of all jobs, folded in the order of their partitions: the first end of a job counts.
pub async fn fold(stack: &Stack) -> BTreeMap<Uuid, Fold> {
    let codec = Codec::new(&RegistrySettings {
        url: stack.servers.registry.clone(),
        ..RegistrySettings::default()
    });
    let (bootstrap, topic) = (
        stack.servers.kafka.clone(),
        format!("{}replies", stack.prefix),
    );
    let read = tokio::task::spawn_blocking(move || kafka::read_all(&bootstrap, &topic));
    let mut folds: BTreeMap<Uuid, Fold> = BTreeMap::new();
    for message in read.await.expect("read") {
        let payload = rdkafka::Message::payload(&message).expect("a value");
        let event = codec.decode_event(payload).await.expect("an event");
        let fold = folds.entry(event.job_id.as_uuid()).or_insert(Fold {
            status: Status::Pending,
            attempt: 0,
            end: None,
            ends: 0,
        });
        fold.ends += usize::from(event.kind.is_terminal());
        if !fold.status.is_terminal() {
            fold.attempt = fold.attempt.max(event.attempt);
        }
        if let Transition::To(status) = fold.status.on(event.kind) {
            fold.status = status;
            if event.kind.is_terminal() {
                fold.end = Some(event);
            }
        }
    }
    folds
}

/// Compares every row with the log and panics where they differ. Gives how many were compared.
pub async fn assert_agree(stack: &Stack) -> usize {
    let (rows, folds) = (rows(stack).await, fold(stack).await);
    let mut differ = Vec::new();
    for (id, fold) in &folds {
        match rows.get(id) {
            None => differ.push(format!("{id}: no row, the log says {}", fold.status)),
            Some(row) => differ.extend(difference(row, fold)),
        }
    }
    for (id, row) in rows.iter().filter(|(id, _)| !folds.contains_key(id)) {
        if row.status != "pending" {
            differ.push(format!("{id}: row {}, nothing in the log", row.status));
        }
    }
    assert!(
        differ.is_empty(),
        "{} of {} rows differ from the log:\n{}",
        differ.len(),
        rows.len(),
        differ[..differ.len().min(10)].join("\n")
    );
    rows.len()
}

fn difference(row: &Row, fold: &Fold) -> Option<String> {
    let id = row.id;
    if row.status != fold.status.as_str() {
        return Some(format!("{id}: row {}, log {}", row.status, fold.status));
    }
    let end = fold.end.as_ref()?;
    let outcome = end.outcome.as_ref();
    let same = row.ended_at == Some(end.at)
        && row.attempt == fold.attempt
        && row.outcome_status == outcome.map(|outcome| outcome.status)
        && row.outcome_body.as_deref() == outcome.map(|outcome| &outcome.body[..])
        && row.error.is_some() == end.error.is_some()
        && (end.kind == EventKind::Completed) == (row.status == "completed");
    (!same).then(|| format!("{id}: row {row:?}, log {end:?}"))
}
