//! Which lane fills a free slot.

use super::limits::Limits;
use super::shares::Shares;
use super::slots::Slots;
use crate::names::{JobType, Tenant, Tier};

/// The choice between lanes, and the account of what runs.
///
/// First come the lanes whose tier runs fewer jobs than it has slots reserved, so that a tier has those slots as soon
/// as it has work. What is left are shared slots, which go to all lanes with work by their weights; a job in a reserved
/// slot is not counted against its lane's share.
#[derive(Clone, Debug)]
pub struct Chooser {
    tiers: Vec<Tier>,
    own: Shares,
    shared: Shares,
    slots: Slots,
    limits: Limits,
}

impl Chooser {
    /// Lanes by tier and weight; the answer of [`Chooser::next`] is an index into these.
    pub fn new(lanes: impl IntoIterator<Item = (Tier, u32)>, slots: Slots, limits: Limits) -> Self {
        let (tiers, weights): (Vec<_>, Vec<_>) = lanes.into_iter().unzip();
        Self {
            tiers,
            own: Shares::new(weights.iter().copied()),
            shared: Shares::new(weights),
            slots,
            limits,
        }
    }

    /// The lane that is to start a job now: one that has a slot, and for which `has_work` says that it has something
    /// that may run under the limits. `None` if there is none; ask again when something ends, or comes in.
    pub fn next(&mut self, mut has_work: impl FnMut(usize, &Limits) -> bool) -> Option<usize> {
        let (tiers, slots, limits) = (&self.tiers, &self.slots, &self.limits);
        let own = |lane: usize| slots.has_own(tiers[lane]) && has_work(lane, limits);
        if let Some(lane) = self.own.next(own) {
            return Some(lane);
        }
        match slots.has_shared() {
            true => self.shared.next(|lane| has_work(lane, limits)),
            false => None,
        }
    }

    /// A job of that lane begins.
    pub fn started(&mut self, lane: usize, job_type: &JobType, tenant: &Tenant) {
        self.slots.started(self.tiers[lane]);
        self.limits.started(job_type, tenant);
    }

    /// A job of that lane gives its slot back.
    pub fn ended(&mut self, lane: usize, job_type: &JobType, tenant: &Tenant) {
        self.slots.ended(self.tiers[lane]);
        self.limits.ended(job_type, tenant);
    }

    /// What may run, by type and tenant.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// To give types other limits.
    pub fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// What runs, by tier.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }
}
