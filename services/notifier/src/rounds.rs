//! Round after round until a stop: what callbacks and e-mails are taken by.

use std::time::Duration;

use tidegate_runtime::{Backoff, Condition};
use tidegate_store::StoreError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What follows a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another one: there may be more.
    AtOnce,
    /// Another one after a tick, or when somebody wakes it.
    Wait,
}

/// Which rounds, and what they wait for.
pub(crate) struct Rounds<'a> {
    /// What is taken, for the log: `callbacks`.
    pub what: &'static str,
    /// The longest pause while the store answers.
    pub tick: Duration,
    /// Whether it does. A round says that it does, this loop that it does not.
    pub store: &'a Condition,
    /// There may be something new to take.
    pub wake: &'a Notify,
    /// There is room for it again.
    pub freed: &'a Notify,
}

impl Rounds<'_> {
    /// Makes rounds until `stop`; the one that is under way then ends. After a failure nobody wakes it before its time.
    pub(crate) async fn run<F>(&self, stop: &CancellationToken, round: impl Fn() -> F)
    where
        F: Future<Output = Result<Next, StoreError>>,
    {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let pause = match round().await {
                Ok(next) => {
                    failures = 0;
                    if next == Next::AtOnce {
                        continue;
                    }
                    self.tick
                }
                Err(error) => {
                    if self.store.is_ok() {
                        tracing::warn!(%error, "{} wait for the store", self.what);
                    }
                    self.store.fail(error.to_string());
                    failures += 1;
                    Backoff::default().delay(failures - 1, rand::random())
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified(), if failures == 0 => {}
                () = self.freed.notified(), if failures == 0 => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::time::Instant;

    use tidegate_runtime::Readiness;
    use tokio::time::timeout;

    use super::*;
    use crate::testing::PATIENCE;

    const LONG: Duration = Duration::from_secs(3600);

    /// Makes rounds that end so, one after the other, and stops at the last one. Each wakes the next, if it is told by
    /// what. How long all of them took, and whether the store was there in the end.
    async fn took(
        tick: Duration,
        ends: Vec<Result<Next, StoreError>>,
        woken: impl Fn(&Notify, &Notify),
    ) -> (Duration, bool) {
        let (wake, freed, stop) = (Notify::new(), Notify::new(), CancellationToken::new());
        let store = Readiness::new().condition("store");
        store.ok();
        let ends = RefCell::new(VecDeque::from(ends));
        let rounds = Rounds {
            what: "tests",
            tick,
            store: &store,
            wake: &wake,
            freed: &freed,
        };
        let round = || {
            let mut ends = ends.borrow_mut();
            let end = ends.pop_front();
            if ends.is_empty() {
                stop.cancel();
            }
            woken(&wake, &freed);
            std::future::ready(end.unwrap_or(Ok(Next::Wait)))
        };
        let begun = Instant::now();
        let run = timeout(PATIENCE, rounds.run(&stop, round)).await;
        assert!(run.is_ok(), "nothing woke it");
        assert!(ends.borrow().is_empty());
        (begun.elapsed(), store.is_ok())
    }

    #[tokio::test]
    async fn a_round_follows_at_once_or_when_it_is_woken_or_after_a_tick() {
        let wait = || vec![Ok(Next::Wait), Ok(Next::Wait)];
        took(LONG, vec![Ok(Next::AtOnce), Ok(Next::Wait)], |_, _| {}).await;
        took(LONG, wait(), |wake, _| wake.notify_one()).await;
        took(LONG, wait(), |_, freed| freed.notify_one()).await;
        let tick = Duration::from_millis(50);
        let (took, ok) = took(tick, wait(), |_, _| {}).await;
        assert!(took >= tick && ok, "{took:?}");
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_told_and_asked_after_a_pause_whoever_wakes() {
        let away = || Err(StoreError::Unavailable("away".to_owned()));
        let ends = (0..5).map(|_| away()).collect();
        let both = |wake: &Notify, freed: &Notify| {
            wake.notify_one();
            freed.notify_one();
        };
        let (took, ok) = took(LONG, ends, both).await;
        // Each pause may be short, by chance; not all of them.
        assert!(took >= Duration::from_millis(10) && !ok, "{took:?}");
    }
}
