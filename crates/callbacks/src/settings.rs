//! Section `callbacks` of the configuration, which gateways and notifiers share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_contract::{EventFilter, Secret, Tenant};

use crate::address::{BadNetwork, Policy};
use crate::url::{BadUrl, CallbackRules};

/// What every signing key begins with.
const KEY_PREFIX: &str = "whsec_";

/// Section `callbacks`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackSettings {
    /// Keys that callbacks are signed with, the current one first. Without any, no job may ask for a callback, unless
    /// its tenant has keys of its own.
    pub keys: Vec<Secret>,
    /// Whether `http` is taken besides `https`.
    pub allow_http: bool,
    /// Networks that callbacks may go to although they are not public, such as `10.1.0.0/16`, or single addresses.
    pub allow_networks: Vec<String>,
    /// What tenants have of their own.
    pub tenants: BTreeMap<Tenant, TenantCallbacks>,
}

/// One of `callbacks.tenants`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantCallbacks {
    /// In place of `callbacks.keys`.
    pub keys: Vec<Secret>,
    /// Where the ends of the tenant's jobs are told that ask for nothing else. The operator's: it may be anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The ends that `url` is told of.
    pub events: EventFilter,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key} {message}")]
pub struct BadCallbacks {
    /// The whole key, dotted.
    pub key: String,
    /// What is wrong, and the mend.
    pub message: String,
}

impl CallbackSettings {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), BadCallbacks> {
        let refuse = |key: String, message: String| Err(BadCallbacks { key, message });
        if let Err(error) = self.policy() {
            return refuse("callbacks.allow_networks".to_owned(), error.to_string());
        }
        check_keys("callbacks.keys", &self.keys)?;
        for (tenant, own) in &self.tenants {
            let key = |name: &str| format!("callbacks.tenants.{tenant}.{name}");
            check_keys(&key("keys"), &own.keys)?;
            let Some(url) = &own.url else { continue };
            if let Err(error) = check_configured(url) {
                return refuse(key("url"), error.to_string());
            }
            if self.keys_of(tenant).is_empty() {
                let message = "needs a key to sign with: give callbacks.keys, or keys beside it";
                return refuse(key("url"), message.to_owned());
            }
        }
        Ok(())
    }

    /// The keys that callbacks of a tenant's jobs are signed with; none: it has no callbacks.
    pub fn keys_of(&self, tenant: &Tenant) -> &[Secret] {
        match self.tenants.get(tenant) {
            Some(own) if !own.keys.is_empty() => &own.keys,
            _ => &self.keys,
        }
    }

    /// What clients may ask for.
    ///
    /// # Errors
    /// When `allow_networks` has something else.
    pub fn rules(&self) -> Result<CallbackRules, BadNetwork> {
        Ok(CallbackRules {
            allow_http: self.allow_http,
            policy: self.policy()?,
        })
    }

    fn policy(&self) -> Result<Policy, BadNetwork> {
        Policy::new(&self.allow_networks)
    }
}

fn check_keys(key: &str, keys: &[Secret]) -> Result<(), BadCallbacks> {
    match keys.iter().all(|it| it.expose().starts_with(KEY_PREFIX)) {
        true => Ok(()),
        false => Err(BadCallbacks {
            key: key.to_owned(),
            message: format!("has a key that does not begin with {KEY_PREFIX}"),
        }),
    }
}

/// Checks a URL that an operator has configured: it may be `http`, and lead anywhere.
///
/// # Errors
/// What is wrong with its text.
pub fn check_configured(url: &str) -> Result<(), BadUrl> {
    let anywhere = CallbackRules {
        allow_http: true,
        policy: Policy::anywhere(),
    };
    anywhere.parse(url).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> CallbackSettings {
        CallbackSettings {
            keys: vec![Secret::new("whsec_abc")],
            ..CallbackSettings::default()
        }
    }

    fn with_url(url: &str) -> CallbackSettings {
        let own = TenantCallbacks {
            url: Some(url.to_owned()),
            ..TenantCallbacks::default()
        };
        CallbackSettings {
            tenants: BTreeMap::from([("acme".parse().unwrap(), own)]),
            ..settings()
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let key = |settings: CallbackSettings| settings.check().unwrap_err().key;
        let mut bad = settings();
        bad.allow_networks = vec!["10.0.0.0/99".to_owned()];
        assert_eq!(key(bad), "callbacks.allow_networks");
        let mut bad = settings();
        bad.keys.push(Secret::new("secret"));
        assert!(!bad.check().unwrap_err().to_string().contains("secret"));
        assert_eq!(key(bad), "callbacks.keys");
        assert_eq!(key(with_url("ftp://x/")), "callbacks.tenants.acme.url");
        let mut bad = with_url("https://hooks.example/");
        bad.keys.clear();
        assert_eq!(key(bad), "callbacks.tenants.acme.url");
    }

    #[test]
    fn an_operators_url_may_lead_anywhere() {
        for url in [
            "http://127.0.0.1:9000/hook",
            "http://[::1]:9000/",
            "https://localhost/",
        ] {
            assert_eq!(with_url(url).check(), Ok(()), "{url}");
        }
    }

    #[test]
    fn a_tenant_may_have_keys_of_its_own() {
        let mut settings = with_url("https://hooks.example/");
        let acme: Tenant = "acme".parse().unwrap();
        assert_eq!(settings.keys_of(&acme), settings.keys);
        let own = vec![Secret::new("whsec_own")];
        settings.tenants.get_mut(&acme).unwrap().keys = own.clone();
        assert_eq!(settings.keys_of(&acme), own);
        assert_eq!(settings.keys_of(&Tenant::default()), settings.keys);
    }
}
