//! Which addresses a registry may have. Pure: decides on addresses, resolves nothing.
//!
//! The name of a registry comes from a policy, a webhook, a challenge or a redirect, hence from somebody who may want
//! this process to speak to what only it can reach: itself, its node, the cloud's metadata service with the node's
//! credentials. Those are never reached unless the person who runs the process allows them. Private addresses (RFC 1918,
//! unique local) are fine: that is where registries of plants and companies are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// What a registry's address may be. By default nothing special is allowed.
///
/// Reads and shows itself as a list of networks with commas, such as `127.0.0.0/8,fd00:ec2::254`; an address without
/// length is itself alone. Empty: no exception.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    allowed: Vec<IpNet>,
}

/// Why a text is no list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a network: write an address or a network, such as 127.0.0.0/8 or fd00::/8, with commas in between"
)]
pub struct AddressRulesError(String);

impl AddressRules {
    /// With exceptions for these networks.
    #[must_use]
    pub fn allowing(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether this address may be connected to.
    ///
    /// # Errors
    /// What kind of address it is, in words that follow "is", where it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        let forms = forms(address);
        match forms.iter().find_map(|form| special(*form)) {
            // An exception for an address holds for it in whatever it is wrapped, and for the wrapping.
            Some(kind) if !forms.iter().any(|form| self.allowed.iter().any(|net| net.contains(form))) => Err(kind),
            Some(_) | None => Ok(()),
        }
    }
}

/// An address, and the IPv4 addresses that a gateway or the kernel would find in it.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    let IpAddr::V6(v6) = address else { return forms };
    let [a, b, c, _, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        // ::ffff:a.b.c.d (mapped) and ::a.b.c.d (compatible); `::` and `::1` are themselves alone.
        (0, 0) if v6.segments()[2..5] == [0; 3] && (f == 0xffff || f == 0 && (g, h) != (0, 0) && (g, h) != (0, 1)) => {
            forms.push(v4(g, h));
        }
        // ::ffff:0:a.b.c.d (translated, SIIT)
        (0, 0) if v6.segments()[2..4] == [0; 2] && (e, f) == (0xffff, 0) => forms.push(v4(g, h)),
        // NAT64: the well-known prefix, and the local one in its form of 96 bits.
        (0x64, 0xff9b) => forms.push(v4(g, h)),
        // 6to4
        (0x2002, _) => forms.push(v4(b, c)),
        // Teredo: its server, and the client, which is written inverted.
        (0x2001, 0) => forms.extend([v4(c, v6.segments()[3]), v4(!g, !h)]),
        _ => {}
    }
    forms
}

/// What is special about an address; absent where nothing is.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("a loopback address"),
        // On Linux a connection to any of them ends at the machine itself.
        [0, ..] => Some("an unspecified address"),
        [169, 254, 169, 254]
        // Alibaba Cloud, Azure, Oracle Cloud.
        | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Some("a cloud's metadata address"),
        [169, 254, ..] => Some("a link-local address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        // AWS keeps all its services for instances there, Google this one.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Some("a cloud's metadata address"),
        _ => None,
    }
}

impl FromStr for AddressRules {
    type Err = AddressRulesError;

    fn from_str(text: &str) -> Result<Self, AddressRulesError> {
        let one = |part: &str| {
            let net = part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| AddressRulesError(part.chars().take(60).collect()))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self { allowed: parts.map(one).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for AddressRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, net) in self.allowed.iter().enumerate() {
            write!(f, "{}{net}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, address: &str) -> Result<(), &'static str> {
        rules.parse::<AddressRules>().expect(rules).check(address.parse().expect(address))
    }

    #[test]
    fn what_is_reached() {
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "100.100.100.201",
            "1.1.1.1",
            "192.0.0.193",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.1",
            "223.255.255.255",
            "fd12:3456::1",
            "fd00:ec3::254",
            "2606:4700::1111",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::1",
            "2001:db8::7f00:1",
            "fec0::1",
        ] {
            assert_eq!(check("", address), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_never_reached() {
        for (address, kind) in [
            ("127.0.0.1", "a loopback address"),
            ("127.255.255.254", "a loopback address"),
            ("::1", "a loopback address"),
            ("0.0.0.0", "an unspecified address"),
            ("0.1.2.3", "an unspecified address"),
            ("::", "an unspecified address"),
            ("169.254.169.254", "a cloud's metadata address"),
            ("100.100.100.200", "a cloud's metadata address"),
            ("168.63.129.16", "a cloud's metadata address"),
            ("192.0.0.192", "a cloud's metadata address"),
            ("fd00:ec2::254", "a cloud's metadata address"),
            ("fd00:ec2::23", "a cloud's metadata address"),
            ("fd20:ce::254", "a cloud's metadata address"),
            ("169.254.0.1", "a link-local address"),
            ("fe80::1", "a link-local address"),
            ("febf::1", "a link-local address"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("ff02::1", "a multicast address"),
            ("255.255.255.255", "the broadcast address"),
            ("240.0.0.1", "a reserved address"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::ffff:169.254.169.254", "a cloud's metadata address"),
            ("::127.0.0.1", "a loopback address"),
            ("::ffff:0:127.0.0.1", "a loopback address"),
            ("64:ff9b::127.0.0.1", "a loopback address"),
            ("64:ff9b::169.254.169.254", "a cloud's metadata address"),
            ("64:ff9b:1::169.254.169.254", "a cloud's metadata address"),
            ("2002:7f00:0001::", "a loopback address"),
            ("2002:a9fe:a9fe::1", "a cloud's metadata address"),
            // Teredo with 127.0.0.1 for the client, written inverted.
            ("2001:0:102:304:0:0:80ff:fffe", "a loopback address"),
        ] {
            assert_eq!(check("", address), Err(kind), "{address}");
            assert_eq!(check("10.0.0.0/8", address), Err(kind), "another exception: {address}");
        }
    }

    #[test]
    fn exceptions() {
        for (rules, address) in [
            ("127.0.0.0/8", "127.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
            ("127.0.0.0/8, ::1", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0/0,::/0", "fe80::1"),
        ] {
            assert_eq!(check(rules, address), Ok(()), "{rules} {address}");
        }
        assert!(check("127.0.0.1", "127.0.0.2").is_err(), "an address is itself alone");
        assert!(check("127.0.0.0/8", "::1").is_err(), "the other family's loopback is another address");
    }

    #[test]
    fn read_and_shown() {
        for (text, shown) in [
            ("", ""),
            (" ,", ""),
            ("127.0.0.0/8", "127.0.0.0/8"),
            (" 127.0.0.0/8 , 10.0.0.1 ", "127.0.0.0/8,10.0.0.1/32"),
            ("fe80::/10,::1", "fe80::/10,::1/128"),
        ] {
            let rules = text.parse::<AddressRules>().expect(text);
            assert_eq!(rules.to_string(), shown);
            assert_eq!(shown.parse::<AddressRules>(), Ok(rules));
        }
        for text in ["localhost", "127.0.0.0/33", "127.0.0.0/8;10.0.0.0/8", "127.*"] {
            assert!(text.parse::<AddressRules>().is_err(), "{text}");
        }
    }
}
