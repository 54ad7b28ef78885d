//! Which addresses are called, by example and by property.

use proptest::prelude::*;

use super::*;

fn rule(policy: &Policy, ip: &str) -> Option<Rule> {
    policy.permits(ip.parse().unwrap()).err().map(|it| it.rule)
}

#[test]
fn every_reserved_network_is_refused_from_its_first_address_to_its_last() {
    for (first, last, expected) in [
        ("0.0.0.0", "0.0.0.0", Rule::Unspecified),
        ("0.0.0.1", "0.255.255.255", Rule::ThisNetwork),
        ("10.0.0.0", "10.255.255.255", Rule::Private),
        ("100.64.0.0", "100.127.255.255", Rule::Shared),
        ("127.0.0.0", "127.255.255.255", Rule::Loopback),
        ("168.63.129.16", "168.63.129.16", Rule::LinkLocal),
        ("169.254.0.0", "169.254.255.255", Rule::LinkLocal),
        ("169.254.169.254", "169.254.170.2", Rule::LinkLocal),
        ("172.16.0.0", "172.31.255.255", Rule::Private),
        ("192.0.0.0", "192.0.0.255", Rule::Protocol),
        ("192.0.2.0", "192.0.2.255", Rule::Documentation),
        ("192.88.99.0", "192.88.99.255", Rule::Reserved),
        ("192.168.0.0", "192.168.255.255", Rule::Private),
        ("198.18.0.0", "198.19.255.255", Rule::Benchmarking),
        ("198.51.100.0", "198.51.100.255", Rule::Documentation),
        ("203.0.113.0", "203.0.113.255", Rule::Documentation),
        ("224.0.0.0", "239.255.255.255", Rule::Multicast),
        ("240.0.0.0", "255.255.255.254", Rule::Reserved),
        ("255.255.255.255", "255.255.255.255", Rule::Broadcast),
        ("::", "::", Rule::Unspecified),
        ("::1", "::1", Rule::Loopback),
        ("::2", "::ffff", Rule::Reserved),
        (
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
            Rule::Tunnel,
        ),
        ("100::", "100::ffff", Rule::Reserved),
        (
            "2001::",
            "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
            Rule::Tunnel,
        ),
        (
            "2001:2::",
            "2001:2:0:ffff:ffff:ffff:ffff:ffff",
            Rule::Benchmarking,
        ),
        ("2001:20::", "2001:1ff:ffff::", Rule::Protocol),
        (
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Rule::Documentation,
        ),
        ("3fff::", "3fff:fff:ffff::", Rule::Documentation),
        ("4000::", "5f00::1", Rule::Reserved),
        (
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Rule::Private,
        ),
        ("fd00:ec2::254", "fd20:ce::254", Rule::Private),
        (
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Rule::LinkLocal,
        ),
        ("fec0::", "feff::1", Rule::Reserved),
        (
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            Rule::Multicast,
        ),
    ] {
        for ip in [first, last] {
            assert_eq!(rule(&Policy::default(), ip), Some(expected), "{ip}");
        }
    }
}

#[test]
fn the_neighbours_of_reserved_networks_are_public() {
    for ip in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7::1",
        "2001:db9::1",
        "2606:4700::1111",
        "3ffe::1",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(rule(&Policy::default(), ip), None, "{ip}");
    }
}

#[test]
fn an_address_inside_another_is_what_counts() {
    for (ip, expected) in [
        ("::ffff:127.0.0.1", Rule::Loopback),
        ("::ffff:169.254.169.254", Rule::LinkLocal),
        ("::127.0.0.1", Rule::Reserved),
        ("64:ff9b::10.0.0.1", Rule::Private),
        ("64:ff9b::a9fe:a9fe", Rule::LinkLocal),
        ("2002:7f00:1::", Rule::Loopback),
        ("2002:a00:1::1", Rule::Private),
    ] {
        assert_eq!(rule(&Policy::default(), ip), Some(expected), "{ip}");
    }
}

#[test]
fn what_an_operator_allows_is_called_in_every_spelling() {
    let policy = Policy::new(&["10.1.0.0/16", " 127.0.0.1 ", "fd00::/8"]).unwrap();
    for ip in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "fd00::1"] {
        assert_eq!(rule(&policy, ip), None, "{ip}");
    }
    for ip in ["10.2.0.1", "127.0.0.2", "::1", "fc00::1"] {
        assert!(rule(&policy, ip).is_some(), "{ip}");
    }
}

#[test]
fn what_is_no_network_is_named() {
    for text in ["", "10.0.0.0/33", "localhost", "10.0.0"] {
        let error = Policy::new(&[text]).unwrap_err();
        assert_eq!(error, BadNetwork(text.to_owned()));
    }
}

#[test]
fn the_rule_is_said() {
    let error = Policy::default().permits("10.0.0.1".parse().unwrap());
    assert_eq!(
        error.unwrap_err().to_string(),
        "10.0.0.1 is a private address"
    );
}

proptest! {
    /// The standard library's own judgement, as far as it is stable, is never laxer than ours.
    #[test]
    fn what_the_standard_library_knows_as_special_is_refused(bits in any::<u32>()) {
        let ip = Ipv4Addr::from(bits);
        let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast()
            || ip.is_documentation() || ip.is_multicast() || ip.is_unspecified();
        let refused = Policy::default().permits(ip.into()).is_err();
        prop_assert!(!special || refused, "{}", ip);
    }

    #[test]
    fn every_wrapping_of_an_address_is_judged_like_it(bits in any::<u32>(), low in any::<u64>()) {
        let policy = Policy::default();
        let ip = Ipv4Addr::from(bits);
        let plain = policy.permits(ip.into()).err().map(|it| it.rule);
        let [a, b, c, d] = ip.octets().map(u16::from);
        let (high, rest) = (a << 8 | b, c << 8 | d);
        let low = Ipv6Addr::from(u128::from(low)).segments();
        for wrapped in [
            ip.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, rest),
            Ipv6Addr::new(0x2002, high, rest, low[3], low[4], low[5], low[6], low[7]),
        ] {
            let rule = policy.permits(wrapped.into()).err().map(|it| it.rule);
            prop_assert_eq!(rule, plain, "{}", wrapped);
        }
    }

    /// All of IPv6 outside of what is handed out, and of no translation, is refused.
    #[test]
    fn only_global_addresses_of_ipv6_are_called(bits in any::<u128>()) {
        let ip = Ipv6Addr::from(bits);
        let called = Policy::default().permits(ip.into()).is_ok();
        prop_assert!(!called || GLOBAL.contains(&ip) || inside(ip.into()) != IpAddr::V6(ip));
    }
}
