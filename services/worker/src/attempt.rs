//! One attempt: the handler in a task of its own, its time limit, and what is said while it runs.

use std::future::{pending, ready};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::context::FutureExt as _;
use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobMessage, Progress, Timings, now_millis};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::context::{Attempt, JobContext};
use crate::events::{Subject, What};
use crate::handler::{JobFailure, MESSAGE_LIMIT, cut};
use crate::handlers::Runnable;
use crate::outbox::{Outbox, Traced, trace_headers};
use crate::spans;
use crate::throttle::Throttle;

/// When a `started` that was lost is said again.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// What an attempt needs besides the job.
pub(crate) struct Conditions<'a> {
    pub outbox: &'a Outbox,
    pub subject: &'a Subject,
    pub traced: &'a Traced,
    pub started_after: Duration,
    pub progress_every: Duration,
    pub is_repeat: bool,
    /// Cuts the attempt off without an end: the worker stops.
    pub abort: &'a CancellationToken,
}

/// Which limit an attempt runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    time: Duration,
    /// It is the job's deadline rather than the attempt's timeout.
    deadline: bool,
}

impl Limit {
    fn of(timeout: Duration, job: &JobMessage, now: i64) -> Self {
        let left = u64::try_from(job.deadline.saturating_sub(now)).unwrap_or(0);
        let left = Duration::from_millis(left);
        Self {
            time: timeout.min(left),
            deadline: left < timeout,
        }
    }

    fn passed(self, job: &JobMessage, timings: Timings) -> What {
        if self.deadline {
            let at = rfc3339(job.deadline);
            let message = format!("the deadline {at} passed while the handler ran");
            return What::Expired(message, Some(timings));
        }
        let ran = humantime::format_duration(self.time);
        let message = format!("the handler ran longer than the attempt timeout of {ran}");
        What::Failed(JobFailure::retryable("timeout", message), Some(timings))
    }
}

/// Runs the handler to an end of the job; `None` if it was cut off.
pub(crate) async fn run(
    runnable: &Runnable,
    job: &Arc<JobMessage>,
    on: Conditions<'_>,
) -> Option<What> {
    let begun_at = now_millis();
    let begun = Instant::now();
    let limit = Limit::of(runnable.timeout, job, begun_at);
    let span = spans::handle(&on.traced.span, job.job_type.as_str(), job.attempt);
    let cancel = CancellationToken::new();
    let (cx, mut progress) = JobContext::new(
        Arc::clone(job),
        Attempt {
            is_repeat: on.is_repeat,
            ends_at: begun_at.saturating_add(limit.time.as_millis() as i64),
            cancel: cancel.clone(),
            span: span.clone(),
            trace: trace_headers(&spans::context(&span, &on.traced.incoming)),
        },
    );
    let handler = Arc::clone(&runnable.handler);
    let task = async move { handler.run(cx).await }
        .instrument(span.clone())
        .with_current_context();
    // A caller that drops this calls the handler off: first the word, then the cut.
    let mut task = AbortOnDropHandle::new(tokio::spawn(task));
    let _word = cancel.clone().drop_guard();
    let end = tokio::select! {
        // An end that came together with the limit counts as an end.
        biased;
        joined = &mut task => Some(joined),
        () = sleep(limit.time) => None,
        () = on.abort.cancelled() => {
            cancel.cancel();
            task.abort();
            return None;
        }
        () = narrate(&on, &mut progress, begun) => None,
    };
    let timings = Timings {
        queue_us: begun_at.saturating_sub(job.created_at).max(0) * 1000,
        handler_us: i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX),
    };
    let what = match end {
        Some(joined) => What::ended(
            joined.unwrap_or_else(|error| Err(not_joined(error))),
            timings,
        ),
        None => {
            // First the word, for code on other threads; then the cut.
            cancel.cancel();
            task.abort();
            limit.passed(job, timings)
        }
    };
    match &what {
        What::Failed(failure, _) => spans::failed(&span, &failure.code),
        What::Expired(..) => spans::failed(&span, "deadline-passed"),
        _ => {}
    }
    Some(what)
}

/// Says `started` once the handler has run for a while, and then its progress. Never ends.
async fn narrate(
    on: &Conditions<'_>,
    progress: &mut watch::Receiver<Option<Progress>>,
    begun: Instant,
) {
    sleep(on.started_after).await;
    let mut throttle = Throttle::new(on.progress_every, begun.elapsed());
    let mut started = said(on);
    // The sender lives in the handler's context: it is gone only when the handler is.
    let mut open = true;
    loop {
        let due = throttle.due();
        tokio::select! {
            written = &mut started => {
                // A long job that looks pending would be taken for lost, so a loss is made good.
                started = if written { pending().boxed() } else { said_later(on).boxed() };
            }
            changed = progress.changed(), if open => {
                open = changed.is_ok();
                if open {
                    throttle.offer();
                }
            }
            () = at(begun, due) => {
                let latest = progress.borrow_and_update().clone();
                if let Some(latest) = latest && throttle.take(begun.elapsed()) {
                    // In order behind `started`: both go through one queue to one partition.
                    drop(on.outbox.mention(on.subject, What::Progress(latest), on.traced));
                }
            }
        }
    }
}

async fn at(begun: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep_until((begun + due).into()).await,
        None => pending().await,
    }
}

fn said<'a>(on: &Conditions<'a>) -> BoxFuture<'a, bool> {
    match on.outbox.mention(on.subject, What::Started, on.traced) {
        Some(outcome) => outcome.boxed(),
        None => ready(false).boxed(),
    }
}

async fn said_later(on: &Conditions<'_>) -> bool {
    sleep(SAY_AGAIN).await;
    said(on).await
}

/// The handler's task ended without a result.
fn not_joined(error: JoinError) -> JobFailure {
    let Ok(panic) = error.try_into_panic() else {
        return JobFailure::retryable("stopped", "the handler was stopped").of_worker();
    };
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    let message = match text {
        Some(text) => format!("the handler panicked: {}", cut(&text, MESSAGE_LIMIT)),
        None => "the handler panicked".to_owned(),
    };
    // What was thrown may panic again when it is dropped.
    let _ = std::panic::catch_unwind(AssertUnwindSafe(move || drop(panic)));
    JobFailure::retryable("panic", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    #[test]
    fn the_nearer_of_timeout_and_deadline_counts() {
        let mut job = job("x");
        let now = job.created_at;
        job.deadline = now + 5_000;
        let minute = Duration::from_secs(60);
        let limit = Limit::of(minute, &job, now);
        assert_eq!((limit.time, limit.deadline), (Duration::from_secs(5), true));
        assert_eq!(limit.passed(&job, Timings::default()).label(), "expired");
        let limit = Limit::of(Duration::from_secs(1), &job, now);
        assert!(!limit.deadline);
        let What::Failed(failure, _) = limit.passed(&job, Timings::default()) else {
            panic!("not a failure");
        };
        assert_eq!(failure.code, "timeout");
        assert!(failure.message.ends_with("timeout of 1s"), "{failure:?}");
        assert_eq!(Limit::of(minute, &job, now + 9_000).time, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_panic_is_told_by_its_text() {
        let thrown = tokio::spawn(async { panic!("no {}", "luck") }).await;
        let failure = not_joined(thrown.unwrap_err());
        assert_eq!(failure.code, "panic");
        assert_eq!(failure.message, "the handler panicked: no luck");
        let thrown = tokio::spawn(async { std::panic::panic_any(7) }).await;
        assert_eq!(
            not_joined(thrown.unwrap_err()).message,
            "the handler panicked"
        );
    }
}
