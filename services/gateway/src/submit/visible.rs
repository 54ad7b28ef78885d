//! A job that was accepted can be looked up: its row, or the event from which the row will be made.

use std::time::{Duration, Instant};

use tidegate_contract::{EventKind, JobId, JobSummary, Millis, now_millis};
use tidegate_store::{NewJob, StoreError};

use crate::cancel;
use crate::events::{self, Subject};
use crate::options::OnDisconnect;
use crate::state::AppState;

/// How often, at most, and how long a row is tried for that could not be made at first. By then the job's own events
/// have made it, or the store has been away so long that they will.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(5);

/// Whether the status of a job can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// By anybody, now.
    Now,
    /// The row follows from an event that is in the log.
    Soon,
    /// Not before the store or the broker is back; it is being tried.
    Later(String),
}

/// The facts of an accepted job, without its body.
#[derive(Clone)]
pub struct Facts {
    pub id: JobId,
    pub summary: JobSummary,
    pub reply_partition: i32,
    /// When a delayed job is due.
    pub not_before: Option<Millis>,
    /// The trace context of the job's record.
    pub trace: Vec<(String, String)>,
    /// Of a job that is submitted under an idempotency key.
    pub key: Option<Hold>,
    pub on_disconnect: OnDisconnect,
}

/// This request's hold on its idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// As it was reserved.
    pub reserved_at: Millis,
    /// Nobody has tried to produce the job before.
    pub first: bool,
}

impl Hold {
    /// The job was not produced: its key is free for the next request, or if that is not certain, for the next produce
    /// of this very job.
    pub async fn give_up(self, state: &AppState, id: JobId, unknown: bool) {
        let forget = self.first && !unknown;
        let begun = Instant::now();
        let result = state.engine.release(id, self.reserved_at, forget).await;
        let label = call_label(&result);
        state.metrics.store_call("release", label, begun.elapsed());
        // Its time runs out all the same.
        if let Err(error) = result {
            tracing::debug!(job_id = %id, %error, "idempotency key not given back");
        }
    }
}

impl Facts {
    /// Where its record went, in metrics.
    pub fn destination(&self) -> &'static str {
        match self.not_before {
            Some(_) => "delay",
            None => "jobs",
        }
    }

    /// When to ask for its status, in seconds.
    pub fn retry_after(&self, state: &AppState) -> u64 {
        let summary = &self.summary;
        state.retry_after(&summary.job_type, summary.created_at, self.not_before)
    }

    /// Makes the row, and says on the key that there is a job. `false` if the store is away.
    pub async fn insert(&self, state: &AppState) -> bool {
        let row = NewJob {
            id: self.id,
            summary: self.summary.clone(),
            reply_partition: self.reply_partition,
            not_before: self.not_before,
        };
        let begun = Instant::now();
        let (call, result) = match self.key {
            None => ("insert", state.engine.insert(row).await),
            Some(_) => ("produced", state.engine.produced(row).await),
        };
        let label = call_label(&result);
        state.metrics.store_call(call, label, begun.elapsed());
        if let Err(error) = &result {
            tracing::debug!(job_id = %self.id, %error, "row not made");
        }
        result.is_ok()
    }

    /// Makes the row, or else sends an `accepted` event to the job's reply partition, with all that the row needs.
    pub async fn make_visible(&self, state: &AppState) -> Visible {
        if self.insert(state).await {
            return Visible::Now;
        }
        let subject = self.subject();
        let source = &state.instance;
        let mut accepted = events::event(&subject, EventKind::Accepted, now_millis(), source);
        accepted.next_attempt_at = self.not_before;
        match events::send(state, &subject, &accepted).await {
            Ok(()) => Visible::Soon,
            Err(reason) => Visible::Later(reason),
        }
    }

    /// What becomes of a job whose client has gone: it goes on and can be seen, or is called off.
    pub async fn left(&self, state: &AppState) -> Visible {
        if self.on_disconnect == OnDisconnect::Cancel {
            match cancel::call_off(state, &self.subject(), "its client went away").await {
                // The event makes the row.
                Ok(()) => return Visible::Soon,
                Err(reason) => {
                    tracing::warn!(job_id = %self.id, reason, "a job whose client has gone is not cancelled");
                }
            }
        }
        self.make_visible(state).await
    }

    fn subject(&self) -> Subject {
        Subject {
            id: self.id,
            summary: self.summary.clone(),
            reply_partition: self.reply_partition,
            attempt: 0,
            trace: self.trace.clone(),
        }
    }

    /// Goes on trying, for a job of which neither row nor event could be written.
    pub async fn keep_trying(&self, state: &AppState) {
        for _ in 0..TRIES {
            tokio::select! {
                () = state.stop.waits.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
            match self.make_visible(state).await {
                Visible::Now | Visible::Soon => return,
                Visible::Later(_) if state.stop.waits.is_cancelled() => break,
                Visible::Later(_) => {}
            }
        }
        tracing::warn!(
            job_id = %self.id,
            "neither store nor broker took the row of an accepted job: its status shows with its next event"
        );
    }
}

/// The label of a call's result in metrics.
pub fn call_label<T>(result: &Result<T, StoreError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) if error.is_transient() => "unavailable",
        Err(_) => "failed",
    }
}
