//! The settings of callbacks that gateways and notifiers share, as they stand under `[callbacks]` in the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_contract::{EventFilter, Secret, Tenant};

use crate::address::{BadNetwork, Policy};
use crate::url::CallbackRules;

/// Where callbacks may go, and what signs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallbackSettings {
    /// Whether `http` is taken besides `https`.
    pub allow_http: bool,
    /// Networks that are called whatever they are reserved for, such as `10.1.0.0/16`.
    pub allow_networks: Vec<String>,
    /// Signing keys, `whsec_` and base64; all of them sign. Without any there are no callbacks.
    pub keys: Vec<Secret>,
    /// What is different for a tenant.
    pub tenants: BTreeMap<Tenant, TenantCallbacks>,
}

/// The callbacks of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantCallbacks {
    /// Its own signing keys instead of the common ones.
    pub keys: Vec<Secret>,
    /// Where its jobs call back that name no URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The ends that these calls are for.
    pub events: EventFilter,
}

impl CallbackSettings {
    /// The rules of URLs that clients name.
    ///
    /// # Errors
    /// The first network that is none.
    pub fn rules(&self) -> Result<CallbackRules, BadNetwork> {
        Ok(CallbackRules {
            allow_http: self.allow_http,
            policy: Policy::new(&self.allow_networks)?,
        })
    }
}
