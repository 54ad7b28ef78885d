//! A breaker: closed while its target answers, open while that is down, and then for one probe at a time. Pure: time
//! and random numbers are passed in. See docs/decisions/0020-breakers.md.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_contract::{BreakerPolicy, parking};

/// Failures in a row count together for so long: a target that rarely has jobs is not down by what it did an hour ago.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// What an attempt tells of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It answered, whatever the answer means to the job.
    Up,
    /// Nobody is there.
    Down,
    /// The attempt's time was up before an answer came: the target may be stuck, or the job slow.
    NoAnswer,
    /// Nothing: the attempt was cut off, or failed for another reason.
    Nothing,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has opened, and lets a probe through after this pause.
    Opened(Duration),
    /// A probe has failed, or found no answer: the next one follows after this pause.
    StillDown(Duration),
    /// A probe came through, so long after it opened.
    Closed(Duration),
}

/// Permission for one attempt, to be given back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pass {
    era: u64,
}

/// All times count from one beginning.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Counts openings and closings: what attempts tell that began before the last one says nothing any more.
    era: u64,
}

#[derive(Debug)]
enum State {
    Closed {
        /// When those failures were that no success came after, within the window, the oldest first.
        failures: VecDeque<Duration>,
    },
    Open {
        since: Duration,
        /// From then on a probe is let through.
        until: Duration,
        /// Probes that failed.
        failed: u32,
        /// A probe is on its way.
        probing: bool,
    },
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            state: State::closed(),
            era: 0,
        }
    }

    /// Whether an attempt would get a pass now.
    pub(crate) fn lets_in(&self, now: Duration) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, probing, .. } => !probing && now >= until,
        }
    }

    /// A pass for an attempt that begins now. Of an open breaker it is the only one until it is given back.
    pub(crate) fn enter(&mut self, now: Duration) -> Option<Pass> {
        if !self.lets_in(now) {
            return None;
        }
        if let State::Open { probing, .. } = &mut self.state {
            *probing = true;
        }
        Some(Pass { era: self.era })
    }

    /// Takes a pass back, with what its attempt tells. `policy` is that of the attempt's job type; `random` is from 0
    /// to 1.
    pub(crate) fn leave(
        &mut self,
        pass: Pass,
        said: Said,
        policy: &BreakerPolicy,
        now: Duration,
        random: f64,
    ) -> Option<Change> {
        if pass.era != self.era {
            return None;
        }
        let pause_after = |probes| parking::pause(probes, policy.pause, policy.max_pause, random);
        match (&mut self.state, said) {
            (State::Closed { .. }, Said::NoAnswer | Said::Nothing) => None,
            (State::Closed { failures }, Said::Up) => {
                failures.clear();
                None
            }
            (State::Closed { failures }, Said::Down) => {
                let most = policy.failures.clamp(1, BreakerPolicy::MOST_FAILURES) as usize;
                failures.push_back(now);
                failures.retain(|at| now.saturating_sub(*at) <= WINDOW);
                if failures.len() < most {
                    return None;
                }
                let pause = pause_after(0);
                self.era += 1;
                self.state = State::Open {
                    since: now,
                    until: now.saturating_add(pause),
                    failed: 0,
                    probing: false,
                };
                Some(Change::Opened(pause))
            }
            // Whoever has a pass of this era is the probe.
            (State::Open { probing, .. }, Said::Nothing) => {
                *probing = false;
                None
            }
            (State::Open { since, .. }, Said::Up) => {
                let was_open = now.saturating_sub(*since);
                self.era += 1;
                self.state = State::closed();
                Some(Change::Closed(was_open))
            }
            (
                State::Open {
                    until,
                    failed,
                    probing,
                    ..
                },
                Said::Down | Said::NoAnswer,
            ) => {
                // Without an answer nothing is proven, but neither may a stuck target cost one attempt after the other.
                if said == Said::Down {
                    *failed = failed.saturating_add(1);
                }
                let pause = pause_after(*failed);
                *until = now.saturating_add(pause);
                *probing = false;
                Some(Change::StillDown(pause))
            }
        }
    }
}

impl State {
    fn closed() -> Self {
        Self::Closed {
            failures: VecDeque::new(),
        }
    }
}
