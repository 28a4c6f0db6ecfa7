//! From a policy's checks to checks that can work. Pure: what is wrong with one is known before any rollout starts on it.

use ipnet::IpNet;

use super::http::{HttpCheck, HttpSpec};
use super::invalid::InvalidCheck;
use super::schedule::{Schedule, ScheduleError};
use super::tcp::TcpCheck;
use super::{Check, Kind};
use crate::api::policy::{ContainerCheck, HealthCheck};

impl Check {
    /// A policy's check, if it is one of this module. `container` isn't: it is judged by what the device reports.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device.
    pub fn of(check: &HealthCheck, allowed: &[IpNet]) -> Result<Option<Self>, InvalidCheck> {
        let HealthCheck { name, http, tcp, container, timeout, retries } = check;
        let kind = match (http, tcp, container) {
            (Some(http), None, None) => {
                let crate::api::policy::HttpCheck { url, expected_status, body_contains } = http;
                let spec = HttpSpec {
                    url: url.clone(),
                    expected_status: vec![expected_status.to_string()],
                    body_contains: body_contains.clone(),
                    ..HttpSpec::default()
                };
                Kind::Http(Box::new(HttpCheck::parse(&spec)?))
            }
            (None, Some(tcp), None) => {
                let crate::api::policy::TcpCheck { host, port } = tcp;
                Kind::Tcp(TcpCheck::parse(host, *port)?)
            }
            (None, None, Some(ContainerCheck { service: _ })) => return Ok(None),
            _ => return Err(InvalidCheck::Kinds),
        };
        if timeout.is_negative() {
            return Err(InvalidCheck::Schedule(ScheduleError::Timeout));
        }
        let retries = u32::try_from(*retries).map_err(|_| InvalidCheck::Schedule(ScheduleError::Retries))?;
        let usual = Schedule::default();
        let schedule = Schedule::new(usual.initial_delay(), usual.interval(), (*timeout).into(), retries, 1);
        let schedule = schedule.map_err(InvalidCheck::Schedule)?;
        Ok(Some(Self { name: name.as_str().into(), kind, schedule, allowed: allowed.to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_policies() {
        for (spec, expected) in [
            (json!({"http": {"url": "http://{device_ip}:80/health", "bodyContains": "ok"}}), "http"),
            (json!({"tcp": {"port": 22}, "timeout": "5s", "retries": 0}), "tcp"),
            (json!({"container": {}}), "none"),
            (json!({}), "exactly one of"),
            (json!({"tcp": {"port": 22}, "container": {}}), "exactly one of"),
            (json!({"http": {"url": "http://{device_id}/"}}), "the url is wrong: {device_id} is no placeholder"),
            (json!({"http": {"url": "http://{device_ip}/", "expectedStatus": 20}}), "expectedStatus is wrong"),
            (json!({"tcp": {"port": 22}, "timeout": "-5s"}), "its schedule is wrong: the timeout"),
            (json!({"tcp": {"port": 22}, "timeout": "1h"}), "its schedule is wrong: the timeout"),
            (json!({"tcp": {"port": 22}, "retries": -1}), "its schedule is wrong: retries"),
        ] {
            let mut spec = spec;
            spec["name"] = json!("web");
            let check: HealthCheck = serde_json::from_value(spec.clone()).expect("a check");
            let said = match Check::of(&check, &[]) {
                Ok(Some(Check { kind: Kind::Http(_), .. })) => "http".to_owned(),
                Ok(Some(Check { kind: Kind::Tcp(_), .. })) => "tcp".to_owned(),
                Ok(Some(Check { kind: Kind::Webhook(_), .. })) => "webhook".to_owned(),
                Ok(None) => "none".to_owned(),
                Err(error) => error.sentence(),
            };
            assert!(said.contains(expected), "{spec}: {said}");
        }
    }
}
