//! Names to addresses that may be reached.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::addresses::AddressRules;

/// Resolves as the system does, and hands on the addresses that may be reached. Where a name has some of both kinds, the
/// others are as if they weren't there; where it has none that may be reached, it is refused.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Arc<AddressRules>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Addrs = Box::new(permitted(&rules, found)?.into_iter());
            Ok(addresses)
        })
    }
}

/// An address that a name has and that must not be reached.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to {address}, {kind}")]
pub(super) struct Refused {
    pub(super) address: IpAddr,
    pub(super) kind: &'static str,
}

fn permitted(rules: &AddressRules, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = None;
    let mut good = Vec::new();
    for address in found {
        match rules.check(address.ip()) {
            Ok(()) => good.push(address),
            Err(kind) => refused = refused.or(Some(Refused { address: address.ip(), kind })),
        }
    }
    match refused {
        Some(refused) if good.is_empty() => Err(refused),
        Some(_) | None => Ok(good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_several_addresses() {
        let rules = AddressRules::default();
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().expect(text), 0)).collect()
        };
        let good = permitted(&rules, addresses(&["127.0.0.1", "10.0.0.1", "fe80::1", "10.0.0.2"]).into_iter());
        assert_eq!(good.expect("two"), addresses(&["10.0.0.1", "10.0.0.2"]));
        let refused = permitted(&rules, addresses(&["::1", "127.0.0.1"]).into_iter()).expect_err("none");
        assert_eq!(refused.to_string(), "the name resolves to ::1, a loopback address");
        assert!(permitted(&rules, std::iter::empty()).expect("none, and none refused").is_empty());
    }
}
