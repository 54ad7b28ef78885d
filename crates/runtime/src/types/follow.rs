//! Reads the file of job types again and again, and puts what is good in force.

use std::sync::Arc;
use std::time::Duration;

use tidegate_contract::JobTypes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::watch::{Content, Refusal, Step, Watch};
use super::{Changes, TakesTypes, TypesFile, announce, digest};
use crate::config::read_text;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// How often the file is read.
const EVERY: Duration = Duration::from_millis(500);

/// A process that follows its file of job types.
pub struct Follower {
    pub file: TypesFile,
    /// What was made of it when the process began.
    pub types: JobTypes,
    /// All that have to change together; in this order.
    pub roles: Vec<Arc<dyn TakesTypes>>,
    pub readiness: Vec<Readiness>,
    pub metrics: Metrics,
}

impl Follower {
    /// Follows the file until `stop`. SIGHUP makes it look at once.
    pub async fn run(self, stop: CancellationToken) {
        // Without the signal the clock still serves.
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = Instant::now();
        let mut watch = Watch::new(self.file.text.as_str().into());
        let mut types = self.types.clone();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => false,
                () = hung_up(&mut hangup) => true,
            };
            let path = self.file.path.clone();
            let reading = tokio::task::spawn_blocking(move || read_text(&path));
            let content: Content = match reading.await {
                Ok(read) => read.map(Into::into).map_err(Into::into),
                // The runtime ends.
                Err(_) => return,
            };
            let step = watch.read(content, begun.elapsed(), asked);
            match step {
                Step::Nothing => {}
                Step::Mended => {
                    tracing::info!(file = %self.file.path.display(), "the job types in force are in the file again");
                    self.show(None);
                }
                Step::Try(text) => {
                    let taking = self.take(&text, &mut types);
                    let Some(taken) = stop.run_until_cancelled(taking).await else {
                        return;
                    };
                    match taken {
                        Ok(()) => watch.taken(),
                        Err(refusal) => watch.refused(refusal, begun.elapsed()),
                    }
                }
            }
            if let Some(problem) = watch.tell(begun.elapsed(), asked) {
                tracing::warn!(
                    file = %self.file.path.display(),
                    digest = digest(&types),
                    problem,
                    "the file of job types cannot be used: the types before stay in force"
                );
                self.metrics.job_types_reloaded("failed");
                self.show(Some(&problem));
            }
        }
    }

    async fn take(&self, text: &str, types: &mut JobTypes) -> Result<(), Refusal> {
        let new = self.file.types(text).map_err(|problem| Refusal {
            problem,
            passes: false,
        })?;
        let changes = Changes::between(types, &new);
        if changes != Changes::default() {
            let mut swaps = Vec::new();
            for role in &self.roles {
                let prepared = role.prepare(&new).await;
                swaps.push(prepared.map_err(|problem| Refusal {
                    problem: format!("file {}: {problem}", self.file.path.display()),
                    passes: true,
                })?);
            }
            for swap in swaps {
                swap();
            }
        }
        let file = self.file.path.display().to_string();
        announce(&new, Some(&file), &self.readiness, &self.metrics);
        self.metrics.job_types_reloaded("ok");
        tracing::info!(
            file,
            digest = digest(&new),
            added = changes.added.join(" "),
            removed = changes.removed.join(" "),
            changed = changes.changed.join(" "),
            "job types read again"
        );
        *types = new;
        Ok(())
    }

    fn show(&self, problem: Option<&str>) {
        for role in &self.readiness {
            role.types_error(problem);
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
