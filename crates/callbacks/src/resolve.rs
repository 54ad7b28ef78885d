//! Names into addresses that may be called. What is judged here is what is connected to: nobody looks the name up a second
//! time in between, so a name that changes its address (rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::address::{Forbidden, Policy};

/// Addresses of one name that are tried, or told of in an error, at most.
const MOST_ADDRESSES: usize = 8;
/// Lookups at once: each holds a thread until the name servers answer, and whoever chose the name may own those.
const MOST_LOOKUPS: usize = 32;

/// Finds the addresses of a name.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses, whether they may be called or not.
    fn addresses(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// Why a name leads nowhere. For the operator: a client that is told the addresses learns what internal names stand for.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ResolveError {
    /// It has no addresses, or they cannot be found.
    #[error("{name} cannot be resolved: {cause}")]
    Unknown {
        /// The name.
        name: String,
        /// What the system says.
        cause: String,
    },
    /// None of its addresses may be called.
    #[error("{name} has no address that may be called: {}", list(.forbidden))]
    Forbidden {
        /// The name.
        name: String,
        /// The first few of them.
        forbidden: Vec<Forbidden>,
    },
}

fn list(forbidden: &[Forbidden]) -> String {
    let texts: Vec<String> = forbidden.iter().map(Forbidden::to_string).collect();
    texts.join(", ")
}

/// The resolver of the system, with few lookups at a time.
#[derive(Debug)]
pub struct SystemLookup(Arc<Semaphore>);

impl Default for SystemLookup {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_LOOKUPS)))
    }
}

impl Lookup for SystemLookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let permit = self.0.clone().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let name = name.to_owned();
        // As `tokio::net::lookup_host`, but the permit stays with the thread, which goes on when nobody waits any more.
        let looked_up = tokio::task::spawn_blocking(move || {
            let found = (name.as_str(), 0).to_socket_addrs();
            drop(permit);
            found.map(|found| found.map(|it| it.ip()).collect())
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

/// Gives the HTTP client only addresses that the policy permits.
pub struct Resolver<L> {
    policy: Policy,
    lookup: L,
}

impl<L: Lookup> Resolver<L> {
    /// A resolver that gives away only what the policy permits.
    pub fn new(policy: Policy, lookup: L) -> Self {
        Self { policy, lookup }
    }

    /// The addresses of a name that may be called.
    ///
    /// # Errors
    /// If there is none.
    pub async fn permitted(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let unknown = |cause: String| ResolveError::Unknown {
            name: name.to_owned(),
            cause,
        };
        let found = self.lookup.addresses(name).await;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        if found.is_empty() {
            return Err(unknown("it has no address".to_owned()));
        }
        let (mut permitted, mut forbidden) = (Vec::new(), Vec::new());
        for ip in found {
            match self.policy.permits(ip) {
                Ok(()) => permitted.push(ip),
                Err(error) => forbidden.push(error),
            }
        }
        if permitted.is_empty() {
            forbidden.truncate(MOST_ADDRESSES);
            let name = name.to_owned();
            return Err(ResolveError::Forbidden { name, forbidden });
        }
        permitted.truncate(MOST_ADDRESSES);
        Ok(permitted)
    }
}

/// A handle for the HTTP client, whose futures outlive the call.
pub struct Shared<L>(pub Arc<Resolver<L>>);

impl<L: Lookup> Resolve for Shared<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let permitted = resolver.permitted(name.as_str()).await?;
            // Port 0 becomes that of the URL.
            let addresses = permitted.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Rule;

    struct Fixed(Vec<&'static str>);

    impl Lookup for Fixed {
        async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.iter().map(|ip| ip.parse().unwrap()).collect())
        }
    }

    async fn permitted(ips: Vec<&'static str>) -> Result<Vec<IpAddr>, ResolveError> {
        let policy = Policy::new(&["10.1.0.0/16"]).unwrap();
        Resolver::new(policy, Fixed(ips)).permitted("h.test").await
    }

    #[tokio::test]
    async fn only_permitted_addresses_are_given() {
        let mixed = vec![
            "127.0.0.1",
            "10.1.0.1",
            "::ffff:10.2.0.1",
            "8.8.8.8",
            "fe80::1",
        ];
        let expected: Vec<IpAddr> = ["10.1.0.1", "8.8.8.8"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(permitted(mixed).await, Ok(expected));
    }

    #[tokio::test]
    async fn a_name_without_any_says_why() {
        let error = permitted(vec!["127.0.0.1", "169.254.169.254"]).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "h.test has no address that may be called: 127.0.0.1 is a loopback address, \
             169.254.169.254 is a link-local address"
        );
        let error = permitted(Vec::new()).await.unwrap_err().to_string();
        assert_eq!(error, "h.test cannot be resolved: it has no address");
    }

    #[tokio::test]
    async fn few_addresses_are_kept() {
        assert_eq!(permitted(vec!["8.8.8.8"; 99]).await.unwrap().len(), 8);
        match permitted(vec!["127.0.0.1"; 99]).await {
            Err(ResolveError::Forbidden { forbidden, .. }) => assert_eq!(forbidden.len(), 8),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn localhost_is_refused_as_the_system_resolves_it() {
        let resolver = Resolver::new(Policy::default(), SystemLookup::default());
        match resolver.permitted("localhost").await {
            Err(ResolveError::Forbidden { forbidden, .. }) => {
                assert!(!forbidden.is_empty());
                assert!(forbidden.iter().all(|it| it.rule == Rule::Loopback));
            }
            other => panic!("{other:?}"),
        }
        let open = Policy::new(&["127.0.0.0/8", "::1"]).unwrap();
        let resolver = Resolver::new(open, SystemLookup::default());
        assert!(resolver.permitted("localhost").await.is_ok());
    }

    #[tokio::test]
    async fn a_lookup_gives_its_permit_back() {
        let lookup = SystemLookup::default();
        lookup.addresses("localhost").await.unwrap();
        assert_eq!(lookup.0.available_permits(), MOST_LOOKUPS);
    }
}
