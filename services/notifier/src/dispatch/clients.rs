//! Which client calls a URL: what a client of ours has named is called by the rules, what the operator has configured
//! wherever it leads.

use std::collections::BTreeSet;

use tidegate_callbacks::{CallbackRules, Policy};

use crate::client::{Client, ClientError};
use crate::settings::Limits;

/// Every address.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

pub(crate) struct Clients {
    usual: Client,
    free: Client,
    configured: BTreeSet<String>,
}

impl Clients {
    /// Clients with these limits; the URLs are those that stand in the configuration.
    pub(crate) fn new(
        rules: CallbackRules,
        limits: Limits,
        configured: BTreeSet<String>,
    ) -> Result<Self, ClientError> {
        let free = CallbackRules {
            allow_http: true,
            policy: Policy::new(&EVERYWHERE).unwrap_or_default(),
        };
        Ok(Self {
            usual: Client::new(rules, limits)?,
            free: Client::new(free, limits)?,
            configured,
        })
    }

    /// What calls that target, and by whose rules it is read.
    pub(crate) fn of(&self, target: &str) -> &Client {
        match self.configured.contains(target) {
            true => &self.free,
            false => &self.usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_has_configured_is_called_wherever_it_leads() {
        let inside = "http://10.0.0.1/hook";
        let configured = BTreeSet::from([inside.to_owned(), "no url".to_owned()]);
        let clients = Clients::new(CallbackRules::default(), Limits::default(), configured);
        let clients = clients.unwrap();
        let broken = |target: &str| {
            clients
                .of(target)
                .parse(target)
                .err()
                .map(|error| error.rule())
        };
        assert_eq!(broken(inside), None);
        assert_eq!(broken("http://10.0.0.1/other"), Some("scheme"));
        assert_eq!(broken("https://10.0.0.1/other"), Some("address"));
        assert_eq!(broken("https://example.com/"), None);
        assert_eq!(broken("no url"), Some("characters"));
    }
}
