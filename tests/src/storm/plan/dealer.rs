//! Kinds of trouble are cards of a deck that is shuffled and dealt again and again, so that a run of a few minutes has
//! met each of them. What a card does lies between a beginning and an end; two cards are not at the same process at
//! the same time, the broker is not away in two ways at once nor the store, and of each role at least one process is left alone.

use std::collections::BTreeMap;

use super::{At, Plan, Role, Seat, Step, Weather};
use crate::storm::seed::Draw;

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Card {
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

/// Deals the cards of a deck for as long as a storm lasts.
pub(super) struct Dealer {
    draw: Draw,
    seed: u64,
    length: At,
    brokers: u32,
    pub(super) deck: Vec<Card>,
    steps: Vec<(At, Step)>,
    /// Until when each process has something happen to it.
    busy: BTreeMap<Seat, At>,
    /// Until when the broker, or the way to it, is away.
    broker_away: At,
    /// The same of the store.
    store_away: At,
}

impl Dealer {
    pub(super) fn new(seed: u64, length: At, brokers: u32) -> Self {
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

    pub(super) fn deal(mut self) -> Plan {
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
