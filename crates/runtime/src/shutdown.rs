//! How a process ends: asked once, in one order, within a known time.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a stage gets when the grace time is used up.
const LAST_CHANCE: Duration = Duration::from_millis(250);

/// The stages of a clean stop, in the one order that every role keeps.
///
/// Each stage makes the next one safe: what is drained may still produce, what is flushed may then be committed as done,
/// and the group is left only with the commits in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Take no new work: refuse submits, stop polling for jobs.
    StopIntake,
    /// Let what is running end, or turn it into something durable (a wait into `202`).
    Drain,
    /// Wait until the broker has acknowledged everything produced.
    FlushProducer,
    /// Commit what is done.
    Commit,
    /// Leave the consumer group, so that others take over at once and not after the session timeout.
    LeaveGroup,
    /// Send the last spans.
    FlushTraces,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::StopIntake => "stop intake",
            Stage::Drain => "drain",
            Stage::FlushProducer => "flush producer",
            Stage::Commit => "commit",
            Stage::LeaveGroup => "leave group",
            Stage::FlushTraces => "flush traces",
        })
    }
}

/// The request to stop, shared by all parts of a process. Clones share.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    deadline: Arc<OnceLock<Instant>>,
    grace: Duration,
}

impl Shutdown {
    /// Not asked yet. `grace` is the time from the request to the end.
    pub fn new(grace: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            deadline: Arc::default(),
            grace,
        }
    }

    /// Cancelled when the process is asked to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A token that ends with this one, or earlier by itself.
    pub fn child_token(&self) -> CancellationToken {
        self.token.child_token()
    }

    /// Asks to stop; the grace time starts. Later calls change nothing.
    pub fn trigger(&self) {
        self.deadline.get_or_init(|| Instant::now() + self.grace);
        self.token.cancel();
    }

    /// Whether the process was asked to stop.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for the request to stop.
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// The time that a clean stop may take.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// What is left of the grace time; all of it before the request.
    pub fn remaining(&self) -> Duration {
        self.deadline.get().map_or(self.grace, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }

    /// Runs one stage of the stop for as long as the grace time allows. `None` if it had to be left unfinished; the
    /// next stages are still to be tried.
    pub async fn stage<T>(&self, stage: Stage, work: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        // A little is granted even after the end of the grace time: a flush or a commit that needs no waiting is
        // better tried than skipped.
        let limit = self.remaining().max(LAST_CHANCE);
        match tokio::time::timeout(limit, work).await {
            Ok(value) => {
                tracing::debug!(%stage, took_ms = began.elapsed().as_millis() as u64, "stage of the stop done");
                Some(value)
            }
            Err(_) => {
                tracing::warn!(%stage, limit_ms = limit.as_millis() as u64, "stage of the stop left unfinished");
                None
            }
        }
    }

    /// Turns SIGTERM and SIGINT into [`trigger`](Self::trigger). A second signal ends the process at once with code
    /// 130, whatever is unfinished. Call within a tokio runtime, once a process.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen_to_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if first {
                    tracing::info!(
                        signal = name,
                        grace_s = shutdown.grace.as_secs(),
                        "stopping"
                    );
                    shutdown.trigger();
                } else {
                    tracing::warn!(signal = name, "asked twice: ending at once");
                    std::process::exit(130);
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_grace_time_is_shared_by_the_stages() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        assert_eq!(shutdown.remaining(), Duration::from_secs(10));
        let token = shutdown.child_token();
        shutdown.trigger();
        shutdown.triggered().await;
        assert!(token.is_cancelled() && shutdown.is_triggered());

        let nap = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert_eq!(shutdown.stage(Stage::StopIntake, nap(4)).await, Some(()));
        assert_eq!(shutdown.remaining(), Duration::from_secs(6));
        shutdown.trigger();
        assert_eq!(
            shutdown.remaining(),
            Duration::from_secs(6),
            "a second request gives no more time"
        );
        assert_eq!(shutdown.stage(Stage::Drain, nap(60)).await, None);
        assert_eq!(shutdown.remaining(), Duration::ZERO);
        assert_eq!(shutdown.stage(Stage::Commit, async { 7 }).await, Some(7));
        assert_eq!(shutdown.stage(Stage::LeaveGroup, nap(60)).await, None);
    }

    #[test]
    fn the_stages_have_one_order() {
        use Stage::{Commit, Drain, FlushProducer, FlushTraces, LeaveGroup, StopIntake};
        let order = [
            StopIntake,
            Drain,
            FlushProducer,
            Commit,
            LeaveGroup,
            FlushTraces,
        ];
        assert!(order.is_sorted());
    }
}
