//! Who asks: a principal on every request that touches jobs.

use std::collections::BTreeSet;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tidegate_contract::Tenant;

use crate::problem::ApiError;
use crate::settings::{AuthSettings, GatewayError};
use crate::state::AppState;

/// For whom a request is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: Tenant,
}

/// The keys, ready to compare.
pub struct Auth {
    enabled: bool,
    keys: Vec<([u8; 32], Tenant)>,
}

impl Auth {
    /// Reads the hashes.
    ///
    /// # Errors
    /// When a hash is not one, a key is there twice, or keys are asked for and there are none.
    pub fn new(settings: &AuthSettings) -> Result<Self, GatewayError> {
        let mut keys: Vec<([u8; 32], Tenant)> = Vec::new();
        for key in &settings.keys {
            let hash = unhex(key.sha256.expose()).ok_or_else(|| {
                GatewayError::Settings(format!(
                    "auth.keys `{}`: sha256 must be 64 hexadecimal digits, the SHA-256 of the key",
                    key.name
                ))
            })?;
            if keys.iter().any(|(known, _)| *known == hash) {
                return Err(GatewayError::Settings(format!(
                    "auth.keys `{}`: another entry has the same key: give each its own",
                    key.name
                )));
            }
            keys.push((hash, key.tenant.clone()));
        }
        if settings.enabled && keys.is_empty() {
            return Err(GatewayError::Settings(
                "auth.enabled is true and auth.keys is empty: add a key, or set auth.enabled to false"
                    .to_owned(),
            ));
        }
        Ok(Self {
            enabled: settings.enabled,
            keys,
        })
    }

    /// Whether requests must show a key.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How many tenants there are.
    pub fn tenants(&self) -> usize {
        if !self.enabled {
            return 1;
        }
        let tenants: BTreeSet<_> = self.keys.iter().map(|(_, tenant)| tenant).collect();
        tenants.len()
    }

    /// The principal of a request with these headers: `Authorization: Bearer KEY`, else `X-Api-Key: KEY`.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`].
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        if !self.enabled {
            return Ok(Principal {
                tenant: Tenant::default(),
            });
        }
        let key = presented(headers).ok_or(ApiError::Unauthenticated(
            "an API key is needed: send `Authorization: Bearer KEY` or `X-Api-Key: KEY`",
        ))?;
        self.lookup(key)
            .map(|tenant| Principal {
                tenant: tenant.clone(),
            })
            .ok_or(ApiError::Unauthenticated("the API key is not known"))
    }

    /// Looks at every key whatever it finds, so that the time taken tells nothing.
    fn lookup(&self, key: &[u8]) -> Option<&Tenant> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let (mut found, mut index) = (Choice::from(0), 0u32);
        for (position, (known, _)) in (0u32..).zip(&self.keys) {
            let equal = known.ct_eq(&hash);
            index.conditional_assign(&position, equal);
            found |= equal;
        }
        let (_, tenant) = self.keys.get(index as usize)?;
        bool::from(found).then_some(tenant)
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| key.trim_ascii());
    }
    headers.get("x-api-key").map(|value| value.as_bytes())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |byte: u8| (byte as char).to_digit(16);
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok()?;
    }
    Some(out)
}

impl FromRequest for Principal {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(match req.app_data::<web::Data<AppState>>() {
            Some(state) => state.auth.principal(req.headers()),
            None => Err(ApiError::Internal("no state".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ApiKey;
    use actix_web::http::header::HeaderValue;
    use tidegate_contract::Secret;

    fn settings(keys: &[(&str, &str)]) -> AuthSettings {
        let key = |(tenant, key): &(&str, &str)| ApiKey {
            name: format!("key of {tenant}"),
            tenant: tenant.parse().unwrap(),
            sha256: Secret::new(format!("{:x}", Sha256::digest(key.as_bytes()))),
        };
        AuthSettings {
            enabled: true,
            keys: keys.iter().map(key).collect(),
        }
    }

    fn ask(auth: &Auth, name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
        auth.principal(&headers).ok().map(|p| p.tenant.to_string())
    }

    #[test]
    fn each_key_has_its_tenant_and_others_are_refused() {
        let auth = Auth::new(&settings(&[("acme", "k1"), ("umbrella", "k2")])).unwrap();
        assert_eq!(
            ask(&auth, "authorization", "Bearer k1").as_deref(),
            Some("acme")
        );
        assert_eq!(
            ask(&auth, "authorization", "bearer  k2").as_deref(),
            Some("umbrella")
        );
        assert_eq!(ask(&auth, "x-api-key", "k2").as_deref(), Some("umbrella"));
        for (name, value) in [
            ("authorization", "Bearer k3"),
            ("authorization", "Basic k1"),
            ("authorization", "k1"),
            ("authorization", "Bearer"),
            ("x-api-key", ""),
            ("x-other", "k1"),
        ] {
            assert_eq!(ask(&auth, name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn without_authentication_everybody_is_the_default_tenant() {
        let auth = Auth::new(&AuthSettings::default()).unwrap();
        assert_eq!(
            ask(&auth, "x-api-key", "whatever").as_deref(),
            Some("default")
        );
    }

    #[test]
    fn unusable_settings_are_named() {
        let mut bad = settings(&[("acme", "k1")]);
        bad.keys[0].sha256 = Secret::new("k1");
        let error = Auth::new(&bad).err().unwrap().to_string();
        assert!(
            error.contains("key of acme") && error.contains("64"),
            "{error}"
        );
        assert!(Auth::new(&settings(&[("a", "k"), ("b", "k")])).is_err());
        assert!(Auth::new(&settings(&[])).is_err());
    }
}
