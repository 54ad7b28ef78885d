//! What may be a callback URL. Checked when a job is taken, so that a client learns at once what is wrong, and again
//! before every attempt, as settings may have become stricter. Pure: what a name stands for is for the resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::url::{Host, ParseError, Url};

use crate::address::{Forbidden, Policy};

/// Longest callback URL, in bytes.
pub const LONGEST: usize = 2048;

/// What an operator lets callbacks be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackRules {
    /// Whether `http` is taken besides `https`: the body can then be read on its way.
    pub allow_http: bool,
    /// Where callbacks may go.
    pub policy: Policy,
}

/// Why a URL is not called. No variant holds the URL, whose path or query may be a secret.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadUrl {
    /// Over 2048 bytes.
    #[error("a callback url must be at most 2048 bytes long and has {0}")]
    TooLong(usize),
    /// White space and control characters, which some readers drop and others do not.
    #[error("a callback url must not have spaces or control characters: write them as %20")]
    Blank,
    /// Not an absolute URL.
    #[error("not a callback url: {0}")]
    Unreadable(ParseError),
    /// Another scheme than the rules take.
    #[error("a callback url must begin with {0}")]
    Scheme(&'static str),
    /// A user or a password.
    #[error("a callback url must not hold a user or a password: check our signature instead")]
    Credentials,
    /// What comes after `#`, which is never sent.
    #[error("a callback url must not have a fragment: take away what begins with #")]
    Fragment,
    /// Nothing to connect to.
    #[error("a callback url must name a host")]
    NoHost,
    /// A port of another service.
    #[error("port {0} is not called: use 443, 80 or one from 1024")]
    Port(u16),
    /// An address that is not called.
    #[error("{0}: use one that the public internet reaches, or have its network allowed")]
    Address(#[from] Forbidden),
}

impl BadUrl {
    /// The rule that is broken: stable, for programs.
    pub const fn rule(&self) -> &'static str {
        match self {
            BadUrl::TooLong(_) => "length",
            BadUrl::Blank => "characters",
            BadUrl::Unreadable(_) => "syntax",
            BadUrl::Scheme(_) => "scheme",
            BadUrl::Credentials => "credentials",
            BadUrl::Fragment => "fragment",
            BadUrl::NoHost => "host",
            BadUrl::Port(_) => "port",
            BadUrl::Address(_) => "address",
        }
    }
}

impl CallbackRules {
    /// Reads the text of a callback URL.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(&self, text: &str) -> Result<Url, BadUrl> {
        if text.len() > LONGEST {
            return Err(BadUrl::TooLong(text.len()));
        }
        // The parser drops tabs and line ends wherever they stand, and trims the rest.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(BadUrl::Blank);
        }
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::EmptyHost => BadUrl::NoHost,
            other => BadUrl::Unreadable(other),
        })?;
        self.check(&url)?;
        Ok(url)
    }

    /// Checks a URL that was read before.
    ///
    /// Ports below 1024 belong to services that speak something else, and could be made to take an order from what we
    /// send (mail, say); 80 and 443 are those of HTTP, and from 1024 on anything may be an HTTP server.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, url: &Url) -> Result<(), BadUrl> {
        match (url.scheme(), self.allow_http) {
            ("https", _) | ("http", true) => {}
            (_, false) => return Err(BadUrl::Scheme("https://")),
            (_, true) => return Err(BadUrl::Scheme("https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        if url.fragment().is_some() {
            return Err(BadUrl::Fragment);
        }
        match url.port_or_known_default().unwrap_or_default() {
            80 | 443 | 1024.. => {}
            port => return Err(BadUrl::Port(port)),
        }
        match url.host().ok_or(BadUrl::NoHost)? {
            // Whatever its spelling was (decimal, octal, hexadecimal, shortened), the parser has made it an address.
            Host::Ipv4(ip) => Ok(self.policy.permits(ip.into())?),
            Host::Ipv6(ip) => Ok(self.policy.permits(ip.into())?),
            Host::Domain(name) if is_localhost(name) => {
                let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let [first, second] = both.map(|ip| self.policy.permits(ip));
                Ok(first.or(second)?)
            }
            Host::Domain(_) => Ok(()),
        }
    }
}

/// Names that are this host on every host (RFC 6761, 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Rule;
    use proptest::prelude::*;

    fn broken(rules: &CallbackRules, text: &str) -> Option<&'static str> {
        rules.parse(text).err().map(|error| error.rule())
    }

    #[test]
    fn every_rule_has_a_url_that_breaks_it() {
        let long = format!("https://example.com/{}", "a".repeat(LONGEST));
        for (text, rule) in [
            (long.as_str(), "length"),
            ("https://example.com/a b", "characters"),
            ("ht\ttps://example.com/", "characters"),
            (" https://example.com/", "characters"),
            ("https://example.com/\u{0}", "characters"),
            ("example.com/hook", "syntax"),
            ("/hook", "syntax"),
            ("", "syntax"),
            ("https://exa<mple.com/", "syntax"),
            ("https://example.com:99999/", "syntax"),
            ("https://1.2.3.4.5/", "syntax"),
            ("https://", "host"),
            ("http://example.com/", "scheme"),
            ("ftp://example.com/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("data:text/plain,x", "scheme"),
            ("https://user@example.com/", "credentials"),
            ("https://:pass@example.com/", "credentials"),
            ("https://example.com/#part", "fragment"),
            ("https://example.com/#", "fragment"),
            ("https://example.com:22/", "port"),
            ("https://example.com:25/", "port"),
            ("https://example.com:0/", "port"),
            ("https://example.com:1023/", "port"),
        ] {
            assert_eq!(
                broken(&CallbackRules::default(), text),
                Some(rule),
                "{text}"
            );
        }
    }

    #[test]
    fn good_urls_are_taken_as_they_are() {
        for text in [
            "https://example.com/",
            "https://example.com:443/hook?token=a%20b",
            "https://example.com:80/",
            "https://example.com:1024/",
            "https://example.com:8443/hook",
            "https://example.com:65535/",
            "https://8.8.8.8/",
            "https://[2606:4700::1111]/",
            "https://bücher.example/",
        ] {
            assert_eq!(broken(&CallbackRules::default(), text), None, "{text}");
        }
        let longest = format!("https://e.com/{}", "a".repeat(LONGEST - 14));
        assert_eq!(longest.len(), LONGEST);
        assert_eq!(broken(&CallbackRules::default(), &longest), None);
    }

    #[test]
    fn no_spelling_of_an_address_slips_through() {
        for (host, rule) in [
            ("127.0.0.1", Rule::Loopback),
            ("127.1", Rule::Loopback),
            ("2130706433", Rule::Loopback),
            ("0x7f000001", Rule::Loopback),
            ("0x7f.1", Rule::Loopback),
            ("0177.0.0.1", Rule::Loopback),
            ("127.0.0.1.", Rule::Loopback),
            ("%31%32%37.0.0.1", Rule::Loopback),
            ("１２７.0.0.1", Rule::Loopback),
            ("127。0。0。1", Rule::Loopback),
            ("0", Rule::Unspecified),
            ("0xa9fea9fe", Rule::LinkLocal),
            ("169.254.43518", Rule::LinkLocal),
            ("[::1]", Rule::Loopback),
            ("[0:0:0:0:0:0:0:1]", Rule::Loopback),
            ("[::ffff:127.0.0.1]", Rule::Loopback),
            ("[::ffff:7f00:1]", Rule::Loopback),
            ("localhost", Rule::Loopback),
            ("LOCALHOST.", Rule::Loopback),
            ("any.localhost", Rule::Loopback),
        ] {
            match CallbackRules::default().parse(&format!("https://{host}/")) {
                Err(BadUrl::Address(forbidden)) => assert_eq!(forbidden.rule, rule, "{host}"),
                other => panic!("{host}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_operator_may_allow_http_and_a_network() {
        let rules = CallbackRules {
            allow_http: true,
            policy: Policy::new(&["127.0.0.0/8"]).unwrap(),
        };
        for text in [
            "http://127.0.0.1:8080/",
            "http://localhost:8080/",
            "http://example.com/",
        ] {
            assert_eq!(broken(&rules, text), None, "{text}");
        }
        assert_eq!(broken(&rules, "http://10.0.0.1/"), Some("address"));
        assert_eq!(broken(&rules, "ftp://example.com/"), Some("scheme"));
    }

    #[test]
    fn messages_say_the_mend_and_hide_the_url() {
        let rules = CallbackRules::default();
        let message = |text: &str| rules.parse(text).unwrap_err().to_string();
        assert_eq!(
            message("http://example.com/?token=t0p"),
            "a callback url must begin with https://"
        );
        assert_eq!(
            message("https://10.0.0.1/?token=t0p"),
            "10.0.0.1 is a private address: use one that the public internet reaches, or have its network allowed"
        );
    }

    proptest! {
        /// Whatever is taken can be read again and is taken again: what is stored stays good.
        #[test]
        fn what_is_taken_is_taken_again(text in "https?://[a-z0-9.:@\\[\\]#%/\\\\?_-]{1,40}") {
            let rules = CallbackRules::default();
            if let Ok(url) = rules.parse(&text) {
                prop_assert_eq!(rules.parse(url.as_str()), Ok(url.clone()));
                prop_assert_eq!(url.scheme(), "https");
            }
        }

        #[test]
        fn every_number_is_judged_as_the_address_it_is(bits in any::<u32>()) {
            let rules = CallbackRules::default();
            let refused = rules.policy.permits(Ipv4Addr::from(bits).into()).is_err();
            for text in [format!("https://{bits}/"), format!("https://{bits:#x}/")] {
                prop_assert_eq!(rules.parse(&text).is_err(), refused, "{}", text);
            }
        }
    }
}
