//! What will happen to the processes and servers, and when: all of it follows from the seed. Pure.
//!
//! Here is what can happen; `dealer` says what does.

mod dealer;

use std::fmt;

use dealer::{Card, Dealer};

/// Milliseconds since the storm began.
pub type At = u64;

/// What processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Gateway,
    Worker,
    Scheduler,
    Notifier,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Gateway, Role::Worker, Role::Scheduler, Role::Notifier];

    /// The command that starts it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Worker => "worker",
            Role::Scheduler => "scheduler",
            Role::Notifier => "notifier",
        }
    }

    /// How many there are all the time. Guests have the numbers above.
    pub const fn residents(self) -> usize {
        match self {
            Role::Gateway | Role::Worker => 3,
            Role::Scheduler | Role::Notifier => 2,
        }
    }

    /// How many there are at most.
    pub const fn places(self) -> usize {
        match self {
            Role::Gateway | Role::Worker => 4,
            Role::Scheduler | Role::Notifier => 2,
        }
    }
}

/// One process, whatever its incarnation: the role and a number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    pub role: Role,
    pub number: usize,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.as_str(), self.number)
    }
}

/// How a connection through a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Open,
    Slow(u64),
    Cut,
    /// Nothing moves, and goes on later.
    Still,
    /// What is connected stays so and is never heard of again.
    HalfOpen,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Kill(Seat),
    /// SIGTERM.
    Stop(Seat),
    Start(Seat),
    Pause(Seat),
    Resume(Seat),
    /// A broker, by its number from 1.
    BrokerStop(u32),
    BrokerKill(u32),
    BrokerPause(u32),
    /// Also of one that stands still.
    BrokerStart(u32),
    /// Between the gateways and the store.
    Store(Weather),
    /// Between the gateways and the broker.
    Wire(Weather),
    /// A job that kills its worker.
    Poison,
    /// So many jobs at once.
    Burst(u64),
}

/// The whole course of a storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub length: At,
    /// In the order of time.
    pub steps: Vec<(At, Step)>,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, length: At, brokers: u32) -> Self {
        Dealer::new(seed, length, brokers).deal()
    }

    /// The plan for a defect: for `skip-cas` nothing but the trouble that it shows in, again and again; else the usual one.
    pub fn against(sabotage: Option<&str>, seed: u64, length: At, brokers: u32) -> Self {
        let mut dealer = Dealer::new(seed, length, brokers);
        if sabotage == Some("skip-cas") {
            dealer.deck = vec![Card::Overtaken; 4];
        }
        dealer.deal()
    }

    /// One line a step.
    pub fn lines(&self) -> Vec<String> {
        let line =
            |(at, step): &(At, Step)| format!("{:>4}.{} s  {step}", at / 1000, at % 1000 / 100);
        self.steps.iter().map(line).collect()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Kill(seat) => write!(f, "kill -9 {seat}"),
            Step::Stop(seat) => write!(f, "stop {seat}"),
            Step::Start(seat) => write!(f, "start {seat}"),
            Step::Pause(seat) => write!(f, "pause {seat}"),
            Step::Resume(seat) => write!(f, "resume {seat}"),
            Step::BrokerStop(number) => write!(f, "stop broker {number}"),
            Step::BrokerKill(number) => write!(f, "kill -9 broker {number}"),
            Step::BrokerPause(number) => write!(f, "pause broker {number}"),
            Step::BrokerStart(number) => write!(f, "start broker {number}"),
            Step::Store(weather) => write!(f, "store: {weather}"),
            Step::Wire(weather) => write!(f, "gateways to broker: {weather}"),
            Step::Poison => f.write_str("a poisonous job"),
            Step::Burst(jobs) => write!(f, "{jobs} jobs at once"),
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weather::Open => f.write_str("open"),
            Weather::Slow(ms) => write!(f, "{ms} ms slower"),
            Weather::Cut => f.write_str("cut"),
            Weather::Still => f.write_str("still"),
            Weather::HalfOpen => f.write_str("half open"),
        }
    }
}

#[cfg(test)]
mod tests;
