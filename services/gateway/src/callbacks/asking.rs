//! Whom the end of a job is told to: by a callback where the request says, else its type, else its tenant; and by e-mail
//! those whom its type names.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tidegate_callbacks::{
    CallbackRules, CallbackSettings, Lookup, ResolveError, Resolver, SystemLookup, TenantCallbacks,
};
use tidegate_contract::{EmailSpec, EventFilter, FollowUpKind, FollowUpSpec, JobTypeSpec, Tenant};
use url::Url;

use crate::options::AskedCallback;
use crate::problem::ApiError;
use crate::settings::GatewayError;

/// How long a submit waits for the addresses of a name.
pub const LOOKUP: Duration = Duration::from_secs(2);

/// Whom the end of a new job is told to.
#[derive(Debug)]
pub struct Wanted {
    pub follow_ups: Vec<FollowUpSpec>,
    /// The name in a URL that a client has chosen: a job is made only if [`Callbacks::look_up`] finds it.
    pub name: Option<String>,
}

/// Where names are looked up.
pub enum Names {
    System(SystemLookup),
    #[cfg(test)]
    These(crate::tests::Known),
}

impl Lookup for Names {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System(system) => system.addresses(name).await,
            #[cfg(test)]
            Self::These(known) => Ok(known.addresses(name)),
        }
    }
}

/// What jobs may ask for.
pub struct Callbacks {
    settings: CallbackSettings,
    rules: CallbackRules,
    resolver: Resolver<Names>,
}

impl Callbacks {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn new(settings: CallbackSettings) -> Result<Self, GatewayError> {
        Self::with_names(settings, Names::System(SystemLookup::default()))
    }

    /// The same with other names.
    pub fn with_names(settings: CallbackSettings, names: Names) -> Result<Self, GatewayError> {
        let refuse = |text: String| GatewayError::Settings(text);
        settings
            .check()
            .map_err(|error| refuse(error.to_string()))?;
        let rules = settings.rules();
        let rules = rules.map_err(|error| refuse(format!("callbacks.allow_networks: {error}")))?;
        Ok(Self {
            resolver: Resolver::new(rules.policy.clone(), names),
            rules,
            settings,
        })
    }

    /// The follow-ups of a new job, by all rules that need nobody else.
    ///
    /// # Errors
    /// [`ApiError::CallbackRefused`], [`ApiError::CallbacksOff`].
    pub fn wanted(
        &self,
        asked: Option<&AskedCallback>,
        spec: &JobTypeSpec,
        tenant: &Tenant,
    ) -> Result<Wanted, ApiError> {
        let mut name = None;
        let callback = match (asked, &spec.callback) {
            (Some(asked), _) => {
                self.signed(tenant)?;
                let url = self.judged(&asked.url)?;
                name = url.domain().map(str::to_owned);
                Some((url.into(), asked.events))
            }
            (None, Some(spec)) => {
                self.signed(tenant)?;
                Some((spec.url.clone(), spec.events))
            }
            (None, None) => self.of_tenant(tenant),
        };
        let callback = callback
            .map(|(target, events)| FollowUpSpec::new(FollowUpKind::Callback, target, events));
        let email = spec.email.as_ref().map(EmailSpec::follow_up);
        let follow_ups = callback.into_iter().chain(email).collect();
        Ok(Wanted { follow_ups, name })
    }

    fn of_tenant(&self, tenant: &Tenant) -> Option<(String, EventFilter)> {
        let TenantCallbacks { url, events, .. } = self.settings.tenants.get(tenant)?;
        Some((url.clone()?, *events))
    }

    fn signed(&self, tenant: &Tenant) -> Result<(), ApiError> {
        match self.settings.keys_of(tenant) {
            [] => Err(ApiError::CallbacksOff),
            _ => Ok(()),
        }
    }

    /// The URL as it is kept, if it breaks no rule.
    fn judged(&self, text: &str) -> Result<Url, ApiError> {
        let broken = |error: tidegate_callbacks::BadUrl| ApiError::CallbackRefused {
            rule: error.rule(),
            reason: error.to_string(),
        };
        let url = self.rules.parse(text).map_err(broken)?;
        // It is read again at every attempt, as it is written here: escapes may have made it longer.
        self.rules.parse(url.as_str()).map_err(broken)
    }

    /// Whether a name has an address that is called. Addresses are for the log: what internal names stand for is not for
    /// clients.
    ///
    /// # Errors
    /// [`ApiError::CallbackRefused`].
    pub async fn look_up(&self, name: &str) -> Result<(), ApiError> {
        let permitted = tokio::time::timeout(LOOKUP, self.resolver.permitted(name)).await;
        let (rule, reason) = match permitted {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error @ ResolveError::Forbidden { .. })) => {
                tracing::info!(%error, "callback refused");
                let reason = "the host of the callback url has no address that is called: use one that the \
                              public internet reaches, or have its network allowed";
                ("address", reason)
            }
            Ok(Err(error @ ResolveError::Unknown { .. })) => {
                tracing::info!(%error, "callback refused");
                (
                    "name",
                    "the host of the callback url cannot be resolved now",
                )
            }
            Err(_) => (
                "name",
                "the host of the callback url was not resolved in time",
            ),
        };
        Err(ApiError::CallbackRefused {
            rule,
            reason: reason.to_owned(),
        })
    }
}
