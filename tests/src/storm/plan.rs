//! What will happen to the processes and servers, and when: all of it follows from the seed. Pure.
//!
//! Kinds of trouble are cards of a deck that is shuffled and dealt again and again, so that a run of a few minutes has
//! met each of them. What a card does lies between a beginning and an end; two cards are not at the same process at
//! the same time, the broker is not away in two ways at once nor the store, and of each role at least one process is left alone.

use std::collections::BTreeMap;
use std::fmt;

use super::seed::Draw;

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

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Card {
    Kill(Role),
    Pause(Role),
    Restart(Role),
    Guest(Role),
    BrokerStop,
    BrokerKill,
    StoreCut,
    StoreStill,
    WireSlow,
    WireCut,
    WireHalfOpen,
    Poison,
    /// A gateway stands still with outcomes in hand that it has not written, for so long that another goes on with them.
    Overtaken,
}

const DECK: [Card; 24] = [
    Card::Kill(Role::Gateway),
    Card::Kill(Role::Worker),
    Card::Kill(Role::Worker),
    Card::Kill(Role::Scheduler),
    Card::Kill(Role::Notifier),
    Card::Pause(Role::Notifier),
    Card::Restart(Role::Notifier),
    Card::Pause(Role::Gateway),
    Card::Pause(Role::Worker),
    Card::Pause(Role::Scheduler),
    Card::Restart(Role::Gateway),
    Card::Restart(Role::Worker),
    Card::Restart(Role::Scheduler),
    Card::Guest(Role::Gateway),
    Card::Guest(Role::Worker),
    Card::BrokerStop,
    Card::BrokerKill,
    Card::StoreCut,
    Card::StoreStill,
    Card::WireSlow,
    Card::WireCut,
    Card::WireHalfOpen,
    Card::Poison,
    Card::Overtaken,
];

/// Before the first trouble.
const CALM: At = 4_000;
/// What the last cards take to come to their ends.
const TAIL: At = 35_000;
/// Between two cards.
const GAP: (At, At) = (2_500, 8_000);

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

struct Dealer {
    draw: Draw,
    seed: u64,
    length: At,
    brokers: u32,
    deck: Vec<Card>,
    steps: Vec<(At, Step)>,
    /// Until when each process has something happen to it.
    busy: BTreeMap<Seat, At>,
    /// Until when the broker, or the way to it, is away.
    broker_away: At,
    /// The same of the store.
    store_away: At,
}

impl Dealer {
    fn new(seed: u64, length: At, brokers: u32) -> Self {
        Self {
            draw: Draw::of(seed, 1),
            seed,
            length,
            brokers: brokers.max(1),
            deck: DECK.to_vec(),
            steps: Vec::new(),
            busy: BTreeMap::new(),
            broker_away: 0,
            store_away: 0,
        }
    }

    fn deal(mut self) -> Plan {
        let deck = std::mem::take(&mut self.deck);
        let gap = (self.length.saturating_sub(TAIL) / deck.len() as u64).clamp(GAP.0, GAP.1);
        let (mut at, mut hand) = (CALM, Vec::new());
        while at + GAP.0 < self.length {
            let card = match hand.pop() {
                Some(card) => card,
                None => {
                    hand = deck.clone();
                    self.draw.shuffle(&mut hand);
                    continue;
                }
            };
            self.play(card, at);
            at += self.draw.between(gap * 3 / 4, gap * 5 / 4);
        }
        self.steps.retain(|(at, _)| *at <= self.length);
        self.steps.sort_by_key(|(at, _)| *at);
        Plan {
            seed: self.seed,
            length: self.length,
            steps: self.steps,
        }
    }

    /// Notes a beginning and its end, which is not after the storm's. What would begin too late is left out.
    fn span(&mut self, from: At, begin: Step, until: At, end: Step) {
        if from + 1_000 < self.length {
            self.steps.push((from, begin));
            self.steps.push((until.min(self.length), end));
        }
    }

    /// A process that may be taken away for so long from `at` on, or as soon after it as there is one.
    fn seat(&mut self, role: Role, at: At, lasts: At) -> Option<(Seat, At)> {
        let seats: Vec<Seat> = (1..=role.residents())
            .map(|number| Seat { role, number })
            .collect();
        let mut at = at;
        loop {
            let free: Vec<Seat> = seats
                .iter()
                .filter(|seat| self.busy.get(seat).is_none_or(|until| *until <= at))
                .copied()
                .collect();
            if free.len() > 1 {
                let seat = self.draw.one(&free)?;
                self.busy.insert(seat, at + lasts + 4_000);
                return Some((seat, at));
            }
            let next = seats.iter().filter_map(|seat| self.busy.get(seat));
            at = next.filter(|until| **until > at).min().copied()?;
        }
    }

    /// When the next outage of the same server may begin, if not now.
    fn alone(away: &mut At, at: At, lasts: At) -> At {
        let from = at.max(*away);
        *away = from + lasts + 2_000;
        from
    }

    fn play(&mut self, card: Card, at: At) {
        match card {
            Card::Kill(role) => {
                let lasts = self.draw.between(500, 4_000);
                if let Some((seat, at)) = self.seat(role, at, lasts) {
                    self.span(at, Step::Kill(seat), at + lasts, Step::Start(seat));
                }
            }
            Card::Restart(role) => {
                let lasts = self.draw.between(100, 1_000);
                if let Some((seat, at)) = self.seat(role, at, lasts + 6_000) {
                    self.span(at, Step::Stop(seat), at + lasts, Step::Start(seat));
                }
            }
            Card::Pause(role) => {
                let lasts = self.draw.between(5_000, 20_000);
                if let Some((seat, at)) = self.seat(role, at, lasts) {
                    self.span(at, Step::Pause(seat), at + lasts, Step::Resume(seat));
                }
            }
            Card::Overtaken => {
                let lasts = self.draw.between(13_000, 18_000);
                let at = Self::alone(&mut self.store_away, at, lasts);
                if let Some((seat, at)) = self.seat(Role::Gateway, at, lasts) {
                    self.span(
                        at,
                        Step::Store(Weather::Slow(100)),
                        at + 4_000,
                        Step::Store(Weather::Open),
                    );
                    // Outcomes come until it stands still, so that some are in its hands.
                    for more in 1..=5 {
                        self.steps.push((at + more * 500, Step::Burst(40)));
                    }
                    self.span(
                        at + 3_000,
                        Step::Pause(seat),
                        at + lasts,
                        Step::Resume(seat),
                    );
                }
            }
            Card::Guest(role) => {
                let seat = Seat {
                    role,
                    number: role.residents() + 1,
                };
                let lasts = self.draw.between(8_000, 20_000);
                let at = at.max(self.busy.get(&seat).copied().unwrap_or(0));
                self.busy.insert(seat, at + lasts + 8_000);
                let end = match self.draw.percent(50) {
                    true => Step::Stop(seat),
                    false => Step::Kill(seat),
                };
                self.span(at, Step::Start(seat), at + lasts, end);
            }
            Card::BrokerStop | Card::BrokerKill => {
                let broker = self.draw.between(1, u64::from(self.brokers)) as u32;
                let lasts = self.draw.between(1_000, 4_000);
                // A broker takes some time to come back, and its clients to notice.
                let at = Self::alone(&mut self.broker_away, at, lasts + 6_000);
                let begin = match card {
                    Card::BrokerKill => Step::BrokerKill(broker),
                    // A lone controller takes half a minute to stop, as it waits for itself.
                    _ if self.brokers == 1 => Step::BrokerPause(broker),
                    _ => Step::BrokerStop(broker),
                };
                self.span(at, begin, at + lasts, Step::BrokerStart(broker));
            }
            Card::StoreCut => self.weather(at, Step::Store, Weather::Cut, (3_000, 7_000)),
            Card::StoreStill => self.weather(at, Step::Store, Weather::Still, (3_000, 7_000)),
            Card::WireSlow => {
                let slower = self.draw.between(20, 200);
                self.weather(at, Step::Wire, Weather::Slow(slower), (5_000, 10_000));
            }
            Card::WireCut => self.weather(at, Step::Wire, Weather::Cut, (3_000, 8_000)),
            Card::WireHalfOpen => self.weather(at, Step::Wire, Weather::HalfOpen, (5_000, 10_000)),
            Card::Poison => self.steps.push((at, Step::Poison)),
        }
    }

    fn weather(&mut self, at: At, to: fn(Weather) -> Step, weather: Weather, lasts: (At, At)) {
        let lasts = self.draw.between(lasts.0, lasts.1);
        let away = match to(weather) {
            Step::Store(_) => &mut self.store_away,
            _ => &mut self.broker_away,
        };
        let at = Self::alone(away, at, lasts);
        self.span(at, to(weather), at + lasts, to(Weather::Open));
    }
}

#[cfg(test)]
mod tests;
