//! The state of one endpoint: whether it is called now, later or no more. Pure: the time is passed in.
//!
//! After some failures in a row it is paused. When the pause is over one attempt goes out alone: if it is taken, all go
//! out again; if not, the next pause is longer. A `410` ends it at once, and so do days of failures without a success;
//! it stays ended until somebody enables it.
//!
//! What is to survive a restart is the [`Record`]. Pauses do not: whoever starts tries, and pauses at the next failure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_contract::Millis;
use tidegate_contract::time::rfc3339;
use tidegate_runtime::Backoff;

use crate::settings::EndpointSettings;

/// Why an endpoint is not called any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It answered `410`.
    Gone,
    /// It has failed since then, without one success.
    FailingSince(Millis),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Gone => f.write_str("it answered 410: nobody wants these callbacks"),
            Why::FailingSince(at) => {
                write!(
                    f,
                    "it has failed since {} without one success",
                    rfc3339(*at)
                )
            }
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Taken.
    Made,
    /// Not taken, or nobody knows.
    Failed,
    /// Never to be tried again: `410`.
    Gone,
}

/// The right to make one attempt. Give it back with [`Endpoint::done`] or [`Endpoint::abandon`]: one that is lost
/// counts as open for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Turn(u64);

/// Whether an attempt may be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Go(Turn),
    /// When an attempt that is open has ended.
    Busy,
    /// Not before this.
    After(Millis),
    /// Not at all.
    Ended(Why),
}

/// A change that operators want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Paused until then.
    Paused(Millis),
    /// Called again.
    Resumed,
    /// Not called any more.
    Ended(Why),
}

/// What is to be kept of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Failures since the last success.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<Millis>,
    /// Why it is ended, if it is.
    pub ended: Option<Why>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Paused {
        until: Millis,
        pauses: u32,
    },
    /// The pause until then is over, and this turn shows whether the endpoint is back.
    Probing {
        turn: u64,
        until: Millis,
        pauses: u32,
    },
    Ended(Why),
}

/// One endpoint, as one process sees it.
#[derive(Debug)]
pub struct Endpoint {
    settings: EndpointSettings,
    state: State,
    failures: u32,
    failing_since: Option<Millis>,
    in_flight: usize,
    next_turn: u64,
    /// Turns before this one say nothing any more: they are from before somebody enabled the endpoint.
    first_turn: u64,
}

impl Endpoint {
    /// An endpoint of which that much is known; the default record for a new one.
    pub fn new(settings: EndpointSettings, record: Record) -> Self {
        Self {
            settings,
            state: record.ended.map_or(State::Open, State::Ended),
            failures: record.failures,
            failing_since: record.failing_since,
            in_flight: 0,
            next_turn: 0,
            first_turn: 0,
        }
    }

    /// Asks for an attempt.
    pub fn admit(&mut self, now: Millis) -> Admission {
        match self.state {
            State::Ended(why) => Admission::Ended(why),
            State::Paused { until, .. } if now < until => Admission::After(until),
            State::Probing { .. } => Admission::Busy,
            _ if self.in_flight >= self.settings.concurrency.max(1) => Admission::Busy,
            State::Open => Admission::Go(self.turn()),
            State::Paused { until, pauses } => {
                let turn = self.turn();
                self.state = State::Probing {
                    turn: turn.0,
                    until,
                    pauses,
                };
                Admission::Go(turn)
            }
        }
    }

    /// An attempt has ended at `now`. Says what that changes.
    pub fn done(&mut self, turn: Turn, delivery: Delivery, now: Millis) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        if turn.0 < self.first_turn || matches!(self.state, State::Ended(_)) {
            return None;
        }
        match delivery {
            Delivery::Made => self.succeeded(),
            Delivery::Failed => self.failed(&turn, now),
            Delivery::Gone => Some(self.end(Why::Gone)),
        }
    }

    /// An attempt was not made, or nobody waited for its end: nothing is known of the endpoint.
    pub fn abandon(&mut self, turn: Turn) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let State::Probing {
            turn: probe,
            until,
            pauses,
        } = self.state
            && probe == turn.0
        {
            self.state = State::Paused { until, pauses };
        }
    }

    /// Calls the endpoint again, whatever was before. Attempts that are still open say nothing of it.
    pub fn enable(&mut self) {
        self.state = State::Open;
        self.failures = 0;
        self.failing_since = None;
        self.first_turn = self.next_turn;
    }

    /// What another process has kept of it since: an end counts here too, and so does that the end was taken back.
    pub fn learn(&mut self, kept: Record) {
        match (kept.ended, self.state) {
            (Some(why), _) => self.state = State::Ended(why),
            (None, State::Ended(_)) => self.enable(),
            (None, _) => {}
        }
        self.failures = self.failures.max(kept.failures);
        self.failing_since = match (self.failing_since, kept.failing_since) {
            (Some(here), Some(there)) => Some(here.min(there)),
            (here, there) => here.or(there),
        };
    }

    /// What is to be kept.
    pub fn record(&self) -> Record {
        Record {
            failures: self.failures,
            failing_since: self.failing_since,
            ended: match self.state {
                State::Ended(why) => Some(why),
                _ => None,
            },
        }
    }

    /// Attempts that are open now.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Until when it is paused, also while the pause is over and one attempt shows whether it is back.
    pub fn paused_until(&self) -> Option<Millis> {
        match self.state {
            State::Paused { until, .. } | State::Probing { until, .. } => Some(until),
            State::Open | State::Ended(_) => None,
        }
    }

    /// Whether an attempt would have to wait for another one that is open.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// Whether nothing is known of it that a new one would not know.
    pub fn is_forgettable(&self) -> bool {
        self.in_flight == 0 && self.state == State::Open && self.failures == 0
    }

    fn turn(&mut self) -> Turn {
        let turn = Turn(self.next_turn);
        self.next_turn += 1;
        self.in_flight += 1;
        turn
    }

    /// Whichever attempt it was: what takes one message takes the next.
    fn succeeded(&mut self) -> Option<Change> {
        self.failures = 0;
        self.failing_since = None;
        let paused = self.state != State::Open;
        self.state = State::Open;
        paused.then_some(Change::Resumed)
    }

    fn failed(&mut self, turn: &Turn, now: Millis) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let enough = self.failures >= self.settings.failures;
        let long = millis(self.settings.give_up_after);
        // A single failure, and days later another, is no endpoint that is away: as many as pause it are needed.
        if enough && now.saturating_sub(since) >= long {
            return Some(self.end(Why::FailingSince(since)));
        }
        match self.state {
            State::Open if enough => Some(self.pause(0, now)),
            State::Probing {
                turn: probe,
                pauses,
                ..
            } if probe == turn.0 => Some(self.pause(pauses.saturating_add(1), now)),
            // Of attempts from before the pause: it is known already.
            _ => None,
        }
    }

    fn pause(&mut self, pauses: u32, now: Millis) -> Change {
        let backoff = Backoff {
            initial: self.settings.pause,
            factor: 2.0,
            cap: self.settings.longest_pause,
        };
        let until = now.saturating_add(millis(backoff.ceiling(pauses)));
        self.state = State::Paused { until, pauses };
        Change::Paused(until)
    }

    fn end(&mut self, why: Why) -> Change {
        self.state = State::Ended(why);
        Change::Ended(why)
    }
}

/// A duration as times are counted.
pub(crate) fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
