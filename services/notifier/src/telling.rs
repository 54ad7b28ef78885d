//! Tells the store what became of a follow-up. What it does not hear of looks as if it had not happened, and is done
//! again: so it is told again and again while it is away, and nothing more is taken meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidegate_contract::JobId;
use tidegate_runtime::{Backoff, Condition};
use tidegate_store::StoreError;
use tokio::sync::Notify;

/// What a lease is longer than the longest attempt: for loading the job and telling the end.
pub(crate) const MARGIN: Duration = Duration::from_secs(15);
/// How long the store may be away until what was delivered is left to be delivered again.
const TELL_FOR: Duration = Duration::from_secs(600);

/// What one dispatcher has not told the store yet.
pub(crate) struct Telling {
    /// What is told of, for the log: `a callback`.
    what: &'static str,
    store: Condition,
    /// Deliveries of which the store could not be told yet.
    untold: AtomicUsize,
    /// Woken when there are fewer of them.
    freed: Arc<Notify>,
}

impl Telling {
    pub(crate) fn new(what: &'static str, store: Condition, freed: Arc<Notify>) -> Self {
        Self {
            what,
            store,
            untold: AtomicUsize::new(0),
            freed,
        }
    }

    /// Whether the store has to hear of something yet: what would be taken might be what was delivered already.
    pub(crate) fn is_behind(&self) -> bool {
        self.untold.load(Ordering::Acquire) > 0
    }

    /// Tells the store, as long as it is away again and again. `None` if it could not be told.
    pub(crate) async fn tell<T, F>(
        &self,
        job: JobId,
        call: &'static str,
        write: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let begun = Instant::now();
        let mut untold = None;
        for failures in 0.. {
            match write().await {
                Ok(value) => {
                    if untold.is_some() {
                        self.store.ok();
                    }
                    return Some(value);
                }
                Err(error) if error.is_transient() && begun.elapsed() < TELL_FOR => {
                    self.store.fail(error.to_string());
                    untold.get_or_insert_with(|| Untold::new(self));
                    let pause = Backoff::default().delay(failures, rand::random());
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    tracing::error!(job_id = %job, call, %error, "the store was not told of {}", self.what);
                    return None;
                }
            }
        }
        None
    }
}

/// While it lives nothing is taken.
struct Untold<'a>(&'a Telling);

impl<'a> Untold<'a> {
    fn new(telling: &'a Telling) -> Self {
        telling.untold.fetch_add(1, Ordering::AcqRel);
        Self(telling)
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.0.untold.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}
