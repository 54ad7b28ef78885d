//! Which addresses a callback may reach. Whoever submits a job chooses the URL, and must not reach through us what only
//! we can reach: this host, its neighbours, the metadata service of a cloud (server-side request forgery). Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is not called: what it is reserved for, in the registries of IANA (RFC 6890 and after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `0.0.0.0`, `::`.
    Unspecified,
    /// `0.0.0.0/8`.
    ThisNetwork,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918, and `fc00::/7` (RFC 4193).
    Private,
    /// `169.254.0.0/16`, where clouds have their metadata, and `fe80::/10`.
    LinkLocal,
    /// `100.64.0.0/10`, between a carrier and its customers.
    Shared,
    /// `192.0.0.0/24`.
    Protocol,
    /// Examples in documents.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmarking,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `240.0.0.0/4`, old relays, and of IPv6 everything that is not handed out for the public internet.
    Reserved,
    /// Teredo and local translation: the address that would be reached cannot be told.
    Tunnel,
}

impl Rule {
    /// The rule as it stands in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::Unspecified => "unspecified",
            Rule::ThisNetwork => "this-network",
            Rule::Loopback => "loopback",
            Rule::Private => "private",
            Rule::LinkLocal => "link-local",
            Rule::Shared => "shared",
            Rule::Protocol => "protocol-assignments",
            Rule::Documentation => "documentation",
            Rule::Benchmarking => "benchmarking",
            Rule::Multicast => "multicast",
            Rule::Broadcast => "broadcast",
            Rule::Reserved => "reserved",
            Rule::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address that is not called.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{ip} is a {rule} address")]
pub struct Forbidden {
    /// As it was given.
    pub ip: IpAddr,
    /// What it is reserved for.
    pub rule: Rule,
}

/// Not a network.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a network: expected one such as 10.1.0.0/16, or one address")]
pub struct BadNetwork(String);

/// Which addresses are called: public ones, and those that an operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks that are called whatever they are reserved for.
    pub allow: Vec<IpNet>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(first: [u16; 3], bits: u8) -> Ipv6Net {
    let [a, b, c] = first;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// The first that holds an address names its rule.
const V4: [(Ipv4Net, Rule); 18] = [
    (v4(0, 0, 0, 0, 32), Rule::Unspecified),
    (v4(0, 0, 0, 0, 8), Rule::ThisNetwork),
    (v4(10, 0, 0, 0, 8), Rule::Private),
    (v4(100, 64, 0, 0, 10), Rule::Shared),
    (v4(127, 0, 0, 0, 8), Rule::Loopback),
    (v4(169, 254, 0, 0, 16), Rule::LinkLocal),
    (v4(172, 16, 0, 0, 12), Rule::Private),
    (v4(192, 0, 0, 0, 24), Rule::Protocol),
    (v4(192, 0, 2, 0, 24), Rule::Documentation),
    (v4(192, 88, 99, 0, 24), Rule::Reserved),
    (v4(192, 168, 0, 0, 16), Rule::Private),
    (v4(198, 18, 0, 0, 15), Rule::Benchmarking),
    (v4(198, 51, 100, 0, 24), Rule::Documentation),
    (v4(203, 0, 113, 0, 24), Rule::Documentation),
    (v4(224, 0, 0, 0, 4), Rule::Multicast),
    (v4(255, 255, 255, 255, 32), Rule::Broadcast),
    (v4(240, 0, 0, 0, 4), Rule::Reserved),
    // Azure answers its guests here, although the address is a public one.
    (v4(168, 63, 129, 16, 32), Rule::LinkLocal),
];

const V6: [(Ipv6Net, Rule); 11] = [
    (
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
        Rule::Unspecified,
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
        Rule::Loopback,
    ),
    (v6([0x64, 0xff9b, 1], 48), Rule::Tunnel),
    (v6([0x2001, 0, 0], 32), Rule::Tunnel),
    (v6([0x2001, 2, 0], 48), Rule::Benchmarking),
    (v6([0x2001, 0xdb8, 0], 32), Rule::Documentation),
    (v6([0x3fff, 0, 0], 20), Rule::Documentation),
    (v6([0x2001, 0, 0], 23), Rule::Protocol),
    (v6([0xfc00, 0, 0], 7), Rule::Private),
    (v6([0xfe80, 0, 0], 10), Rule::LinkLocal),
    (v6([0xff00, 0, 0], 8), Rule::Multicast),
];

/// All that is handed out for the public internet.
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0], 3);
/// Translation to IPv4 (RFC 6052): the last 32 bits are the address.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);
/// 6to4 (RFC 3056): the 32 bits after the first 16 are the address.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0], 16);
/// IPv4 in an IPv6 socket (RFC 4291, 2.5.5.2).
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

impl Policy {
    /// A policy that allows these networks besides public addresses.
    ///
    /// # Errors
    /// The first text that is neither a network nor an address.
    pub fn new<S: AsRef<str>>(allow: &[S]) -> Result<Self, BadNetwork> {
        let allow = allow.iter().map(|text| network(text.as_ref()));
        Ok(Self {
            allow: allow.collect::<Result<_, _>>()?,
        })
    }

    /// A policy that refuses nothing: for what an operator has configured.
    pub fn anywhere() -> Self {
        Self {
            allow: vec![v4(0, 0, 0, 0, 0).into(), v6([0; 3], 0).into()],
        }
    }

    /// Whether an address may be called. One that holds an IPv4 address is judged by that.
    ///
    /// # Errors
    /// What the address is reserved for.
    pub fn permits(&self, ip: IpAddr) -> Result<(), Forbidden> {
        let inner = inside(ip);
        let allowed = |net: &IpNet| net.contains(&ip) || net.contains(&inner);
        match reserved(inner) {
            Some(rule) if !self.allow.iter().any(allowed) => Err(Forbidden { ip, rule }),
            Some(_) | None => Ok(()),
        }
    }
}

fn network(text: &str) -> Result<IpNet, BadNetwork> {
    let text = text.trim();
    let bad = || BadNetwork(text.chars().take(64).collect());
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    text.parse().map_err(|_| bad())
}

/// The address that packets would reach.
fn inside(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let bytes = v6.octets();
    let v4 = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        IpAddr::V4(four.into())
    };
    if [MAPPED, NAT64].iter().any(|net| net.contains(&v6)) {
        v4(12)
    } else if SIX_TO_FOUR.contains(&v6) {
        v4(2)
    } else {
        ip
    }
}

fn reserved(ip: IpAddr) -> Option<Rule> {
    match ip {
        IpAddr::V4(ip) => V4.iter().find(|(net, _)| net.contains(&ip)).map(|it| it.1),
        IpAddr::V6(ip) => {
            let named = V6.iter().find(|(net, _)| net.contains(&ip)).map(|it| it.1);
            named.or((!GLOBAL.contains(&ip)).then_some(Rule::Reserved))
        }
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
