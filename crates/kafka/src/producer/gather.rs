//! Batching that follows the load: while few records come each is sent at once, while many come they are held for a
//! moment and handed over together.
//!
//! librdkafka's own `linger.ms` is one or the other for good: 0 sends a request for nearly every record when many come,
//! and 1 makes every lone record wait. See docs/decisions/0016-batches-follow-the-load.md.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Outgoing;
use super::native::Pending;
use super::pace::{Load, Pace};
use crate::error::KafkaError;

/// A record that is held, and what waits for its outcome.
pub(super) type Held = (Outgoing, Box<Pending>);

/// Where records are held. A thread of its own hands them over.
pub(super) struct Gather {
    shared: Arc<Shared>,
}

struct Shared {
    /// Longest that a record is held: while very many come. Half of it while many do.
    hold: Duration,
    state: Mutex<State>,
    /// Told when the first record is held, and at the end.
    changed: Condvar,
    /// Told when all that was held is handed over.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    held: Vec<Held>,
    pace: Pace,
    load: Load,
    /// What was held is being handed over right now: what comes meanwhile must not overtake it.
    draining: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gather {
    /// Holds records for at most `hold`, and hands them over by `send`, in their order. With a `hold` of nothing no
    /// record is ever held.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn new(
        hold: Duration,
        send: impl Fn(Held) + Send + 'static,
    ) -> Result<Self, KafkaError> {
        let shared = Arc::new(Shared {
            hold,
            state: Mutex::default(),
            changed: Condvar::new(),
            drained: Condvar::new(),
        });
        if !hold.is_zero() {
            let gathering = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("kafka-producer-gather".to_owned())
                .spawn(move || gathering.run(send))
                .map_err(|error| {
                    KafkaError::Unavailable(format!("no thread to send on: {error}"))
                })?;
        }
        Ok(Self { shared })
    }

    /// Takes a record that comes at `now`, if it is to be held; else gives it back, to be sent at once.
    pub(super) fn hold(&self, record: Held, now: Instant) -> Option<Held> {
        if self.shared.hold.is_zero() {
            return Some(record);
        }
        let mut state = self.shared.lock();
        state.load = state.pace.note(now);
        if state.load == Load::Few && state.held.is_empty() && !state.draining {
            return Some(record);
        }
        state.held.push(record);
        if state.held.len() == 1 {
            self.shared.changed.notify_one();
        }
        None
    }

    /// Waits until what is held now is handed over: about as long as records are held.
    pub(super) fn drain(&self) {
        let state = self.shared.lock();
        let limit = self.shared.hold * 10 + Duration::from_millis(100);
        let waiting = |state: &mut State| state.draining || !state.held.is_empty();
        drop(
            self.shared
                .drained
                .wait_timeout_while(state, limit, waiting),
        );
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Hands over what is held, a moment after the first of it came, until closed.
    fn run(&self, send: impl Fn(Held)) {
        loop {
            let state = self.lock();
            let idle = |state: &mut State| state.held.is_empty() && !state.closed;
            let state = self.changed.wait_while(state, idle);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let (closed, load) = (state.closed, state.load);
            drop(state);
            if !closed {
                std::thread::sleep(match load {
                    Load::VeryMany => self.hold,
                    _ => self.hold / 2,
                });
            }
            let mut state = self.lock();
            let held = std::mem::take(&mut state.held);
            state.draining = true;
            drop(state);
            held.into_iter().for_each(&send);
            let mut state = self.lock();
            state.draining = false;
            if state.held.is_empty() {
                self.drained.notify_all();
                if state.closed {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use bytes::Bytes;
    use std::sync::mpsc;
    use tidegate_contract::RecordHeaders;
    use tokio::sync::oneshot;

    fn record(number: usize) -> Held {
        let out = Outgoing {
            topic: "a".into(),
            partition: None,
            key: number.to_string(),
            headers: RecordHeaders::new(),
            payload: Bytes::new(),
        };
        let pending = Pending {
            answer: oneshot::channel().0,
            bytes: 0,
            limit: 0,
            reservation: None,
            _place: Room::new(1).take().unwrap(),
        };
        (out, Box::new(pending))
    }

    fn gather(hold: Duration) -> (Gather, mpsc::Receiver<String>) {
        let (sent, receiver) = mpsc::channel();
        let gather = Gather::new(hold, move |(out, _)| drop(sent.send(out.key))).unwrap();
        (gather, receiver)
    }

    #[test]
    fn few_are_sent_at_once_and_many_are_held_in_their_order() {
        let (gather, sent) = gather(Duration::from_millis(1));
        let begin = Instant::now();
        let slowly = |n: u32| begin + Duration::from_millis(5) * n;
        assert!((0..50).all(|n| gather.hold(record(0), slowly(n)).is_some()));
        let later = slowly(100);
        let mut at_once = 0;
        for number in 0..10_000 {
            let now = later + Duration::from_micros(20) * u32::try_from(number).unwrap();
            match gather.hold(record(number), now) {
                Some(_) => at_once = number + 1,
                None => assert!(at_once < 20, "{at_once} were sent at once"),
            }
        }
        gather.drain();
        let keys: Vec<usize> = sent.try_iter().map(|key| key.parse().unwrap()).collect();
        assert_eq!(keys, (at_once..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_held_without_time_for_it_and_nothing_is_lost_at_the_end() {
        let (never, _sent) = gather(Duration::ZERO);
        let now = Instant::now();
        assert!((0..100).all(|_| never.hold(record(0), now).is_some()));

        let (gather, sent) = gather(Duration::from_secs(60));
        let held = (0..100)
            .filter(|n| gather.hold(record(*n), now).is_none())
            .count();
        assert!(held > 80);
        drop(gather);
        // The channel ends with the thread.
        assert_eq!(sent.iter().count(), held);
    }
}
