//! Whose key signs a callback.

use std::collections::BTreeMap;

use tidegate_contract::{Secret, Tenant};

use crate::sign::{BadKey, Signer};

/// The signing keys of an installation: those of a tenant, and for tenants without any the common ones.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    common: Option<Signer>,
    tenants: BTreeMap<Tenant, Signer>,
}

impl Keys {
    /// Reads the keys from the configuration. A list that is empty is none.
    ///
    /// # Errors
    /// The first text that is no key.
    pub fn new<'a>(
        common: &[Secret],
        tenants: impl IntoIterator<Item = (&'a Tenant, &'a [Secret])>,
    ) -> Result<Self, BadKey> {
        let signer = |keys: &[Secret]| match keys {
            [] => Ok(None),
            keys => Signer::new(keys).map(Some),
        };
        let mut all = Self {
            common: signer(common)?,
            tenants: BTreeMap::new(),
        };
        for (tenant, keys) in tenants {
            if let Some(signer) = signer(keys)? {
                all.tenants.insert(tenant.clone(), signer);
            }
        }
        Ok(all)
    }

    /// Whether nothing can be signed.
    pub fn is_empty(&self) -> bool {
        self.common.is_none() && self.tenants.is_empty()
    }

    /// What signs for a tenant; `None` if it has no key.
    pub fn of(&self, tenant: &Tenant) -> Option<&Signer> {
        self.tenants.get(tenant).or(self.common.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: char) -> Secret {
        Secret::new(format!("whsec_{}", letter.to_string().repeat(40)))
    }

    #[test]
    fn a_tenant_has_its_own_keys_or_the_common_ones() {
        let (acme, other): (Tenant, Tenant) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let own = [key('a'), key('b')];
        let keys = Keys::new(&[key('c')], [(&acme, &own[..]), (&other, &[])]).unwrap();
        let signatures = |tenant: &Tenant| {
            let signed = keys.of(tenant).unwrap().sign("msg_1", 1, b"");
            signed.signature.split(' ').count()
        };
        assert_eq!((signatures(&acme), signatures(&other)), (2, 1));
        assert!(!keys.is_empty());
    }

    #[test]
    fn without_any_key_nobody_is_signed_for() {
        let acme: Tenant = "acme".parse().unwrap();
        let keys = Keys::new(&[], [(&acme, &[][..])]).unwrap();
        assert!(keys.is_empty() && keys.of(&acme).is_none());
        let own = [Secret::new("no key")];
        let refused = Keys::new(&[], [(&acme, &own[..])]).unwrap_err();
        assert_eq!(refused, BadKey::Prefix);
    }
}
