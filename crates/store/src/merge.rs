//! The fold of a job's events into its row: no I/O, no clock. What the backends write is what comes out of here.

use bytes::Bytes;
use tidegate_contract::{
    EventKind, FollowUpSpec, JobError, JobEvent, JobSummary, Millis, Outcome, Pair, Progress,
    Status, Transition,
};

use crate::history;
use crate::types::{JobRow, NewJob};

/// What a row and some more events of its job amount to.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// `None` if there was no row and no event that makes one.
    pub row: Option<JobRow>,
    /// Whether `row` differs from what went in.
    pub changed: bool,
    /// Events that came after the end.
    pub late: u64,
    /// Events of a kind that this version does not know.
    pub skipped: u64,
}

/// Folds events, in the order of the log, into the row that was there before them.
///
/// `reply_partition` is the partition that the events were read from, which is the one that the job named. A
/// row can be made from any event alone, because each carries what a row needs.
pub fn fold<'e>(
    row: Option<JobRow>,
    reply_partition: i32,
    events: impl IntoIterator<Item = &'e JobEvent>,
) -> Folded {
    let mut folded = Folded {
        row,
        changed: false,
        late: 0,
        skipped: 0,
    };
    for event in events {
        let before = folded
            .row
            .as_ref()
            .map_or_else(|| first_status(event), |row| row.status);
        let status = match before.on(event.kind) {
            Transition::Skip => {
                folded.skipped += 1;
                continue;
            }
            Transition::Late => {
                folded.late += 1;
                continue;
            }
            Transition::Merge => before,
            Transition::To(status) => status,
        };
        let row = folded
            .row
            .get_or_insert_with(|| begin(event, reply_partition));
        apply(row, status, event);
        folded.changed = true;
    }
    folded
}

/// The row of a job that was just accepted.
pub fn pending(job: &NewJob) -> JobRow {
    JobRow {
        id: job.id,
        summary: clean_summary(&job.summary),
        reply_partition: job.reply_partition,
        status: match job.not_before {
            Some(_) => Status::Scheduled,
            None => Status::Pending,
        },
        attempt: 0,
        updated_at: job.summary.created_at,
        started_at: None,
        ended_at: None,
        progress: None,
        outcome: None,
        error: None,
        error_attempt: None,
        error_at: None,
        timings: None,
        next_attempt_at: job.not_before,
        dead_letter: None,
        retried_as: None,
        events: 0,
        history: Vec::new(),
    }
}

/// The status of a job before the first event that is read of it.
fn first_status(event: &JobEvent) -> Status {
    match not_before(event) {
        Some(_) => Status::Scheduled,
        None => Status::Pending,
    }
}

/// When a job is due of which the event says no more than that it was accepted.
fn not_before(event: &JobEvent) -> Option<Millis> {
    event
        .next_attempt_at
        .filter(|_| event.kind == EventKind::Accepted)
}

fn begin(event: &JobEvent, reply_partition: i32) -> JobRow {
    pending(&NewJob {
        id: event.job_id,
        summary: event.job.clone(),
        reply_partition,
        not_before: not_before(event),
    })
}

fn apply(row: &mut JobRow, status: Status, event: &JobEvent) {
    row.status = status;
    row.attempt = row.attempt.max(event.attempt);
    row.updated_at = row.updated_at.max(event.at);
    if row.summary.trace_id.is_none() {
        row.summary.trace_id = event.job.trace_id.as_deref().map(clean);
    }
    if row.summary.follow_ups.is_empty() {
        row.summary.follow_ups = clean_follow_ups(&event.job.follow_ups);
    }
    if row.started_at.is_none() {
        row.started_at = started_at(event);
    }
    if let Some(progress) = &event.progress {
        row.progress = Some(clean_progress(progress));
    }
    match event.kind {
        EventKind::Unknown | EventKind::Accepted => {}
        EventKind::RetryScheduled => row.next_attempt_at = event.next_attempt_at,
        _ => row.next_attempt_at = None,
    }
    if status.is_terminal() || event.kind == EventKind::RetryScheduled {
        row.error = event.error.as_ref().map(clean_error);
        row.error_attempt = event.error.as_ref().map(|_| event.attempt);
        row.error_at = event.error.as_ref().map(|_| event.at);
    }
    if status.is_terminal() {
        row.ended_at = Some(event.at);
        row.outcome = event.outcome.as_ref().map(clean_outcome);
        row.timings = event.timings;
        row.dead_letter = event.dead_letter;
    }
    history::note(row, event);
}

/// When the attempt that an event tells of began: quick jobs send no `started`, but say how long they took.
fn started_at(event: &JobEvent) -> Option<Millis> {
    match event.kind {
        EventKind::Started | EventKind::Progress => Some(event.at),
        kind if kind.is_terminal() => event
            .timings
            .map(|timings| event.at.saturating_sub(timings.handler_us / 1000)),
        _ => None,
    }
}

/// Text as every backend can hold it: PostgreSQL refuses the character NUL, and a hostile message must not hold up
/// a partition. Bodies are bytes and stay as they are.
pub(crate) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn clean_summary(summary: &JobSummary) -> JobSummary {
    JobSummary {
        trace_id: summary.trace_id.as_deref().map(clean),
        follow_ups: clean_follow_ups(&summary.follow_ups),
        ..summary.clone()
    }
}

fn clean_follow_ups(specs: &[FollowUpSpec]) -> Vec<FollowUpSpec> {
    let specs = specs.iter().map(|spec| FollowUpSpec {
        kind: clean(&spec.kind),
        target: clean(&spec.target),
        events: clean(&spec.events),
    });
    specs.collect()
}

fn clean_progress(progress: &Progress) -> Progress {
    Progress {
        // SQLite keeps a value that is not a number as NULL.
        percent: if progress.percent.is_nan() {
            0.0
        } else {
            progress.percent.clamp(0.0, 100.0)
        },
        message: progress.message.as_deref().map(clean),
        partial: progress.partial.clone(),
    }
}

fn clean_outcome(outcome: &Outcome) -> Outcome {
    Outcome {
        status: outcome.status,
        content_type: outcome.content_type.as_deref().map(clean),
        headers: outcome
            .headers
            .iter()
            .map(|pair| Pair::new(clean(&pair.name), clean(&pair.value)))
            .collect(),
        body: Bytes::clone(&outcome.body),
    }
}

fn clean_error(error: &JobError) -> JobError {
    JobError {
        code: clean(&error.code),
        message: clean(&error.message),
        source: error.source,
        retryable: error.retryable,
        retry_after_ms: error.retry_after_ms,
        details: error.details.as_deref().map(clean),
        attempts: error.attempts,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_contract::{DeadLetterPlace, FaultSource, JobId, Tenant, Tier, Timings};

    use super::*;

    fn event(
        id: JobId,
        kind: EventKind,
        attempt: i32,
        at: Millis,
        handler_ms: Option<i64>,
    ) -> JobEvent {
        JobEvent {
            job_id: id,
            kind,
            at,
            attempt,
            job: JobSummary {
                job_type: "echo".parse().unwrap(),
                pool: "default".parse().unwrap(),
                tier: Tier::Normal,
                tenant: Tenant::default(),
                created_at: 100,
                deadline: 900,
                trace_id: None,
                retry_of: None,
                follow_ups: Vec::new(),
            },
            source: String::new(),
            outcome: (kind == EventKind::Completed).then(|| Outcome {
                status: 200,
                content_type: None,
                headers: Vec::new(),
                body: Bytes::from(at.to_string()),
            }),
            error: matches!(kind, EventKind::Failed | EventKind::RetryScheduled).then(|| {
                JobError {
                    code: "x".to_owned(),
                    message: at.to_string(),
                    source: FaultSource::Job,
                    retryable: false,
                    retry_after_ms: None,
                    details: None,
                    attempts: None,
                }
            }),
            progress: (kind == EventKind::Progress).then(|| Progress {
                percent: 50.0,
                message: Some(at.to_string()),
                partial: None,
            }),
            timings: handler_ms.filter(|_| kind.is_terminal()).map(|ms| Timings {
                queue_us: 0,
                handler_us: ms * 1000,
            }),
            next_attempt_at: matches!(kind, EventKind::Accepted | EventKind::RetryScheduled)
                .then_some(at + 500),
            dead_letter: (kind == EventKind::DeadLettered).then_some(DeadLetterPlace {
                partition: 2,
                offset: at,
            }),
        }
    }

    fn events() -> impl Strategy<Value = Vec<JobEvent>> {
        let id = JobId::generate();
        let one = (
            0..EventKind::ALL.len(),
            0..5i32,
            0..1000i64,
            prop::option::of(0..50i64),
        );
        let one = one.prop_map(move |(kind, attempt, at, handler_ms)| {
            event(id, EventKind::ALL[kind], attempt, at, handler_ms)
        });
        prop::collection::vec(one, 0..12)
    }

    proptest! {
        /// Against each column's definition, read off the whole log at once.
        #[test]
        fn the_fold_is_what_the_log_says(log in events()) {
            let folded = fold(None, 7, &log);
            let known: Vec<_> = log.iter().filter(|e| e.kind != EventKind::Unknown).collect();
            let end = known.iter().position(|e| e.kind.is_terminal());
            let counted = &known[..end.map_or(known.len(), |end| end + 1)];
            prop_assert_eq!(folded.skipped as usize, log.len() - known.len());
            prop_assert_eq!(folded.late as usize, known.len() - counted.len());
            prop_assert_eq!(folded.changed, !counted.is_empty());
            let Some(row) = folded.row else {
                prop_assert!(counted.is_empty());
                return Ok(());
            };
            let last = end.map(|end| known[end]);
            prop_assert_eq!(row.reply_partition, 7);
            prop_assert_eq!(row.status.is_terminal(), end.is_some());
            prop_assert_eq!(row.ended_at, last.map(|e| e.at));
            prop_assert_eq!(row.outcome, last.and_then(|e| e.outcome.clone()));
            let failed = counted.iter().rev().find(|e| e.kind.is_terminal() || e.kind == EventKind::RetryScheduled);
            let failed = failed.filter(|e| e.error.is_some());
            prop_assert_eq!(row.error, failed.and_then(|e| e.error.clone()));
            prop_assert_eq!(row.error_attempt, failed.map(|e| e.attempt));
            prop_assert_eq!(row.error_at, failed.map(|e| e.at));
            prop_assert_eq!(row.dead_letter, last.and_then(|e| e.dead_letter));
            let due = counted.iter().rev().find(|e| e.kind != EventKind::Accepted);
            let due = match due {
                Some(e) if e.kind == EventKind::RetryScheduled => e.next_attempt_at,
                Some(_) => None,
                None => counted.first().and_then(|e| e.next_attempt_at),
            };
            prop_assert_eq!(row.next_attempt_at, due);
            prop_assert_eq!(row.timings, last.and_then(|e| e.timings));
            prop_assert_eq!(Some(row.attempt), counted.iter().map(|e| e.attempt).max());
            prop_assert_eq!(row.updated_at, counted.iter().map(|e| e.at).max().unwrap_or(0).max(100));
            let progress = counted.iter().rev().find_map(|e| e.progress.clone());
            prop_assert_eq!(row.progress, progress);
            let first = counted.iter().find(|e| matches!(e.kind, EventKind::Started | EventKind::Progress));
            let began = match (first, last.and_then(|e| Some((e.at, e.timings?)))) {
                (Some(first), _) => Some(first.at),
                (None, Some((at, timings))) => Some(at - timings.handler_us / 1000),
                (None, None) => None,
            };
            prop_assert_eq!(row.started_at, began);
            let noted = counted.iter().filter(|e| !e.kind.is_terminal() && e.kind != EventKind::Accepted);
            let noted: Vec<_> = (1..).zip(noted).map(|(n, e)| (n, e.kind, e.at)).collect();
            prop_assert_eq!(row.events, noted.len() as i64);
            let kept: Vec<_> = row.history.iter().map(|it| (it.sequence, it.kind, it.at)).collect();
            prop_assert_eq!(kept, noted);
        }

        /// Batches may be cut anywhere, and repeating a finished log changes nothing.
        #[test]
        fn the_cut_between_batches_does_not_show(log in events(), cut in any::<prop::sample::Index>()) {
            let whole = fold(None, 7, &log);
            let (left, right) = log.split_at(cut.index(log.len() + 1));
            let first = fold(None, 7, left);
            let both = fold(first.row, 7, right);
            prop_assert_eq!(&both.row, &whole.row);
            prop_assert_eq!(first.late + both.late, whole.late);
            if let Some(row) = whole.row && row.status.is_terminal() {
                let again = fold(Some(row.clone()), 7, &log);
                prop_assert!(!again.changed);
                prop_assert_eq!(again.row, Some(row));
            }
        }
    }

    #[test]
    fn what_a_backend_cannot_hold_is_replaced() {
        let mut end = event(JobId::generate(), EventKind::Progress, 1, 1, None);
        end.job.trace_id = Some("a\0b".to_owned());
        end.progress = Some(Progress {
            percent: f64::NAN,
            message: Some("\0".to_owned()),
            partial: Some(Bytes::from_static(b"\0")),
        });
        let row = fold(None, 0, [&end]).row.unwrap();
        assert_eq!(row.summary.trace_id.as_deref(), Some("a\u{fffd}b"));
        let progress = row.progress.unwrap();
        assert_eq!(
            (progress.percent, progress.message.as_deref()),
            (0.0, Some("\u{fffd}"))
        );
        assert_eq!(progress.partial.as_deref(), Some(&b"\0"[..]));
    }
}
