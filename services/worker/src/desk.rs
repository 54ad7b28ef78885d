//! Who may run now, and what runs: slots, shares and limits under one lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_contract::fair::{Chooser, Limits, Slots};
use tidegate_contract::{JobType, JobTypes, Pool, Tenant, Tier};
use tokio::sync::Notify;

use crate::lane::{Lane, Ready};
use crate::settings::WorkerSettings;
use crate::work::Work;

/// The account of a worker's slots, and the choice of what takes the next one.
pub(crate) struct Desk {
    chooser: Mutex<Chooser>,
    /// Told when there is work in line, when a slot becomes free, and when limits change.
    pub work: Notify,
}

/// A slot that a record has; given back when dropped.
pub(crate) struct Slot {
    desk: Arc<Desk>,
    /// `None` beside the slots.
    lane: Option<usize>,
    job_type: JobType,
    tenant: Tenant,
}

/// The lanes of a worker, in the order in which a desk knows them.
pub(crate) fn lanes(settings: &WorkerSettings) -> impl Iterator<Item = (Pool, Tier)> {
    let mut pools = settings.pools.clone();
    pools.sort();
    pools.dedup();
    let tiers = |pool: Pool| Tier::ALL.map(|tier| (pool.clone(), tier));
    pools.into_iter().flat_map(tiers)
}

impl Desk {
    /// All slots free.
    pub(crate) fn new(settings: &WorkerSettings, types: &JobTypes) -> Self {
        let slots = Slots::new(settings.concurrency, settings.reserved_slots());
        let mut limits = Limits::new(match settings.max_running_per_tenant {
            0 => None,
            limit => Some(limit),
        });
        limits.set_types(of_types(types));
        let lanes = lanes(settings).map(|(_, tier)| (tier, settings.tier_weights.of(tier)));
        Self {
            chooser: Mutex::new(Chooser::new(lanes, slots, limits)),
            work: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Chooser> {
        // Nothing under the lock can panic half-way through a change.
        self.chooser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the record whose turn it is out of its lane, with a slot; `None` if no slot is free for anything in line.
    pub(crate) fn next(self: &Arc<Self>, lanes: &[Arc<Lane>]) -> Option<(Ready, Slot)> {
        let mut chooser = self.lock();
        loop {
            let lane = chooser.next(|lane, limits| lanes[lane].may_run(limits))?;
            // A revocation may have emptied it in between.
            let Some(ready) = lanes[lane].pop(chooser.limits()) else {
                continue;
            };
            let (job_type, tenant) = ready.work.owner();
            let (job_type, tenant) = (job_type.into_owned(), tenant.into_owned());
            chooser.started(lane, &job_type, &tenant);
            let desk = Arc::clone(self);
            let slot = Slot {
                desk,
                lane: Some(lane),
                job_type,
                tenant,
            };
            return Some((ready, slot));
        }
    }

    /// Takes out of a full lane what is in it only because of a limit.
    pub(crate) fn surplus(&self, lane: &Lane) -> Vec<Ready> {
        lane.take_surplus(self.lock().limits())
    }

    /// For a suspect, which runs beside the slots: while it waits, all slots may be waiting for it. It only counts against
    /// the limits of others.
    pub(crate) fn beside(self: &Arc<Self>, work: &Work) -> Slot {
        let (job_type, tenant) = work.owner();
        let (job_type, tenant) = (job_type.into_owned(), tenant.into_owned());
        self.lock().limits_mut().started(&job_type, &tenant);
        Slot {
            desk: Arc::clone(self),
            lane: None,
            job_type,
            tenant,
        }
    }

    /// Other limits of types; what runs goes on.
    pub(crate) fn set_types(&self, types: &JobTypes) {
        self.lock().limits_mut().set_types(of_types(types));
        self.work.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut chooser = self.desk.lock();
        match self.lane {
            Some(lane) => chooser.ended(lane, &self.job_type, &self.tenant),
            None => chooser.limits_mut().ended(&self.job_type, &self.tenant),
        }
        drop(chooser);
        self.desk.work.notify_one();
    }
}

fn of_types(types: &JobTypes) -> impl Iterator<Item = (JobType, usize)> {
    let limited = types.iter().filter(|(_, spec)| spec.max_running > 0);
    limited.map(|(name, spec)| (name.clone(), spec.max_running))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ReservedSlots;
    use crate::testing::{lane_of, ready};
    use tidegate_contract::{HandlerSpec, JobTypeSpec};

    fn settings(concurrency: usize) -> WorkerSettings {
        WorkerSettings {
            concurrency,
            ..WorkerSettings::default()
        }
    }

    fn lanes_of(settings: &WorkerSettings) -> Vec<Arc<Lane>> {
        lanes(settings).map(|(_, tier)| lane_of(tier)).collect()
    }

    #[test]
    fn a_reserved_slot_waits_for_its_tier_and_comes_back_when_dropped() {
        let mut settings = settings(2);
        settings.reserved = ReservedSlots {
            low: Some(1),
            ..ReservedSlots::default()
        };
        let lanes = lanes_of(&settings);
        let desk = Arc::new(Desk::new(&settings, &JobTypes::new()));
        for offset in 0..3 {
            lanes[0].push(ready(&lanes[0], offset, "echo", "default"));
        }
        let (_, slot) = desk.next(&lanes).unwrap();
        assert!(
            desk.next(&lanes).is_none(),
            "the other slot is kept for low"
        );
        lanes[2].push(ready(&lanes[2], 0, "echo", "default"));
        let (low, _low_slot) = desk.next(&lanes).unwrap();
        assert_eq!(low.place.lane.tier, Tier::Low);
        assert!(desk.next(&lanes).is_none());
        drop(slot);
        let (high, _) = desk.next(&lanes).unwrap();
        assert_eq!((high.place.lane.tier, high.place.offset), (Tier::High, 1));
    }

    #[test]
    fn a_suspect_takes_no_slot_but_counts_against_the_limits_of_others() {
        let settings = settings(1);
        let mut spec = JobTypeSpec::new(HandlerSpec::Echo);
        spec.max_running = 1;
        let types = JobTypes::from([("slow".parse().unwrap(), spec)]);
        let lanes = lanes_of(&settings);
        let desk = Arc::new(Desk::new(&settings, &types));
        lanes[0].push(ready(&lanes[0], 0, "slow", "a"));
        lanes[0].push(ready(&lanes[0], 1, "echo", "a"));
        let suspect = desk.beside(&ready(&lanes[1], 0, "slow", "b").work);
        let (other, slot) = desk.next(&lanes).unwrap();
        assert_eq!(other.place.offset, 1);
        drop(slot);
        assert!(desk.next(&lanes).is_none(), "one slow job runs");
        drop(suspect);
        assert_eq!(desk.next(&lanes).unwrap().0.place.offset, 0);
    }

    #[test]
    fn limits_of_types_and_tenants_hold_over_all_lanes_and_may_change() {
        let mut settings = settings(8);
        settings.max_running_per_tenant = 2;
        let mut types = JobTypes::new();
        let mut spec = JobTypeSpec::new(HandlerSpec::Echo);
        spec.max_running = 1;
        types.insert("slow".parse().unwrap(), spec.clone());
        let lanes = lanes_of(&settings);
        let desk = Arc::new(Desk::new(&settings, &types));
        lanes[0].push(ready(&lanes[0], 0, "slow", "a"));
        lanes[1].push(ready(&lanes[1], 0, "slow", "b"));
        lanes[1].push(ready(&lanes[1], 1, "echo", "b"));
        lanes[1].push(ready(&lanes[1], 2, "echo", "b"));
        lanes[1].push(ready(&lanes[1], 3, "echo", "b"));
        let mut taken: Vec<_> = std::iter::from_fn(|| desk.next(&lanes)).collect();
        let places: Vec<_> = taken
            .iter()
            .map(|(ready, _)| (ready.place.lane.tier, ready.place.offset))
            .collect();
        assert_eq!(
            places,
            [(Tier::High, 0), (Tier::Normal, 1), (Tier::Normal, 2)],
            "one slow job, and two of b"
        );
        assert_eq!(lanes[1].waiting(), 2);
        taken.truncate(2);
        let (next, _slot) = desk.next(&lanes).unwrap();
        assert_eq!(next.place.offset, 3, "the slow one waits still");
        assert!(desk.next(&lanes).is_none());
        drop(taken);
        spec.max_running = 0;
        desk.set_types(&JobTypes::from([("slow".parse().unwrap(), spec)]));
        assert_eq!(desk.next(&lanes).unwrap().0.place.offset, 0);
    }
}
