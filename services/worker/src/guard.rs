//! Who may begin a handler in this process, and when. See `tracker::poison` and `tracker::turns` of the contract for the
//! rules, and docs/decisions/0011-offsets-and-suspicion-travel-in-commits.md for the reasons.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_contract::tracker::poison::Care;
use tidegate_contract::tracker::turns::{Turn, Turns};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::lane::Place;
use crate::offsets::Gone;

/// The handlers of a process, as far as they stand in each other's way. Clones share.
#[derive(Clone)]
pub(crate) struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    turns: Mutex<Turns>,
    /// Counts what may let somebody begin.
    changes: watch::Sender<u64>,
    begun: Instant,
    /// For how long after an acknowledged commit a partition is certainly ours.
    certain: Duration,
}

/// A handler may run for as long as this lives.
pub(crate) struct Permit {
    inner: Arc<Inner>,
    turn: Turn,
    /// Of a suspect: where it lies.
    suspect: Option<Place>,
    /// What lets it go in time.
    let_go: Option<AbortHandle>,
}

impl Guard {
    /// `certain`: how long after an acknowledged commit a partition is certainly ours; less than a session.
    pub(crate) fn new(certain: Duration) -> Self {
        let inner = Inner {
            turns: Mutex::default(),
            changes: watch::Sender::new(0),
            begun: Instant::now(),
            certain,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Waits until a handler of the record may run. A `serial` one is to run nowhere else meanwhile: it waits until it
    /// is certain that the partition is still ours.
    pub(crate) async fn begin(&self, place: &Place, serial: bool) -> Result<Permit, Gone> {
        let care = place.care()?;
        match care {
            Care::Alone { strictly, hold } => return self.begin_alone(place, strictly, hold).await,
            // Neither comes here: poison is set aside where it is read.
            Care::Poison { .. } => return Err(Gone),
            Care::None | Care::Announce => {}
        }
        let permit = Permit {
            turn: self.turn(place, |turns, now| turns.begin(now)).await?,
            inner: Arc::clone(&self.inner),
            suspect: None,
            let_go: None,
        };
        place.begin()?;
        if care == Care::Announce || (serial && !place.was_ours(self.inner.certain)) {
            place.announced().await?;
        }
        Ok(permit)
    }

    async fn begin_alone(
        &self,
        place: &Place,
        strictly: bool,
        hold: Duration,
    ) -> Result<Permit, Gone> {
        let mut waiting = Waiting::new(&self.inner, strictly);
        let (turn, alone) = self
            .turn(place, |turns, now| turns.begin_alone(strictly, now))
            .await?;
        waiting.has_begun();
        let mut permit = Permit {
            inner: Arc::clone(&self.inner),
            turn,
            suspect: Some(place.clone()),
            let_go: None,
        };
        place.begin()?;
        place.mark(alone);
        tracing::info!(
            topic = place.lane.topic,
            partition = place.partition,
            offset = place.offset,
            alone,
            "a job that ran when a worker ended runs on its own for a moment"
        );
        place.announced().await?;
        let (held, inner) = (place.clone(), Arc::clone(&self.inner));
        let let_go = tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            held.unmark();
            // Only then may others run beside it: what they do must not count against it.
            let _ = held.announced().await;
            inner.lock().let_go(turn);
            inner.changed();
        });
        permit.let_go = Some(let_go.abort_handle());
        Ok(permit)
    }

    /// Waits for a turn.
    async fn turn<T>(
        &self,
        place: &Place,
        begin: impl Fn(&mut Turns, Duration) -> Option<T>,
    ) -> Result<T, Gone> {
        let mut changes = self.inner.changes.subscribe();
        let mut answers = place.lane.answers.subscribe();
        loop {
            let now = self.inner.begun.elapsed();
            let again = {
                let mut turns = self.inner.lock();
                if let Some(turn) = begin(&mut turns, now) {
                    return Ok(turn);
                }
                turns.look_again(now)
            };
            if !place.is_current() {
                return Err(Gone);
            }
            let pause = again.map_or(Duration::from_secs(1), |at| at.saturating_sub(now));
            tokio::select! {
                _ = changes.changed() => {}
                _ = answers.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Nothing under the lock can panic half-way through a change.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Permit {
    /// The handler has ended. A suspect holds others up until a commit says so.
    pub(crate) async fn ended(self) {
        self.unmark();
        if let Some(place) = &self.suspect {
            let _ = place.announced().await;
        }
    }

    fn unmark(&self) {
        if let Some(let_go) = &self.let_go {
            let_go.abort();
        }
        if let Some(place) = &self.suspect {
            place.unmark();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.unmark();
        self.inner.lock().end(self.turn);
        self.inner.changed();
    }
}

/// A suspect in line, until it begins or gives up.
struct Waiting<'a> {
    inner: &'a Inner,
    strictly: bool,
    begun: bool,
}

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner, strictly: bool) -> Self {
        inner.lock().queue(strictly);
        Self {
            inner,
            strictly,
            begun: false,
        }
    }

    fn has_begun(&mut self) {
        self.begun = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.begun {
            self.inner.lock().give_up(self.strictly);
            self.inner.changed();
        }
    }
}
