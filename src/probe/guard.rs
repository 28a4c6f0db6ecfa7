//! The only place of this module that opens connections, and which ones it opens.
//!
//! A check's target comes from a template and from what a device says of itself. Two walls: what [`AddressRules`] refuses
//! (loopback, link-local, metadata, whatever it is wrapped in) is never connected to, unless who runs the process allows
//! it; and of the rest a device's check reaches only the device's own reported address and the networks that are allowed
//! for the check. Names are resolved here, every address is checked, and the very address that was checked is connected
//! to: a name that changes its mind gains nothing. No proxies, no environment.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::fault;
use super::names::Names;
use super::template::Host;
use super::verdict::{Doubt, Failure, Outcome};
use crate::oci::AddressRules;

/// Addresses of one name that are tried. Where three don't answer, the fourth is no better sign of health.
const MAX_ADDRESSES: usize = 3;

/// What a connection may be to, besides what the rules say.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// A device's own address, and these networks.
    Device {
        /// As the device reports it.
        own: Option<IpAddr>,
        /// `allowedCIDRs`
        allowed: &'a [IpNet],
    },
    /// A service that who wrote the check names, such as a webhook: whatever the rules let pass.
    Service,
}

/// Opens connections within the rules. Clones share the resolver.
#[derive(Clone, Debug)]
pub struct Guard {
    rules: AddressRules,
    names: Names,
}

impl Guard {
    /// Within these rules, with this resolver.
    #[must_use]
    pub fn new(rules: AddressRules, names: Names) -> Self {
        Self { rules, names }
    }

    /// Whether this address may be connected to.
    ///
    /// # Errors
    /// What it is, in words that follow "is".
    pub fn check(&self, address: IpAddr, reach: Reach<'_>) -> Result<(), &'static str> {
        self.rules.check(address)?;
        match reach {
            Reach::Service => Ok(()),
            Reach::Device { own, allowed } => {
                let plain = address.to_canonical();
                let is_own = own.is_some_and(|own| own.to_canonical() == plain);
                if is_own || allowed.iter().any(|net| net.contains(&plain) || net.contains(&address)) {
                    Ok(())
                } else {
                    Err("neither the device's own address nor in an allowed network")
                }
            }
        }
    }

    /// A connection to a host, by `deadline`.
    ///
    /// # Errors
    /// What the lack of one says about the device.
    pub async fn connect(
        &self,
        host: &Host,
        port: u16,
        reach: Reach<'_>,
        deadline: Instant,
    ) -> Result<TcpStream, Outcome> {
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => match timeout_at(deadline, self.names.resolve(name)).await {
                Ok(Ok(addresses)) if addresses.is_empty() => {
                    return Err(Outcome::unknown(Doubt::Dns, format!("{name} has no address")));
                }
                Ok(Ok(addresses)) => addresses,
                Ok(Err(error)) => {
                    return Err(Outcome::unknown(Doubt::Dns, format!("{name} was not resolved: {error}")));
                }
                Err(_) => return Err(Outcome::unknown(Doubt::Dns, format!("{name} was not resolved in time"))),
            },
        };
        let mut refused = None;
        let mut good = Vec::new();
        for address in addresses {
            match self.check(address, reach) {
                Ok(()) => good.push(address),
                Err(kind) => refused = refused.or(Some((address, kind))),
            }
        }
        let mut last = match refused {
            Some((address, kind)) => {
                Outcome::unknown(Doubt::AddressRefused, format!("{address} is {kind}; it was not connected to"))
            }
            None => Outcome::unknown(Doubt::Dns, "no address"),
        };
        for address in good.into_iter().take(MAX_ADDRESSES) {
            let to = SocketAddr::new(address, port);
            match timeout_at(deadline, TcpStream::connect(to)).await {
                Ok(Ok(stream)) => {
                    // What is sent is one small piece. Where it can't be set, it takes longer and works.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = fault::of_connect(&error, to),
                Err(_) => return Err(Outcome::failed(Failure::Unanswered, format!("{to} did not answer in time"))),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reached() {
        for (rules, own, allowed, address, expected) in [
            ("", "10.0.0.1", "", "10.0.0.1", true),
            ("", "10.0.0.1", "", "10.0.0.2", false),
            ("", "10.0.0.1", "10.0.0.0/30", "10.0.0.2", true),
            ("", "10.0.0.1", "10.0.0.0/30", "10.0.0.4", false),
            ("", "", "", "10.0.0.1", false),
            ("", "", "0.0.0.0/0", "10.0.0.1", true),
            ("", "::ffff:10.0.0.1", "", "10.0.0.1", true),
            ("", "10.0.0.1", "", "::ffff:10.0.0.1", true),
            ("", "fd00::1", "", "fd00::1", true),
            ("", "fd00::1", "", "fd00::2", false),
            // Neither the device's word nor an allowed network opens what the rules refuse.
            ("", "127.0.0.1", "0.0.0.0/0", "127.0.0.1", false),
            ("", "169.254.169.254", "0.0.0.0/0", "169.254.169.254", false),
            ("", "169.254.1.1", "0.0.0.0/0", "169.254.1.1", false),
            ("", "::ffff:169.254.169.254", "::/0", "::ffff:169.254.169.254", false),
            ("", "fe80::1", "::/0", "fe80::1", false),
            ("127.0.0.0/8", "127.0.0.1", "", "127.0.0.1", true),
            ("127.0.0.0/8", "127.0.0.1", "", "127.0.0.2", false),
        ] {
            let guard = Guard::new(rules.parse().expect(rules), Names::system());
            let allowed: Vec<IpNet> = allowed.split_whitespace().map(|net| net.parse().expect(net)).collect();
            let reach = Reach::Device { own: own.parse().ok(), allowed: &allowed };
            let checked = guard.check(address.parse().expect(address), reach);
            assert_eq!(checked.is_ok(), expected, "{rules:?} {own} {allowed:?} {address}");
        }
        let guard = Guard::new(AddressRules::default(), Names::system());
        for (address, expected) in [("10.0.0.1", true), ("127.0.0.1", false), ("169.254.169.254", false)] {
            let checked = guard.check(address.parse().expect(address), Reach::Service);
            assert_eq!(checked.is_ok(), expected, "{address}");
        }
    }
}
