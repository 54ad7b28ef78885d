//! Joins single inserts into batches.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::store::Store;
use crate::types::NewJob;

/// Jobs of one write at most.
const BATCH: usize = 256;
/// Jobs that may wait for their write.
const QUEUE: usize = 10_000;

type Answer = oneshot::Sender<Result<(), StoreError>>;

/// Writes rows of accepted jobs in batches. While one write is under way the next batch collects, so that batches
/// grow with the load and a single job waits for nobody.
#[derive(Clone, Debug)]
pub struct Inserter {
    queue: mpsc::Sender<(NewJob, Answer)>,
}

impl Inserter {
    /// Starts the writer task on the current Tokio runtime. It ends after the last clone was dropped and what it
    /// holds was written.
    pub fn spawn(store: Arc<dyn Store>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, waiting));
        Self { queue }
    }

    /// Writes a row together with those of other callers; ends when it is written, or at once with
    /// [`StoreError::Unavailable`] when too many wait already. A caller that goes away does not take its row back.
    pub async fn insert(&self, job: NewJob) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((job, answer)).map_err(|error| {
            let reason = match error {
                mpsc::error::TrySendError::Full(_) => "too many writes are waiting",
                mpsc::error::TrySendError::Closed(_) => "its writer has ended",
            };
            StoreError::Unavailable(reason.to_owned())
        })?;
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("its writer has ended".to_owned())))
    }
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<(NewJob, Answer)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (jobs, answers): (Vec<NewJob>, Vec<Answer>) = batch.drain(..).unzip();
        match store.insert(&jobs).await {
            Ok(()) => tell(answers, &Ok(())),
            Err(error) if error.is_transient() => {
                tell(answers, &Err(error.clone()));
                // Those behind them have waited as long, and would have to do so again one batch after the other.
                while let Ok((_, answer)) = waiting.try_recv() {
                    tell([answer], &Err(error.clone()));
                }
            }
            Err(_) => {
                // One of them is at fault; its neighbours are not.
                for (job, answer) in jobs.into_iter().zip(answers) {
                    tell([answer], &store.insert(&[job]).await);
                }
            }
        }
    }
}

fn tell(answers: impl IntoIterator<Item = Answer>, result: &Result<(), StoreError>) {
    for answer in answers {
        // The caller may have gone; the row is written all the same.
        let _ = answer.send(result.clone());
    }
}
