//! How many streams there may be: on this gateway, and of one tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_contract::Tenant;

use crate::problem::ApiError;

/// All streams of one gateway. Clones share them.
#[derive(Clone)]
pub struct Streams {
    most: usize,
    /// 0: no limit.
    of_tenant: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    all: usize,
    tenants: HashMap<Tenant, usize>,
}

impl Streams {
    /// None is open, and `most` may be, `of_tenant` of one tenant (0: as many).
    pub fn new(most: usize, of_tenant: usize) -> Self {
        Self {
            most,
            of_tenant,
            open: Arc::default(),
        }
    }

    /// A place for one stream, until it is dropped.
    ///
    /// # Errors
    /// [`ApiError::TooManyStreams`], [`ApiError::TenantStreams`].
    pub fn take(&self, tenant: &Tenant) -> Result<Slot, ApiError> {
        let mut open = lock(&self.open);
        if open.all >= self.most {
            return Err(ApiError::TooManyStreams { limit: self.most });
        }
        let own = open.tenants.get(tenant).copied().unwrap_or(0);
        if self.of_tenant > 0 && own >= self.of_tenant {
            let limit = self.of_tenant;
            return Err(ApiError::TenantStreams { limit });
        }
        open.all += 1;
        open.tenants.insert(tenant.clone(), own + 1);
        drop(open);
        Ok(Slot {
            tenant: tenant.clone(),
            open: Arc::clone(&self.open),
        })
    }

    /// How many are open.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        lock(&self.open).all
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    // Nothing panics while it is held.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of one stream.
pub struct Slot {
    tenant: Tenant,
    open: Arc<Mutex<Open>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.all = open.all.saturating_sub(1);
        if let Some(own) = open.tenants.get_mut(&self.tenant) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_gateway_and_tenant_and_given_back() {
        let streams = Streams::new(3, 2);
        let [a, b]: [Tenant; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let first = streams.take(&a).ok().unwrap();
        let _second = streams.take(&a).ok().unwrap();
        assert!(matches!(
            streams.take(&a),
            Err(ApiError::TenantStreams { limit: 2 })
        ));
        let _third = streams.take(&b).ok().unwrap();
        assert!(matches!(
            streams.take(&b),
            Err(ApiError::TooManyStreams { limit: 3 })
        ));
        drop(first);
        assert!(streams.take(&a).is_ok());
        assert_eq!((streams.len(), lock(&streams.open).tenants.len()), (2, 2));
        let free = Streams::new(3, 0);
        let held: Vec<_> = (0..3).map(|_| free.take(&a).ok().unwrap()).collect();
        drop(held);
        assert!(lock(&free.open).tenants.is_empty());
    }
}
