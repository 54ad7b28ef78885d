//! From a slot to an acknowledged end: what is done with one record that has its turn.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_contract::{JobMessage, RecordHeaders, Topics, now_millis};
use tidegate_kafka::trace;
use tidegate_runtime::Metrics;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::attempt::{self, Conditions};
use crate::events::{Subject, What};
use crate::handlers::{ByJob, Repertoire, Runnable};
use crate::lane::{Place, Ready};
use crate::outbox::{Outbox, Parcel, Stopped, Traced};
use crate::replies::Replies;
use crate::settings::WorkerSettings;
use crate::spans;
use crate::work::{Work, expired};

/// What all executions share.
pub(crate) struct Engine {
    pub settings: WorkerSettings,
    /// Another one may take its place at any time: what is under way keeps what it took out of this one.
    pub repertoire: ArcSwap<Repertoire>,
    /// Knows single jobs, whatever their type and whatever types are in force: the test kit's.
    pub by_job: Option<ByJob>,
    pub outbox: Outbox,
    pub replies: Replies,
    pub topics: Topics,
    pub metrics: Metrics,
    /// Partitions of the jobs topics, by their names; set when they were looked at.
    pub partitions: OnceLock<HashMap<String, i32>>,
    /// Nothing new is begun: what waits to be handed on stays where it is.
    pub stopping: CancellationToken,
    /// Cuts running attempts off.
    pub abort: CancellationToken,
}

impl Engine {
    /// Does what is to be done with a record, then notes it as done. Where the worker stops before that, the record
    /// stays uncommitted and is done again elsewhere.
    pub(crate) async fn execute(&self, ready: Ready, is_repeat: bool, slot: OwnedSemaphorePermit) {
        let place = ready.place;
        if !place.is_current() {
            return;
        }
        let done = match ready.work {
            Work::Run { job, headers } => self.job(&place, job, &headers, is_repeat, slot).await,
            Work::SetAside(unreadable) => {
                self.set_aside(&place, *unreadable, is_repeat, slot).await
            }
        };
        if done.is_ok() {
            place.complete();
        }
    }

    /// How a job is run here at this moment, if it is.
    pub(crate) fn find(&self, job: &JobMessage) -> Option<Runnable> {
        match &self.by_job {
            Some(by_job) => by_job(job.job_id),
            None => self.repertoire.load().get(&job.job_type).cloned(),
        }
    }

    /// Runs a job. The slot is given back as soon as the outcome has room to wait in.
    pub(crate) async fn job(
        &self,
        place: &Place,
        job: Arc<JobMessage>,
        headers: &RecordHeaders,
        is_repeat: bool,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), Stopped> {
        let traced = self.traced(place, &job, headers);
        let subject = subject(&job, &traced);
        let what = if now_millis() >= job.deadline {
            What::Expired(expired(&job), None)
        } else {
            let Some(runnable) = self.find(&job) else {
                // It was known when it was put in line: the types have changed since.
                drop(slot);
                return self.hand_on_from_line(place, &job, headers).await;
            };
            let what = self.attempt(&runnable, &job, &subject, &traced, is_repeat);
            what.await.ok_or(Stopped)?
        };
        // The body is not needed any more, and the outcome may have to wait for long.
        drop(job);
        let parcel = self.pack(&subject, what, &traced).await?;
        drop(slot);
        self.outbox.post(parcel, &traced).await
    }

    async fn attempt(
        &self,
        runnable: &Runnable,
        job: &Arc<JobMessage>,
        subject: &Subject,
        traced: &Traced,
        is_repeat: bool,
    ) -> Option<What> {
        if job.attempt == 1 {
            let queued = u64::try_from(now_millis().saturating_sub(job.created_at)).unwrap_or(0);
            self.metrics
                .job_queued(job.tier, Duration::from_millis(queued));
        }
        let running = self.metrics.attempt_started(job.job_type.as_str());
        let conditions = Conditions {
            outbox: &self.outbox,
            subject,
            traced,
            started_after: self.settings.started_after,
            progress_every: self.settings.progress_every,
            is_repeat,
            abort: &self.abort,
        };
        let what = attempt::run(runnable, job, conditions).await?;
        running.ended(what.label());
        Some(what)
    }

    /// Ends a job by its deadline, without a slot.
    pub(crate) async fn expire(
        &self,
        place: &Place,
        job: &JobMessage,
        headers: &RecordHeaders,
    ) -> Result<(), Stopped> {
        let traced = self.traced(place, job, headers);
        let what = What::Expired(expired(job), None);
        let parcel = self.pack(&subject(job, &traced), what, &traced).await?;
        self.outbox.post(parcel, &traced).await
    }

    /// The span of a record, and the trace it came with.
    fn traced(&self, place: &Place, job: &JobMessage, headers: &RecordHeaders) -> Traced {
        let incoming = trace::extract(headers);
        let span = spans::process(place, Some(job.job_id), &incoming);
        Traced { span, incoming }
    }

    /// Logs an end, and makes it ready to be sent.
    pub(crate) async fn pack(
        &self,
        subject: &Subject,
        what: What,
        traced: &Traced,
    ) -> Result<Parcel, Stopped> {
        let (job_id, trace_id) = (subject.job_id, &subject.summary.trace_id);
        let job_type = &subject.summary.job_type;
        if let What::Failed(failure, _) = &what {
            spans::failed(&traced.span, &failure.code);
            tracing::warn!(
                parent: &traced.span,
                %job_id,
                trace_id,
                %job_type,
                attempt = subject.attempt,
                code = failure.code,
                retryable = failure.retryable,
                "job failed"
            );
        } else {
            let end = what.label();
            let attempt = subject.attempt;
            tracing::debug!(parent: &traced.span, %job_id, trace_id, %job_type, attempt, end, "job ended");
        }
        self.outbox.pack(subject, what, traced).await
    }
}

fn subject(job: &JobMessage, traced: &Traced) -> Subject {
    let context = spans::context(&traced.span, &traced.incoming);
    Subject::of(job, spans::trace_id(&context))
}
