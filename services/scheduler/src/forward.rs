//! A record on its way from a rung to the next one, or to its target.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use tidegate_contract::ladder::{Step, remaining};
use tidegate_contract::{Ladder, Millis, Topics, now_millis};
use tidegate_kafka::{Codec, Outgoing, ProduceError, Producer, Record};
use tidegate_runtime::Metrics;
use tokio_util::sync::CancellationToken;

use crate::judge::Problem;
use crate::orders::Orders;

/// What all rungs share.
pub(crate) struct Mover {
    pub producer: Producer,
    pub codec: Codec,
    pub ladder: Ladder,
    pub topics: Topics,
    pub metrics: Metrics,
    pub instance: String,
    pub orders: Arc<Orders>,
    /// Partitions of the replies topic, as far as is known.
    pub replies: AtomicI32,
    /// Ends all attempts to deliver: what is not acknowledged then is moved again by others.
    pub stop: CancellationToken,
}

/// What became of a record whose time had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It lies elsewhere, acknowledged.
    Done,
    /// The scheduler stops before that was known.
    Stopped,
}

impl Mover {
    /// Where a record goes now that its time has come; a little is left if a clock went back.
    pub(crate) fn step(&self, due: Millis, now: Millis) -> Step {
        self.ladder.step(remaining(due, now))
    }

    /// Produces a record to its target.
    pub(crate) async fn to_target(&self, record: &Record, rung: Duration, due: Millis) -> Moved {
        let Ok((target, partition)) = record.headers.target() else {
            // It was judged before.
            return Moved::Stopped;
        };
        let (topic, mut headers) = (target.to_owned(), record.headers.clone());
        headers.undelay();
        let out = outgoing(record, topic, partition, headers);
        let moved = self.send(record, out, "jobs").await;
        if moved == Moved::Done {
            self.metrics.delayed_moved(&name(rung), "target");
            self.metrics.delay_lateness(remaining(now_millis(), due));
        }
        moved
    }

    /// Produces a record to another rung.
    pub(crate) async fn to_rung(&self, record: &Record, from: Duration, to: Duration) -> Moved {
        let out = outgoing(record, self.topics.delay(to), None, record.headers.clone());
        let moved = self.send(record, out, "delay").await;
        if moved == Moved::Done {
            self.metrics.delayed_moved(&name(from), "rung");
        }
        moved
    }

    async fn send(&self, record: &Record, out: Outgoing, destination: &'static str) -> Moved {
        let begun = Instant::now();
        let sent = self.producer.send_until_acked(out, &self.stop).await;
        let label = result_label(&sent);
        self.metrics.produced(destination, label, begun.elapsed());
        match sent {
            Ok(_) => Moved::Done,
            Err(error @ ProduceError::TooLarge { .. }) => {
                // It lay on the ladder with more headers; only a limit that was lowered since can be the reason.
                self.set_aside(record, "too-large", &error.to_string())
                    .await
            }
            Err(_) => Moved::Stopped,
        }
    }

    /// Partitions of the replies topic, as far as is known.
    pub(crate) fn replies(&self) -> i32 {
        self.replies.load(Ordering::Relaxed)
    }

    /// Sets a record aside that says nothing sensible of itself.
    pub(crate) async fn refuse(&self, record: &Record, problem: &Problem) -> Moved {
        self.set_aside(record, problem.label(), &problem.to_string())
            .await
    }
}

fn outgoing(
    record: &Record,
    topic: String,
    partition: Option<i32>,
    headers: tidegate_contract::RecordHeaders,
) -> Outgoing {
    let key = record.key.as_deref().unwrap_or_default();
    Outgoing {
        topic,
        partition,
        key: String::from_utf8_lossy(key).into_owned(),
        headers,
        payload: record.payload.clone().unwrap_or_default(),
    }
}

/// A rung in metrics and logs.
pub(crate) fn name(rung: Duration) -> String {
    humantime::format_duration(rung).to_string()
}

/// The label of a produce in metrics.
pub(crate) fn result_label<T>(result: &Result<T, ProduceError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(ProduceError::QueueFull | ProduceError::EmbeddedFull(_)) => "queue-full",
        Err(ProduceError::TooLarge { .. }) => "too-large",
        Err(ProduceError::Refused(_)) => "refused",
        Err(ProduceError::Unknown(_)) => "unknown",
    }
}
