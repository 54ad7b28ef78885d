//! All endpoints that one process knows something of, and the hosts that it is calling. Pure: the time is passed in.
//!
//! What is kept of an endpoint in the store is read with every take, so that an end that another notifier has found, or
//! that an operator has taken back, counts here too. What this process has changed and not written yet counts more.

use std::collections::HashMap;

use tidegate_contract::Millis;

use crate::endpoint::{Admission, Change, Delivery, Endpoint, Record, Turn};
use crate::settings::EndpointSettings;

/// Endpoints that are known at once, at most: beyond it those that are not being called are forgotten, but for what is
/// in the store.
const MOST: usize = 10_000;

/// Whether an attempt may be made, and if not, why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the endpoint says.
    Endpoint(Admission),
    /// The host has its share of the slots.
    HostFull,
}

/// What follows the end of an attempt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct After {
    pub change: Option<Change>,
    /// Nothing of the endpoint is to be taken before that: it is paused, and none of its attempts is open here.
    pub postpone: Option<Millis>,
    /// Others may wait for what has become free.
    pub wake: bool,
}

pub(crate) struct Endpoints {
    settings: EndpointSettings,
    /// Attempts that are open at one host, at most.
    per_host: usize,
    known: HashMap<String, Entry>,
    /// Attempts that are open, by host.
    hosts: HashMap<String, usize>,
    /// Rises with every change and with every question to the store.
    clock: u64,
}

struct Entry {
    endpoint: Endpoint,
    host: String,
    /// The store may have more of it than was taken.
    hungry: bool,
    /// A row of it is in the store.
    kept: bool,
    /// A change is not written yet.
    unwritten: bool,
    /// When it was changed or written.
    changed: u64,
}

impl Entry {
    fn new(settings: &EndpointSettings, host: &str, record: Record) -> Self {
        Self {
            endpoint: Endpoint::new(settings.clone(), record),
            host: host.to_owned(),
            hungry: false,
            kept: false,
            unwritten: false,
            changed: 0,
        }
    }
}

impl Endpoints {
    pub(crate) fn new(settings: EndpointSettings, per_host: usize) -> Self {
        Self {
            settings,
            per_host,
            known: HashMap::new(),
            hosts: HashMap::new(),
            clock: 0,
        }
    }

    /// How many of one endpoint may be taken: so many that those which are not in [`Endpoints::full`] have room.
    pub(crate) fn per_take(&self) -> usize {
        self.settings.concurrency.max(1).div_ceil(2)
    }

    /// The endpoints of which none is wanted now. All of them are being called, so that there are no more of them than
    /// slots.
    pub(crate) fn full(&mut self) -> Vec<String> {
        let (per_take, most) = (self.per_take(), self.settings.concurrency.max(1));
        let mut full = Vec::new();
        for (key, entry) in &mut self.known {
            let open = entry.endpoint.in_flight();
            let host = self.hosts.get(&entry.host).copied().unwrap_or_default();
            entry.hungry = open > 0
                && (entry.endpoint.is_probing() || open + per_take > most || host >= self.per_host);
            if entry.hungry {
                full.push(key.clone());
            }
        }
        full
    }

    /// The store has given as many of an endpoint as were asked for.
    pub(crate) fn has_more(&mut self, key: &str) {
        if let Some(entry) = self.known.get_mut(key) {
            entry.hungry = true;
        }
    }

    /// The moment before the store is asked what is kept.
    pub(crate) fn asking(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// What the store has said of an endpoint, asked at that moment.
    pub(crate) fn learn(&mut self, key: &str, host: &str, kept: Option<Record>, asked: u64) {
        let Some(entry) = self.known.get_mut(key) else {
            if let Some(record) = kept {
                let mut entry = Entry::new(&self.settings, host, record);
                entry.kept = true;
                self.known.insert(key.to_owned(), entry);
            }
            return;
        };
        if entry.unwritten || entry.changed > asked {
            return;
        }
        match kept {
            Some(record) => entry.endpoint.learn(record),
            // Somebody has enabled it.
            None if entry.kept => entry.endpoint.enable(),
            None => {}
        }
        entry.kept = kept.is_some();
    }

    /// Asks for an attempt.
    pub(crate) fn admit(&mut self, key: &str, host: &str, now: Millis) -> Place {
        if self.known.len() >= MOST && !self.known.contains_key(key) {
            self.forget_idle();
        }
        let open = self.hosts.get(host).copied().unwrap_or_default();
        let new = || Entry::new(&self.settings, host, Record::default());
        let entry = self.known.entry(key.to_owned()).or_insert_with(new);
        // Ended and paused endpoints say so however busy the host is.
        let calm = matches!(entry.endpoint.paused_until(), Some(until) if now < until);
        let ended = entry.endpoint.record().ended.is_some();
        if open >= self.per_host && !calm && !ended {
            self.tidy(key);
            return Place::HostFull;
        }
        let admission = entry.endpoint.admit(now);
        if matches!(admission, Admission::Go(_)) {
            *self.hosts.entry(host.to_owned()).or_default() += 1;
        }
        Place::Endpoint(admission)
    }

    /// An attempt has ended at `now`.
    pub(crate) fn done(&mut self, key: &str, turn: Turn, delivery: Delivery, now: Millis) -> After {
        let Some(entry) = self.known.get_mut(key) else {
            return After::default();
        };
        let before = entry.endpoint.record();
        let change = entry.endpoint.done(turn, delivery, now);
        if entry.endpoint.record() != before {
            self.clock += 1;
            entry.changed = self.clock;
            entry.unwritten = true;
        }
        After {
            change,
            ..self.left(key)
        }
    }

    /// An attempt was not made, or nobody waited for its end.
    pub(crate) fn abandon(&mut self, key: &str, turn: Turn) -> After {
        if let Some(entry) = self.known.get_mut(key) {
            entry.endpoint.abandon(turn);
        }
        self.left(key)
    }

    /// What is to be written of an endpoint, if it has changed since it was.
    pub(crate) fn unwritten(&self, key: &str) -> Option<Record> {
        let entry = self.known.get(key)?;
        entry.unwritten.then(|| entry.endpoint.record())
    }

    /// Whether none of its attempts is open here.
    pub(crate) fn is_idle(&self, key: &str) -> bool {
        let entry = self.known.get(key);
        entry.is_none_or(|entry| entry.endpoint.in_flight() == 0)
    }

    /// The record is in the store now, or its row is gone if there is nothing to keep.
    pub(crate) fn written(&mut self, key: &str, record: Record) {
        self.clock += 1;
        if let Some(entry) = self.known.get_mut(key) {
            entry.kept = record != Record::default();
            entry.changed = self.clock;
            entry.unwritten = entry.endpoint.record() != record;
        }
        self.tidy(key);
    }

    /// How many are paused, and how many are not called any more.
    pub(crate) fn troubled(&self) -> (usize, usize) {
        let paused = |entry: &&Entry| entry.endpoint.paused_until().is_some();
        let ended = |entry: &&Entry| entry.endpoint.record().ended.is_some();
        let all = self.known.values();
        (
            all.clone().filter(paused).count(),
            all.filter(ended).count(),
        )
    }

    /// One attempt fewer is open.
    fn left(&mut self, key: &str) -> After {
        let Some(entry) = self.known.get_mut(key) else {
            return After::default();
        };
        if let Some(open) = self.hosts.get_mut(&entry.host) {
            *open -= 1;
            if *open == 0 {
                self.hosts.remove(&entry.host);
            }
        }
        let idle = entry.endpoint.in_flight() == 0;
        let after = After {
            postpone: entry.endpoint.paused_until().filter(|_| idle),
            wake: entry.hungry,
            ..After::default()
        };
        self.tidy(key);
        after
    }

    /// Forgets an endpoint of which nothing is known.
    fn tidy(&mut self, key: &str) {
        let forgettable = |entry: &Entry| entry.endpoint.is_forgettable() && !entry.unwritten;
        if self.known.get(key).is_some_and(forgettable) {
            self.known.remove(key);
        }
    }

    /// What is in the store is read again; pauses begin anew with the next failures.
    fn forget_idle(&mut self) {
        self.known
            .retain(|_, entry| entry.endpoint.in_flight() > 0 || entry.unwritten);
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
