//! The `tcp` check: a connection to a device. It is closed at once; nothing is sent or read.

use ipnet::IpNet;
use tokio::time::Instant;

use super::guard::{Guard, Reach};
use super::http::no_target;
use super::invalid::InvalidCheck;
use super::template::{Host, HostTemplate, RenderError, Values};
use super::verdict::Outcome;

/// A `tcp` check that can work.
#[derive(Clone, Debug)]
pub struct TcpCheck {
    host: HostTemplate,
    port: u16,
}

impl TcpCheck {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device.
    pub fn parse(host: &str, port: i32) -> Result<Self, InvalidCheck> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or(InvalidCheck::Port)?;
        Ok(Self { host: HostTemplate::parse(host).map_err(InvalidCheck::Host)?, port })
    }

    pub(super) fn host(&self, values: &Values) -> Result<Host, RenderError> {
        self.host.render(values)
    }

    /// Looks at one device.
    pub async fn look(&self, guard: &Guard, values: &Values, allowed: &[IpNet], deadline: Instant) -> Outcome {
        let host = match self.host.render(values) {
            Ok(host) => host,
            Err(error) => return no_target(&error),
        };
        let reach = Reach::Device { own: values.device_ip, allowed };
        match guard.connect(&host, self.port, reach, deadline).await {
            Ok(_) => Outcome::Passed,
            Err(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed() {
        for (host, port, good) in [
            ("{device_ip}", 22, true),
            ("{device_ip}", 65_535, true),
            ("{device_ip}", 0, false),
            ("{device_ip}", 65_536, false),
            ("{device_ip}", -1, false),
            ("{device_ip", 22, false),
            ("{tag}", 22, false),
            ("a b", 22, false),
        ] {
            assert_eq!(TcpCheck::parse(host, port).is_ok(), good, "{host} {port}");
        }
    }
}
