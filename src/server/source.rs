//! Where a delivery comes from, as far as limits go by it.
//!
//! The address of the connection, unless that is a proxy which `--trusted-proxies` names: then the right-most address that
//! is none of those in `X-Forwarded-For`, or else in `Forwarded` (RFC 7239). What stands to the left of it was written by
//! the sender. `X-Forwarded-For` goes first, so a proxy that writes `Forwarded` alone must take the other one away.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use ipnet::IpNet;

/// Bits of an IPv6 address that tell one network from another: whoever has a /64 has all its addresses.
const V6_NETWORK: u32 = 64;

/// An IPv4 address, or the /64 of an IPv6 one. Deliveries that came over no connection share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Option<IpAddr>);

impl Source {
    /// Of an address.
    #[must_use]
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - V6_NETWORK))).into(),
        }))
    }
}

/// The proxies whose word about addresses counts. None by default.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Who sent a request that came in from `peer`.
    #[must_use]
    pub fn source(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Source {
        let Some(peer) = peer else { return Source::of(None) };
        if !self.trusts(peer) {
            return Source::of(Some(peer));
        }
        let mut hops = forwarded_for(headers);
        if hops.is_empty() {
            hops = forwarded(headers);
        }
        let mut nearest = peer;
        for hop in hops.into_iter().rev() {
            // What can't be read hides who was before it; the last proxy that is known has to answer for it.
            let Some(hop) = hop else { break };
            nearest = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        Source::of(Some(nearest))
    }

    /// Whether somebody whose word doesn't count says for whom a request is: a proxy that nobody has named, perhaps.
    fn is_unheard(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
        let says = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
        says && peer.is_some_and(|peer| !self.trusts(peer))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Says once, for all who come in at one door, that a proxy may be missing among the trusted ones.
#[derive(Debug, Default)]
pub struct UnheardProxy {
    has_warned: AtomicBool,
}

impl UnheardProxy {
    /// Looks at a request. `whom`: who comes in at this door, in the plural.
    pub fn notice(&self, proxies: &TrustedProxies, peer: Option<IpAddr>, headers: &HeaderMap, whom: &str) {
        if proxies.is_unheard(peer, headers) && !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = peer.map(tracing::field::display),
                "somebody who is no trusted proxy sent X-Forwarded-For or Forwarded, so all {whom} behind it share one \
                 source's limits: if it is a proxy of yours, name its network with --trusted-proxies (the chart's \
                 webhook.trustedProxies)"
            );
        }
    }
}

/// A network, as `--trusted-proxies` takes it: `10.0.0.0/8`, or one address.
///
/// # Errors
/// When it is neither; the text says what to write.
pub fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is neither a network such as 10.0.0.0/8 nor an address"))
}

fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(','))
}

/// The hops of `X-Forwarded-For`, those that can't be read as `None`.
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    texts(headers, "x-forwarded-for").map(address).collect()
}

/// The hops of `Forwarded`. Quoted commas don't occur in addresses.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let node = |hop: &str| {
        let pairs = hop.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut names = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for"));
        names.next().and_then(|(_, node)| address(node.trim_matches('"')))
    };
    texts(headers, "forwarded").map(node).collect()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    text.rsplit_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(trusted: &[&str], peer: &str, sent: &[(&'static str, &str)]) -> String {
        let networks = trusted.iter().map(|text| network(text).expect("a network")).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().expect("a header value"));
        }
        let Source(address) = TrustedProxies::new(networks).source(peer.parse().ok(), &headers);
        address.map_or_else(String::new, |address| address.to_string())
    }

    #[test]
    fn who_it_is() {
        let (xff, forwarded) = ("x-forwarded-for", "forwarded");
        let proxies: &[&str] = &["10.0.0.0/8", "fd00::/8", "192.0.2.9"];
        for (trusted, peer, sent, expected) in [
            // Nobody is trusted: whatever is claimed is a claim.
            (&[][..], "198.51.100.1", vec![(xff, "203.0.113.5")], "198.51.100.1"),
            (proxies, "198.51.100.1", vec![(xff, "203.0.113.5")], "198.51.100.1"),
            (proxies, "10.1.2.3", vec![], "10.1.2.3"),
            (proxies, "10.1.2.3", vec![(xff, "203.0.113.5")], "203.0.113.5"),
            (proxies, "192.0.2.9", vec![(xff, "203.0.113.5:4711")], "203.0.113.5"),
            (proxies, "::ffff:10.1.2.3", vec![(xff, "203.0.113.5")], "203.0.113.5"),
            // The sender's own invention stands to the left.
            (proxies, "10.1.2.3", vec![(xff, "127.0.0.1, 203.0.113.5, 10.9.9.9")], "203.0.113.5"),
            (proxies, "10.1.2.3", vec![(xff, "127.0.0.1"), (xff, "203.0.113.5")], "203.0.113.5"),
            (proxies, "10.1.2.3", vec![(xff, "10.4.4.4, 10.5.5.5")], "10.4.4.4"),
            (proxies, "10.1.2.3", vec![(xff, "203.0.113.5, unknown")], "10.1.2.3"),
            (proxies, "10.1.2.3", vec![(xff, "203.0.113.5, unknown, 10.5.5.5")], "10.5.5.5"),
            (proxies, "10.1.2.3", vec![(xff, "\u{fc}")], "10.1.2.3"),
            (
                proxies,
                "10.1.2.3",
                vec![(forwarded, "for=127.0.0.1, For=\"203.0.113.5:80\";proto=https")],
                "203.0.113.5",
            ),
            (proxies, "10.1.2.3", vec![(forwarded, "for=\"[2001:db8:1:2:3::4]:4711\"")], "2001:db8:1:2::"),
            (proxies, "10.1.2.3", vec![(forwarded, "for=_hidden")], "10.1.2.3"),
            (proxies, "10.1.2.3", vec![(forwarded, "for=127.0.0.1"), (xff, "203.0.113.5")], "203.0.113.5"),
            (proxies, "fd00::1", vec![(xff, "2001:db8:1:2:3::4")], "2001:db8:1:2::"),
            (proxies, "2001:db8:1:2:ffff::1", vec![], "2001:db8:1:2::"),
        ] {
            assert_eq!(source(trusted, peer, &sent), expected, "{peer} {sent:?}");
        }
        assert_eq!(source(proxies, "no connection", &[(xff, "203.0.113.5")]), "");
    }

    #[test]
    fn who_speaks_without_being_heard() {
        let proxies = TrustedProxies::new(vec![network("10.0.0.0/8").expect("a network")]);
        for (peer, header, unheard) in [
            ("198.51.100.1", Some("x-forwarded-for"), true),
            ("198.51.100.1", Some("forwarded"), true),
            ("198.51.100.1", None, false),
            ("10.1.2.3", Some("x-forwarded-for"), false),
            ("no connection", Some("x-forwarded-for"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|name| (http::HeaderName::from_static(name), "203.0.113.5".parse().unwrap())));
            assert_eq!(proxies.is_unheard(peer.parse().ok(), &headers), unheard, "{peer} {header:?}");
        }
    }

    #[test]
    fn networks() {
        for text in ["10.0.0.0/8", " 10.0.0.1", "fd00::/8", "::1"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "proxy.example.com", "10.0.0"] {
            assert!(network(text).expect_err(text).contains("10.0.0.0/8"), "{text}");
        }
    }
}
