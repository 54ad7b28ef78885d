//! How many jobs of one type, and of one tenant, may run at once.

use std::collections::HashMap;

use crate::names::{JobType, Tenant};

/// Running jobs by type and by tenant, against what is allowed. Without a limit everything may run.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    per_tenant: Option<usize>,
    per_type: HashMap<JobType, usize>,
    tenants: HashMap<Tenant, usize>,
    types: HashMap<JobType, usize>,
    freed: u64,
}

impl Limits {
    /// At most `per_tenant` jobs of each tenant; no limit for types.
    pub fn new(per_tenant: Option<usize>) -> Self {
        Self {
            per_tenant,
            ..Self::default()
        }
    }

    /// The limits of types from now on; those not named have none. What runs goes on, also where it is over its limit
    /// now.
    pub fn set_types(&mut self, limits: impl IntoIterator<Item = (JobType, usize)>) {
        self.per_type = limits.into_iter().collect();
        self.freed += 1;
    }

    /// Whether another job of this tenant may begin, whatever its type.
    pub fn tenant_may(&self, tenant: &Tenant) -> bool {
        let Some(limit) = self.per_tenant else {
            return true;
        };
        self.tenants.get(tenant).is_none_or(|count| *count < limit)
    }

    /// Whether another job of this type may begin, whosever it is.
    pub fn type_may(&self, job_type: &JobType) -> bool {
        let Some(limit) = self.per_type.get(job_type) else {
            return true;
        };
        self.types.get(job_type).map_or(0, |count| *count) < *limit
    }

    /// Whether this job may begin.
    pub fn may(&self, job_type: &JobType, tenant: &Tenant) -> bool {
        self.tenant_may(tenant) && self.type_may(job_type)
    }

    /// A job begins.
    pub fn started(&mut self, job_type: &JobType, tenant: &Tenant) {
        // Counted even without a limit: one may come in force while the job runs.
        match self.types.get_mut(job_type) {
            Some(count) => *count += 1,
            None => drop(self.types.insert(job_type.clone(), 1)),
        }
        if self.per_tenant.is_some() {
            *self.tenants.entry(tenant.clone()).or_default() += 1;
        }
    }

    /// A job has ended. One that never began changes nothing.
    pub fn ended(&mut self, job_type: &JobType, tenant: &Tenant) {
        let full = !self.may(job_type, tenant);
        if let Some(count) = self.types.get_mut(job_type) {
            *count = count.saturating_sub(1);
            if *count == 0 && !self.per_type.contains_key(job_type) {
                self.types.remove(job_type);
            }
        }
        if let Some(count) = self.tenants.get_mut(tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.tenants.remove(tenant);
            }
        }
        if full {
            self.freed += 1;
        }
    }

    /// Changes whenever something that waited for a limit may have become free to run.
    pub(super) fn freed(&self) -> u64 {
        self.freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job_type(name: &str) -> JobType {
        name.parse().unwrap()
    }

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn a_limit_that_comes_later_counts_what_runs() {
        let mut limits = Limits::new(None);
        let (slow, shop) = (job_type("slow"), tenant("shop"));
        limits.started(&slow, &shop);
        limits.started(&slow, &shop);
        let before = limits.freed();
        limits.set_types([(slow.clone(), 1)]);
        assert_ne!(limits.freed(), before);
        assert!(!limits.may(&slow, &shop));
        limits.ended(&slow, &shop);
        assert!(!limits.may(&slow, &shop));
        limits.ended(&slow, &shop);
        assert!(limits.may(&slow, &shop));
        assert!(limits.may(&job_type("other"), &shop));
    }

    proptest! {
        /// Against plain counts.
        #[test]
        fn counts_are_right(
            per_tenant in prop::option::of(1usize..4),
            of_a in 1usize..4,
            steps in prop::collection::vec((0usize..2, 0usize..3, any::<bool>()), 1..200),
        ) {
            let types = [job_type("a"), job_type("b")];
            let tenants = [tenant("x"), tenant("y"), tenant("z")];
            let mut limits = Limits::new(per_tenant);
            limits.set_types([(types[0].clone(), of_a)]);
            let mut model = [[0usize; 3]; 2];
            for (t, n, starts) in steps {
                let before = limits.freed();
                if starts && limits.may(&types[t], &tenants[n]) {
                    limits.started(&types[t], &tenants[n]);
                    model[t][n] += 1;
                } else if !starts && model[t][n] > 0 {
                    let could = limits.may(&types[t], &tenants[n]);
                    limits.ended(&types[t], &tenants[n]);
                    model[t][n] -= 1;
                    prop_assert_eq!(limits.freed() != before, !could);
                }
                prop_assert!(model[0].iter().sum::<usize>() <= of_a);
                for n in 0..3 {
                    let running = model[0][n] + model[1][n];
                    prop_assert!(per_tenant.is_none_or(|limit| running <= limit));
                    prop_assert_eq!(limits.tenant_may(&tenants[n]), per_tenant.is_none_or(|limit| running < limit));
                }
                prop_assert_eq!(limits.type_may(&types[0]), model[0].iter().sum::<usize>() < of_a);
                prop_assert!(limits.type_may(&types[1]));
            }
        }
    }
}
