//! What stands in line in one lane, tenant by tenant.

use std::collections::{HashMap, VecDeque};

use super::limits::Limits;
use crate::names::{JobType, Tenant};

/// Things in line, handed out by deficit round robin between their tenants (Shreedhar and Varghese, 1995), and for each
/// tenant in the order in which they came.
///
/// A tenant whose turn comes earns a quantum, and is served for as long as that pays for the cost of what is next. With
/// the usual quantum of 1 and a cost of 1 each that is plain round robin: over any time in which two tenants both have
/// something that may run, neither gets more than one ahead of the other. In general they differ by at most a quantum
/// and two of the largest costs.
///
/// What may not run by the [`Limits`] is passed over. It keeps its place within its tenant, and costs nothing while the
/// limit stands: such a tenant is not looked at again before something ends that was at its limit.
#[derive(Clone, Debug)]
pub struct Line<T> {
    tenants: HashMap<Tenant, Queue<T>>,
    /// The tenants whose turn comes, the next one first.
    turns: VecDeque<Tenant>,
    /// Tenants of which nothing may run.
    held: Vec<Tenant>,
    /// What the limits said when `held` was looked at last.
    freed: u64,
    quantum: u64,
    arrivals: u64,
    len: usize,
}

#[derive(Clone, Debug)]
struct Queue<T> {
    /// By type, each in order. A tenant has few types in line.
    types: Vec<(JobType, VecDeque<Entry<T>>)>,
    deficit: u64,
    /// It has earned its quantum in this turn.
    visited: bool,
    held: bool,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    arrival: u64,
    cost: u64,
    item: T,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self::new(1)
    }
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            deficit: 0,
            visited: false,
            held: false,
        }
    }

    /// The place of the type whose first entry came first, among those that may run.
    fn next(&self, limits: &Limits) -> Option<(usize, u64)> {
        let firsts = self.types.iter().enumerate();
        firsts
            .filter(|(_, (job_type, _))| limits.type_may(job_type))
            .filter_map(|(index, (_, entries))| Some((index, entries.front()?)))
            .min_by_key(|(_, first)| first.arrival)
            .map(|(index, first)| (index, first.cost))
    }

    fn drop_empty(&mut self) {
        self.types.retain(|(_, entries)| !entries.is_empty());
    }
}

impl<T> Line<T> {
    /// Nothing in line. A tenant earns `quantum` each turn, at least 1; one that is no less than the largest cost makes
    /// every take a constant amount of work.
    pub fn new(quantum: u32) -> Self {
        Self {
            tenants: HashMap::new(),
            turns: VecDeque::new(),
            held: Vec::new(),
            freed: 0,
            quantum: u64::from(quantum.max(1)),
            arrivals: 0,
            len: 0,
        }
    }

    /// Puts something in line, at a cost of 1.
    pub fn push(&mut self, job_type: &JobType, tenant: &Tenant, item: T) {
        self.push_at_cost(job_type, tenant, 1, item);
    }

    /// The same at another cost, in the unit of the quantum.
    pub fn push_at_cost(&mut self, job_type: &JobType, tenant: &Tenant, cost: u32, item: T) {
        self.arrivals += 1;
        self.len += 1;
        let entry = Entry {
            arrival: self.arrivals,
            cost: u64::from(cost),
            item,
        };
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), Queue::new());
            self.turns.push_back(tenant.clone());
        }
        let Some(queue) = self.tenants.get_mut(tenant) else {
            return;
        };
        match queue.types.iter_mut().find(|(known, _)| known == job_type) {
            Some((_, entries)) => entries.push_back(entry),
            None => {
                queue
                    .types
                    .push((job_type.clone(), VecDeque::from([entry])));
                // Of another type than those that wait for a limit: this may run.
                if queue.held {
                    queue.held = false;
                    self.turns.push_back(tenant.clone());
                }
            }
        }
    }

    /// Whether there is something that may run.
    pub fn may_run(&mut self, limits: &Limits) -> bool {
        self.turn(limits).is_some()
    }

    /// Takes what is next of all that may run.
    pub fn take(&mut self, limits: &Limits) -> Option<T> {
        let index = self.turn(limits)?;
        let tenant = self.turns.front()?;
        let queue = self.tenants.get_mut(tenant)?;
        let (_, entries) = queue.types.get_mut(index)?;
        let entry = entries.pop_front()?;
        queue.deficit = queue.deficit.saturating_sub(entry.cost);
        if entries.is_empty() {
            queue.drop_empty();
        }
        if queue.types.is_empty() {
            // What it has not used goes with it.
            self.tenants.remove(tenant);
            self.turns.pop_front();
        }
        self.len -= 1;
        Some(entry.item)
    }

    /// Brings the tenant whose turn it is to the front; the place of its type that is next.
    fn turn(&mut self, limits: &Limits) -> Option<usize> {
        if self.freed != limits.freed() {
            self.freed = limits.freed();
            self.release();
        }
        loop {
            let tenant = self.turns.front()?;
            let Some(queue) = self.tenants.get_mut(tenant) else {
                self.turns.pop_front();
                continue;
            };
            let next = match limits.tenant_may(tenant) {
                true => queue.next(limits),
                false => None,
            };
            let Some((index, cost)) = next else {
                queue.held = true;
                queue.visited = false;
                queue.deficit = 0;
                self.held.extend(self.turns.pop_front());
                continue;
            };
            if !queue.visited {
                queue.visited = true;
                queue.deficit += self.quantum;
            }
            if queue.deficit >= cost {
                return Some(index);
            }
            queue.visited = false;
            self.turns.rotate_left(1);
        }
    }

    /// What waited for a limit has its turn again, in the order in which it began to wait.
    fn release(&mut self) {
        for tenant in self.held.drain(..) {
            if let Some(queue) = self.tenants.get_mut(&tenant)
                && queue.held
            {
                queue.held = false;
                self.turns.push_back(tenant);
            }
        }
    }

    /// How many wait for a limit.
    pub fn limited(&self, limits: &Limits) -> usize {
        let mut count = 0;
        for (tenant, queue) in &self.tenants {
            let tenant_may = limits.tenant_may(tenant);
            for (job_type, entries) in &queue.types {
                if !(tenant_may && limits.type_may(job_type)) {
                    count += entries.len();
                }
            }
        }
        count
    }

    /// Takes out what waits for a limit and may go, at most `most`, the latest first. The first of each tenant and type
    /// stays, so that there is something to run when the limit allows it.
    pub fn take_limited(
        &mut self,
        limits: &Limits,
        most: usize,
        may_go: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        for (tenant, queue) in &mut self.tenants {
            let tenant_may = limits.tenant_may(tenant);
            for (job_type, entries) in &mut queue.types {
                if tenant_may && limits.type_may(job_type) {
                    continue;
                }
                for at in (1..entries.len()).rev() {
                    if taken.len() == most {
                        break;
                    }
                    if may_go(&entries[at].item) {
                        taken.extend(entries.remove(at).map(|entry| entry.item));
                    }
                }
            }
        }
        self.len -= taken.len();
        taken
    }

    /// Drops what `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.len = 0;
        self.tenants.retain(|_, queue| {
            for (_, entries) in &mut queue.types {
                entries.retain(|entry| keep(&entry.item));
                self.len += entries.len();
            }
            queue.drop_empty();
            !queue.types.is_empty()
        });
        let tenants = &self.tenants;
        self.turns.retain(|tenant| tenants.contains_key(tenant));
        self.held
            .retain(|tenant| tenants.get(tenant).is_some_and(|queue| queue.held));
    }

    /// Everything in line, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let queues = self.tenants.values();
        let entries = queues.flat_map(|queue| &queue.types);
        entries.flat_map(|(_, entries)| entries.iter().map(|entry| &entry.item))
    }

    /// How many are in line.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in line.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
