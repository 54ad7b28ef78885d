//! A job that was accepted can be looked up: its row, or the event from which the row will be made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_contract::{EventKind, JobEvent, JobId, JobSummary, RecordHeaders, now_millis};
use tidegate_kafka::Outgoing;
use tidegate_store::NewJob;

use crate::engine::Engine;
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
    /// The trace context of the job's record.
    pub trace: Vec<(String, String)>,
}

impl Facts {
    /// Makes the row. `false` if the store is away.
    pub async fn insert(&self, state: &AppState) -> bool {
        let row = NewJob {
            id: self.id,
            summary: self.summary.clone(),
            reply_partition: self.reply_partition,
        };
        let begun = Instant::now();
        let result = state.engine.insert(row).await;
        let label = match &result {
            Ok(()) => "ok",
            Err(error) if error.is_transient() => "unavailable",
            Err(_) => "failed",
        };
        state.metrics.store_call("insert", label, begun.elapsed());
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
        match self
            .announce(&state.engine, &state.topics.replies(), &state.instance)
            .await
        {
            Ok(()) => Visible::Soon,
            Err(reason) => Visible::Later(reason),
        }
    }

    async fn announce(
        &self,
        engine: &Arc<dyn Engine>,
        topic: &str,
        source: &str,
    ) -> Result<(), String> {
        let event = JobEvent {
            job_id: self.id,
            kind: EventKind::Accepted,
            at: now_millis(),
            attempt: 0,
            job: self.summary.clone(),
            source: source.to_owned(),
            outcome: None,
            error: None,
            progress: None,
            timings: None,
        };
        let payload = engine.encode_event(&event).map_err(|e| e.to_string())?;
        let mut headers = RecordHeaders::of_event(&event, self.reply_partition);
        for (name, value) in &self.trace {
            headers.set(name.as_str(), value.as_str());
        }
        let ack = engine.enqueue(Outgoing {
            topic: topic.to_owned(),
            partition: Some(self.reply_partition),
            key: self.id.to_string(),
            headers,
            payload,
        });
        let delivered = match ack {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        delivered.map(|_| ()).map_err(|error| error.to_string())
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
