//! Jobs, events and logs to test with; random ones come from a seed.

use bytes::Bytes;
use tidegate_contract::{
    DeadLetterPlace, EventKind, FaultSource, JobError, JobEvent, JobId, JobSummary, Millis,
    Outcome, Pair, Progress, Tenant, Tier, Timings,
};

use crate::merge::{fold, pending};
use crate::store::Store;
use crate::types::{Applied, Batch, JobRow, Lookup, Making, NewJob, Projected};

/// When the jobs of the samples were made.
pub const CREATED: Millis = 1_738_315_800_000;

/// A sequence of numbers that looks random and is the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// The facts of a sample job.
pub fn summary() -> JobSummary {
    JobSummary {
        job_type: "sales-report".parse().unwrap(),
        pool: "default".parse().unwrap(),
        tier: Tier::High,
        tenant: Tenant::default(),
        created_at: CREATED,
        deadline: CREATED + 3_600_000,
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        retry_of: "018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f".parse().ok(),
        follow_ups: Vec::new(),
    }
}

/// A new sample job whose events lie in partition 3.
pub fn new_job() -> NewJob {
    NewJob {
        id: JobId::generate(),
        summary: summary(),
        reply_partition: 3,
        not_before: None,
    }
}

/// An event of a sample job with all that its kind may carry.
pub fn event(job_id: JobId, kind: EventKind, attempt: i32, at: Millis) -> JobEvent {
    let end = kind.is_terminal();
    JobEvent {
        job_id,
        kind,
        at,
        attempt,
        job: summary(),
        source: "worker-1".to_owned(),
        outcome: matches!(kind, EventKind::Completed | EventKind::Failed).then(|| Outcome {
            status: 200,
            content_type: Some("application/json".to_owned()),
            headers: vec![Pair::new("x-rows", "3"), Pair::new("x-rows", "4")],
            body: Bytes::from(format!("{{\"at\":{at}}}")),
        }),
        error: (end && kind != EventKind::Completed || kind == EventKind::RetryScheduled).then(
            || JobError {
                code: "handler-error".to_owned(),
                message: format!("broken at {at}"),
                source: FaultSource::Job,
                retryable: false,
                retry_after_ms: Some(at),
                details: Some("{\"why\":null}".to_owned()),
                attempts: Some(3),
            },
        ),
        progress: (kind == EventKind::Progress).then(|| Progress {
            percent: 12.5,
            message: Some(format!("step {at}")),
            partial: Some(Bytes::from_static(b"[1,2")),
        }),
        timings: end.then_some(Timings {
            queue_us: 1_500,
            handler_us: 2_000_000,
        }),
        next_attempt_at: (kind == EventKind::RetryScheduled).then(|| at.saturating_add(1_000)),
        dead_letter: matches!(kind, EventKind::Failed | EventKind::DeadLettered).then_some(
            DeadLetterPlace {
                partition: 5,
                offset: at,
            },
        ),
    }
}

/// A log of `length` events about these jobs, with every kind, repeats and events after the end.
pub fn log(sequence: &mut Sequence, jobs: &[NewJob], length: usize) -> Vec<JobEvent> {
    // Ends are rare enough that jobs live for a while.
    const KINDS: [EventKind; 16] = [
        EventKind::Accepted,
        EventKind::Accepted,
        EventKind::Started,
        EventKind::Started,
        EventKind::Started,
        EventKind::Progress,
        EventKind::Progress,
        EventKind::Progress,
        EventKind::RetryScheduled,
        EventKind::AwaitingCompletion,
        EventKind::Unknown,
        EventKind::Completed,
        EventKind::Failed,
        EventKind::Cancelled,
        EventKind::Expired,
        EventKind::DeadLettered,
    ];
    let random = (0..length).map(|index| {
        let job = &jobs[sequence.below(jobs.len())];
        let kind = KINDS[sequence.below(KINDS.len())];
        let attempt = i32::try_from(sequence.below(4)).unwrap();
        event(job.id, kind, attempt, CREATED + index as i64)
    });
    random.collect()
}

/// A log as one partition of the replies topic: its first offset is 100.
#[derive(Debug)]
pub struct Partition {
    pub number: i32,
    pub events: Vec<JobEvent>,
}

pub const BEGIN: i64 = 100;

impl Partition {
    /// Offset after the last record.
    pub fn end(&self) -> i64 {
        BEGIN + self.events.len() as i64
    }

    /// The events from one offset to another.
    pub fn between(&self, from: i64, to: i64) -> &[JobEvent] {
        let index = |offset: i64| usize::try_from(offset - BEGIN).unwrap();
        &self.events[index(from)..index(to)]
    }

    pub fn batch(&self, from: i64, to: i64) -> Batch {
        let events = self.between(from, to).to_vec();
        Batch {
            partition: self.number,
            cluster_id: "cluster-1".to_owned(),
            expected: from,
            next: to,
            last_key: events
                .last()
                .map(|last| last.job_id.to_string())
                .unwrap_or_default(),
            first: from == BEGIN,
            events,
            follow_ups: None,
        }
    }
}

/// Projects events as the next batch of a partition, whatever its position is.
pub async fn project(store: &dyn Store, partition: i32, events: Vec<JobEvent>) -> Applied {
    project_with(store, partition, events, Making::default()).await
}

/// The same, with what follow-ups are made with.
pub async fn project_with(
    store: &dyn Store,
    partition: i32,
    events: Vec<JobEvent>,
    making: Making,
) -> Applied {
    let position = store.position(partition).await.unwrap();
    let expected = position.as_ref().map_or(0, |position| position.next_offset);
    let batch = Batch {
        partition,
        cluster_id: "cluster-1".to_owned(),
        expected,
        next: expected + events.len() as i64,
        last_key: "key".to_owned(),
        first: position.is_none(),
        events,
        follow_ups: Some(making),
    };
    match store.project(batch).await.unwrap() {
        Projected::Applied(applied) => applied,
        stale @ Projected::Stale { .. } => panic!("{stale:?}"),
    }
}

/// The row of a job; panics if there is none.
pub async fn row(store: &dyn Store, id: JobId) -> JobRow {
    let found = store.job(id).await.unwrap();
    let Lookup::Row(row) = found else {
        panic!("no row of {id}: {found:?}")
    };
    *row
}

/// What the row of an inserted job must be after these events of the log.
pub fn expected_row(job: &NewJob, events: &[JobEvent]) -> JobRow {
    let own = events.iter().filter(|event| event.job_id == job.id);
    fold(Some(pending(job)), job.reply_partition, own)
        .row
        .unwrap()
}
