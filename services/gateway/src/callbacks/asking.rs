//! Whom the end of a job is told to: by a callback where the request says, else its type, else its tenant; and by e-mail
//! those whom its type names.

use std::time::Duration;

use tidegate_callbacks::{
    CallbackRules, CallbackSettings, ResolveError, Resolver, SystemLookup, TenantCallbacks,
};
use tidegate_contract::{EmailSpec, EventFilter, FollowUpKind, FollowUpSpec, JobTypeSpec, Tenant};

use crate::options::AskedCallback;
use crate::problem::ApiError;
use crate::settings::GatewayError;

/// How long a submit waits for the addresses of a name.
const LOOKUP: Duration = Duration::from_secs(2);

/// What jobs may ask for.
pub struct Callbacks {
    settings: CallbackSettings,
    rules: CallbackRules,
    resolver: Resolver<SystemLookup>,
}

impl Callbacks {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn new(settings: CallbackSettings) -> Result<Self, GatewayError> {
        let refuse = |text: String| GatewayError::Settings(text);
        settings
            .check()
            .map_err(|error| refuse(error.to_string()))?;
        let rules = settings.rules();
        let rules = rules.map_err(|error| refuse(format!("callbacks.allow_networks: {error}")))?;
        Ok(Self {
            resolver: Resolver::new(rules.policy.clone(), SystemLookup::default()),
            rules,
            settings,
        })
    }

    /// The follow-ups of a new job.
    ///
    /// # Errors
    /// [`ApiError::CallbackRefused`], [`ApiError::CallbacksOff`].
    pub async fn wanted(
        &self,
        asked: Option<&AskedCallback>,
        spec: &JobTypeSpec,
        tenant: &Tenant,
    ) -> Result<Vec<FollowUpSpec>, ApiError> {
        let callback = self.callback(asked, spec, tenant).await?;
        let email = spec.email.as_ref().map(EmailSpec::follow_up);
        Ok(callback.into_iter().chain(email).collect())
    }

    async fn callback(
        &self,
        asked: Option<&AskedCallback>,
        spec: &JobTypeSpec,
        tenant: &Tenant,
    ) -> Result<Option<FollowUpSpec>, ApiError> {
        let (target, events) = match (asked, &spec.callback) {
            (Some(asked), _) => {
                self.signed(tenant)?;
                (self.judged(&asked.url).await?, asked.events)
            }
            (None, Some(spec)) => {
                self.signed(tenant)?;
                (spec.url.clone(), spec.events)
            }
            (None, None) => match self.of_tenant(tenant) {
                Some(configured) => configured,
                None => return Ok(None),
            },
        };
        let callback = FollowUpSpec::new(FollowUpKind::Callback, target, events);
        Ok(Some(callback))
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
    async fn judged(&self, text: &str) -> Result<String, ApiError> {
        let broken = |error: tidegate_callbacks::BadUrl| ApiError::CallbackRefused {
            rule: error.rule(),
            reason: error.to_string(),
        };
        let url = self.rules.parse(text).map_err(broken)?;
        // It is read again at every attempt, as it is written here: escapes may have made it longer.
        let url = self.rules.parse(url.as_str()).map_err(broken)?;
        if let Some(name) = url.domain() {
            self.resolved(name).await?;
        }
        Ok(url.into())
    }

    /// Addresses are for the log: what internal names stand for is not for clients.
    async fn resolved(&self, name: &str) -> Result<(), ApiError> {
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
