//! From a slot to an acknowledged end: what is done with one record that has its turn.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry::context::FutureExt;
use tidegate_contract::{JobId, JobMessage, Ladder, RecordHeaders, Topics, now_millis};
use tidegate_kafka::trace;
use tidegate_runtime::Metrics;
use tidegate_runtime::telemetry::{Trace, trace_id_of};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::{self, Conditions};
use crate::control::Control;
use crate::desk::{Desk, Slot};
use crate::events::{Subject, What};
use crate::guard::{Guard, Permit};
use crate::handlers::{ByJob, Repertoire, Runnable};
use crate::handover::heard::Heard;
use crate::lane::{Place, Ready};
use crate::offsets::Gone;
use crate::outbox::{Outbox, Parcel, Stopped, Traced};
use crate::replies::Replies;
use crate::settings::WorkerSettings;
use crate::settle::Failed;
use crate::spans;
use crate::work::{Work, expired};

/// What all executions share.
pub(crate) struct Engine {
    pub settings: WorkerSettings,
    /// Another one may take its place at any time: what is under way keeps what it took out of this one.
    pub repertoire: ArcSwap<Repertoire>,
    /// Knows single jobs, whatever their type and whatever types are in force: the test kit's.
    pub by_job: Option<ByJob>,
    /// Who may run now.
    pub desk: Arc<Desk>,
    /// Who may begin a handler.
    pub guard: Guard,
    pub outbox: Outbox,
    pub replies: Replies,
    /// Jobs that are called off.
    pub control: Arc<Control>,
    /// Jobs of partitions that were given to us which run where those come from.
    pub heard: Arc<Heard>,
    pub topics: Topics,
    pub ladder: Ladder,
    pub metrics: Metrics,
    /// Partitions of the jobs topics, by their names; set when they were looked at.
    pub partitions: OnceLock<HashMap<String, i32>>,
    /// Nothing new is begun: what waits stays where it is.
    pub stopping: CancellationToken,
    /// Cuts running attempts off.
    pub abort: CancellationToken,
}

impl Engine {
    /// Starts the work for a record that has its turn.
    pub(crate) fn start(
        self: &Arc<Self>,
        ready: Ready,
        is_repeat: bool,
        slot: Slot,
        tasks: &TaskTracker,
    ) {
        let (engine, lane) = (Arc::clone(self), Arc::clone(&ready.place.lane));
        let key = ready.work.serial_key();
        if let Some(key) = &key {
            lane.key_begun(key);
        }
        let tasks_of = tasks.clone();
        tasks.spawn(async move {
            engine.execute(ready, is_repeat, slot).await;
            if let Some(key) = key {
                if let Some(suspect) = lane.key_released(&key) {
                    engine.on_its_own(suspect, &tasks_of);
                }
                engine.desk.work.notify_one();
            }
        });
    }

    /// Starts a suspect. It needs no slot, but the process for itself: it waits for that, and everybody else for it.
    pub(crate) fn on_its_own(self: &Arc<Self>, ready: Ready, tasks: &TaskTracker) {
        let slot = self.desk.beside(&ready.work);
        let is_repeat = ready.place.start();
        self.start(ready, is_repeat, slot, tasks);
    }

    /// Does what is to be done with a record, then notes it as done. Where the worker stops before that, the record
    /// stays uncommitted and is done again elsewhere.
    async fn execute(&self, ready: Ready, is_repeat: bool, slot: Slot) {
        let place = ready.place;
        if !place.is_current() {
            return;
        }
        let done = match ready.work {
            Work::Run { job, headers } => {
                let trace = Trace::join(trace::extract(&headers));
                let within = trace.context().clone();
                let run = self.job(&place, job, &headers, trace, is_repeat, slot);
                run.with_context(within).await
            }
            Work::SetAside(unreadable) => {
                self.set_aside(&place, *unreadable, is_repeat, slot).await
            }
        };
        match done {
            Ok(()) => place.complete(),
            Err(Stopped) => place.let_go(),
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
        trace: Trace,
        is_repeat: bool,
        slot: Slot,
    ) -> Result<(), Stopped> {
        let open = self.control.attempt(job.job_id);
        if open.is_called_off() {
            self.metrics.job_dropped(job.job_type.as_str(), "queued");
            return Ok(());
        }
        let traced = traced(place, job.job_id, &trace);
        let subject = subject(&job, &traced);
        let what = if now_millis() >= job.deadline {
            What::Expired(expired(&job), None)
        } else {
            // Nothing kept it from running when it was put in line: that may have changed since.
            let (runnable, entered) = match self.entered(&job) {
                Ok(entered) => entered,
                Err(why) => {
                    drop(slot);
                    return self.park_from_line(place, &job, headers, why).await;
                }
            };
            let permit = tokio::select! {
                biased;
                () = open.called_off() => {
                    self.metrics.job_dropped(job.job_type.as_str(), "queued");
                    return Ok(());
                }
                permit = self.permit(place, job.serial_key.is_some()) => permit?,
            };
            let what = self.attempt(&runnable, &job, &subject, &traced, is_repeat);
            let what = tokio::select! {
                biased;
                what = what => Some(what.ok_or(Stopped)?),
                () = open.called_off() => None,
                // The next owner of the partition begins the next of its key, or this very job again.
                () = place.given_up(), if job.serial_key.is_some() => return Err(Stopped),
            };
            if let (Some(entered), Some(what)) = (entered, &what) {
                entered.ended(what, &self.metrics);
            }
            permit.ended().await;
            let Some(what) = what else {
                // Its end is in the log: there is nothing to say, and the record is done.
                self.metrics.job_dropped(job.job_type.as_str(), "running");
                tracing::info!(parent: &traced.span, job_id = %job.job_id, "a running job was called off");
                return Ok(());
            };
            match self.outbox.fitted(what) {
                What::Failed(failure, timings) => {
                    let failed = Failed {
                        place,
                        job: &job,
                        headers,
                        subject: &subject,
                        traced: &traced,
                        policy: &runnable.retry,
                    };
                    self.settle(&failed, failure, timings).await?
                }
                what => what,
            }
        };
        // The body is not needed any more, and the outcome may have to wait for long.
        drop(job);
        let parcel = self.pack(&subject, what, &traced).await?;
        drop(slot);
        self.outbox.post(parcel, &traced).await
    }

    /// Waits until the handler may begin.
    async fn permit(&self, place: &Place, serial: bool) -> Result<Permit, Stopped> {
        tokio::select! {
            permit = self.guard.begin(place, serial) => permit.map_err(|Gone| Stopped),
            // Uncommitted, it is read again by whoever comes next.
            () = self.stopping.cancelled() => Err(Stopped),
        }
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
            let queued = u64::try_from(now_millis().saturating_sub(job.begins_at())).unwrap_or(0);
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
        let trace = Trace::join(trace::extract(headers));
        let traced = traced(place, job.job_id, &trace);
        let what = What::Expired(expired(job), None);
        let parcel = self.pack(&subject(job, &traced), what, &traced).await?;
        self.outbox.post(parcel, &traced).await
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
        if let What::Settled(settled) = &what {
            let failure = &settled.failure;
            spans::failed(&traced.span, &failure.code);
            tracing::warn!(
                parent: &traced.span,
                %job_id,
                trace_id,
                %job_type,
                attempt = subject.attempt,
                code = failure.code,
                retryable = failure.retryable,
                follows = what.label(),
                "attempt failed"
            );
        } else {
            let end = what.label();
            let attempt = subject.attempt;
            tracing::debug!(parent: &traced.span, %job_id, trace_id, %job_type, attempt, end, "job ended");
        }
        self.outbox.pack(subject, what, traced).await
    }
}

/// The span of a record, and the trace it belongs to.
fn traced(place: &Place, job: JobId, trace: &Trace) -> Traced {
    Traced {
        span: trace.span(|| spans::process(place, Some(job))),
        incoming: trace.context().clone(),
    }
}

fn subject(job: &JobMessage, traced: &Traced) -> Subject {
    let context = spans::context(&traced.span, &traced.incoming);
    Subject::of(job, trace_id_of(&context))
}
