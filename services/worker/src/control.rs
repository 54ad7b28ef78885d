//! Which jobs are called off and which types are paused: what workers read on the control topic, and the attempts
//! that it ends.
//!
//! Pure but for its lock: time is passed in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_contract::pause::{Paused, TypeOrder};
use tidegate_contract::{CalledOff, JobId, JobType, Millis};
use tokio_util::sync::CancellationToken;

/// The jobs that are called off, and the attempts that run.
#[derive(Default)]
pub(crate) struct Control {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    called_off: CalledOff,
    running: HashMap<JobId, Attempts>,
    paused: Paused,
}

/// The attempts at one job: more than one only where it was delivered twice.
struct Attempts {
    count: usize,
    token: CancellationToken,
}

impl Control {
    /// A job is called off: attempts at it end now, and none begins until its deadline.
    pub(crate) fn call_off(&self, id: JobId, deadline: Millis, now: Millis) {
        let mut state = self.lock();
        if !state.called_off.insert(id, deadline, now) {
            return;
        }
        if let Some(attempts) = state.running.get(&id) {
            attempts.token.cancel();
        }
    }

    /// A type is paused or resumed; the last word counts.
    pub(crate) fn order_type(&self, job_type: JobType, order: &TypeOrder, now: Millis) {
        self.lock().paused.order(job_type, order, now);
    }

    /// Whether jobs of a type are not to be begun.
    pub(crate) fn is_paused(&self, job_type: &JobType, now: Millis) -> bool {
        self.lock().paused.until(job_type, now).is_some()
    }

    /// An attempt at a job, which runs or would: its token is cancelled as soon as the job is called off.
    pub(crate) fn attempt(self: &Arc<Self>, id: JobId) -> OpenAttempt {
        let mut state = self.lock();
        let called_off = state.called_off.contains(&id);
        let attempts = state.running.entry(id).or_insert_with(|| Attempts {
            count: 0,
            token: CancellationToken::new(),
        });
        attempts.count += 1;
        if called_off {
            attempts.token.cancel();
        }
        OpenAttempt {
            id,
            called_off: attempts.token.clone(),
            control: Arc::clone(self),
        }
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt, as long as it lives.
pub(crate) struct OpenAttempt {
    id: JobId,
    called_off: CancellationToken,
    control: Arc<Control>,
}

impl OpenAttempt {
    /// Ends once the job is called off; at once if it is already.
    pub(crate) async fn called_off(&self) {
        self.called_off.cancelled().await;
    }

    /// Whether it is called off.
    pub(crate) fn is_called_off(&self) -> bool {
        self.called_off.is_cancelled()
    }
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        let mut state = self.control.lock();
        if let Some(attempts) = state.running.get_mut(&self.id) {
            attempts.count -= 1;
            if attempts.count == 0 {
                state.running.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000;

    #[test]
    fn what_is_called_off_ends_where_it_runs_and_does_not_begin() {
        let control = Arc::<Control>::default();
        let (id, other) = (JobId::generate(), JobId::generate());
        let (first, second, bystander) = (
            control.attempt(id),
            control.attempt(id),
            control.attempt(other),
        );
        control.call_off(id, NOW + 1, NOW);
        assert!(first.is_called_off() && second.is_called_off());
        assert!(!bystander.is_called_off());
        drop((first, second));
        assert!(control.attempt(id).is_called_off(), "when it comes again");
        drop(bystander);
        assert!(control.lock().running.is_empty());
    }

    #[test]
    fn a_type_is_paused_until_it_is_resumed_or_its_time_is_over() {
        let control = Control::default();
        let (one, other): (JobType, JobType) = ("one".parse().unwrap(), "other".parse().unwrap());
        let pause = TypeOrder::Paused(NOW + 10);
        control.order_type(one.clone(), &pause, NOW);
        control.order_type(one.clone(), &pause, NOW);
        assert!(control.is_paused(&one, NOW) && !control.is_paused(&other, NOW));
        assert!(!control.is_paused(&one, NOW + 10), "not for ever");
        control.order_type(one.clone(), &TypeOrder::Resumed, NOW);
        assert!(!control.is_paused(&one, NOW));
    }
}
