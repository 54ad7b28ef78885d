//! What a handler sees of its job.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_contract::{JobMessage, Millis, Progress, RecordHeaders, now_millis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::handler::{JobFailure, MESSAGE_LIMIT, cut};

/// Longest partial result that progress may carry, in bytes; a longer one is left out.
pub const PARTIAL_LIMIT: usize = 64 * 1024;

/// One attempt at a job, as its handler sees it. Cloning is cheap.
///
/// ```
/// use std::time::Duration;
/// use tidegate_worker::{JobContext, JobFailure, testkit, typed};
///
/// async fn who(_: (), cx: JobContext) -> Result<String, JobFailure> {
///     let id = cx.job().job_id;
///     if cx.time_left() < Duration::from_secs(1) {
///         return Err(JobFailure::retryable("no-time", "less than a second is left"));
///     }
///     cx.progress(50.0, Some("half of it"), None);
///     // What blocks the thread goes to a thread where it may.
///     let answer = cx.blocking(move |cx| Ok(format!("job {id}, attempt {}", cx.attempt())));
///     answer.await
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), testkit::KitError> {
/// let ran = testkit::job("who").attempt(2).run(typed(who)).await?;
/// assert_eq!(ran.json::<String>()?, format!("job {}, attempt 2", ran.end.job_id));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
    /// Who else hears of progress: the test kit.
    heard: Option<Heard>,
}

/// All that a handler says of its progress, in order.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<Progress>>>);

impl Heard {
    fn add(&self, progress: Progress) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(progress);
    }

    /// What was said so far.
    pub(crate) fn take(&self) -> Vec<Progress> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Inner {
    job: Arc<JobMessage>,
    is_repeat: bool,
    ends_at: Millis,
    progress: watch::Sender<Option<Progress>>,
    cancel: CancellationToken,
    span: tracing::Span,
    trace: RecordHeaders,
}

/// The worker's side of a [`JobContext`].
pub(crate) struct Attempt {
    pub is_repeat: bool,
    /// When the attempt is over, whatever the handler does.
    pub ends_at: Millis,
    pub cancel: CancellationToken,
    pub span: tracing::Span,
    /// `traceparent` and `tracestate` of the handler's span.
    pub trace: RecordHeaders,
}

impl Attempt {
    /// One that no worker makes: first of its kind, without an end or a trace.
    pub(crate) fn detached() -> Self {
        Self {
            is_repeat: false,
            ends_at: Millis::MAX,
            cancel: CancellationToken::new(),
            span: tracing::Span::none(),
            trace: RecordHeaders::new(),
        }
    }
}

impl JobContext {
    pub(crate) fn new(
        job: Arc<JobMessage>,
        attempt: Attempt,
    ) -> (Self, watch::Receiver<Option<Progress>>) {
        let (progress, latest) = watch::channel(None);
        let inner = Arc::new(Inner {
            job,
            is_repeat: attempt.is_repeat,
            ends_at: attempt.ends_at,
            progress,
            cancel: attempt.cancel,
            span: attempt.span,
            trace: attempt.trace,
        });
        (Self { inner, heard: None }, latest)
    }

    /// The same job, with somebody who hears of its progress besides.
    pub(crate) fn heard_by(self, heard: Heard) -> Self {
        Self {
            heard: Some(heard),
            ..self
        }
    }

    /// A context that belongs to no worker, for tests of handlers; the receiver shows the latest progress.
    pub fn detached(job: JobMessage) -> (Self, watch::Receiver<Option<Progress>>) {
        let mut attempt = Attempt::detached();
        attempt.ends_at = job.deadline;
        Self::new(Arc::new(job), attempt)
    }

    /// The job as accepted, with the request's method, path parameters, query and allowed headers.
    pub fn job(&self) -> &JobMessage {
        &self.inner.job
    }

    /// The body as accepted: every attempt sees the same bytes.
    pub fn body(&self) -> &Bytes {
        &self.inner.job.body
    }

    /// Which execution this is, from 1.
    pub fn attempt(&self) -> i32 {
        self.inner.job.attempt
    }

    /// Whether it is *known* that a handler of this very attempt was begun before: here, before its partition went away and
    /// came back, or by the worker that had the partition, as that has committed it last. `false` does not promise
    /// that nobody has: a worker that is killed cannot tell what it began in its last moments.
    pub fn is_repeat(&self) -> bool {
        self.inner.is_repeat
    }

    /// When the job stops being worth its while, Unix milliseconds.
    pub fn deadline(&self) -> Millis {
        self.inner.job.deadline
    }

    /// What is left of this attempt: the attempt's timeout or the job's deadline, whichever comes first.
    pub fn time_left(&self) -> Duration {
        let left = self.inner.ends_at.saturating_sub(now_millis());
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Tells how far the work is: percent (kept within 0 and 100), a message (cut at 1 KiB), and a piece of the
    /// result that is ready (left out above 64 KiB). May be called as often as one likes, from any thread: the
    /// latest is sent every 100 ms at most, and none after the end.
    pub fn progress(&self, percent: f64, message: Option<&str>, partial: Option<Bytes>) {
        let percent = if percent.is_finite() {
            percent.clamp(0.0, 100.0)
        } else {
            0.0
        };
        let progress = Progress {
            percent,
            message: message.map(|text| cut(text, MESSAGE_LIMIT).to_owned()),
            partial: partial.filter(|bytes| bytes.len() <= PARTIAL_LIMIT),
        };
        if let Some(heard) = &self.heard {
            heard.add(progress.clone());
        }
        self.inner.progress.send_replace(Some(progress));
    }

    /// Ends when the attempt's time is up or the worker stops.
    pub async fn cancelled(&self) {
        self.inner.cancel.cancelled().await;
    }

    /// Whether the attempt's time is up or the worker stops: nobody will take the outcome any more.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancel.is_cancelled()
    }

    /// The token behind [`JobContext::cancelled`].
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.cancel
    }

    /// The span that the handler runs in.
    pub fn span(&self) -> &tracing::Span {
        &self.inner.span
    }

    /// `traceparent` and `tracestate` to send along with calls of its own.
    pub fn trace_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inner.trace.iter()
    }

    /// Runs code that blocks on a thread where it may, in the handler's span. A panic in it is the handler's.
    /// The thread cannot be stopped from outside: look at [`JobContext::is_cancelled`] now and then.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, JobFailure>
    where
        T: Send + 'static,
        F: FnOnce(&JobContext) -> Result<T, JobFailure> + Send + 'static,
    {
        let cx = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let span = cx.inner.span.clone();
            span.in_scope(|| work(&cx))
        });
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => {
                    Err(JobFailure::retryable("stopped", "the worker is stopping").of_worker())
                }
            },
        }
    }
}
