//! Reads the body of a report. Pure.
//!
//! Takes the few fields that matter from whichever generation of agent sent it, bounds every text, and ignores the
//! rest. A part that makes no sense is left out; only a body that can't be a report at all is refused.

use std::net::IpAddr;

use serde_json::Value;

use crate::api::condition::truncate;
use crate::api::device::ReportedService;
use crate::plan::services::{service_id, service_image, service_name};

/// More containers than this are not kept; the CRD allows no more.
const MAX_SERVICES: usize = 256;
const MAX_APP: usize = 64;
const MAX_NAME: usize = 253;
const MAX_IMAGE: usize = 512;
const MAX_STATUS: usize = 32;
/// As the container engine abbreviates them: enough to tell one container of a device from another.
const MAX_CONTAINER: usize = 12;
const MAX_HEALTH: usize = 16;
const MAX_AGENT_VERSION: usize = 64;

/// What a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its containers; absent where the report doesn't speak of them.
    pub services: Option<Vec<ReportedService>>,
    /// The target version last polled; absent in reports of old agents, and in replayed ones.
    pub version: Option<i64>,
    /// Its address.
    pub address: Option<String>,
    /// Its agent's version.
    pub agent_version: Option<String>,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks of another device, or of several.
    NotYours,
    /// It can't be a report.
    Malformed(String),
}

/// Reads a report of the device of that name.
///
/// # Errors
/// When it can't be a report, or isn't this device's.
pub fn parse(body: &[u8], device: &str) -> Result<Report, Refusal> {
    let malformed = |why: &str| Refusal::Malformed(why.to_owned());
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::Malformed(format!("the body is not JSON, or nests too deeply: {error}")))?;
    let Value::Object(body) = body else {
        return Err(malformed("the body must be an object: the device's UUID, and its state"));
    };
    let mut states = body.iter();
    let state = match (states.next(), states.next()) {
        (None, _) => return Err(malformed("the body is empty: it must have one key, the device's UUID")),
        (Some((uuid, state)), None) if uuid.eq_ignore_ascii_case(device) => state,
        (Some(_), _) => return Err(Refusal::NotYours),
    };
    let Value::Object(state) = state else {
        return Err(malformed("the device's state must be an object"));
    };
    let text = |keys: &[&str]| keys.iter().find_map(|key| state.get(*key)?.as_str().filter(|text| !text.is_empty()));
    Ok(Report {
        services: match state.get("apps") {
            None | Some(Value::Null) => None,
            Some(apps) => Some(services(apps).ok_or_else(|| malformed("apps must be an object or a list"))?),
        },
        version: state.get("version").and_then(Value::as_i64).filter(|version| *version >= 0),
        // Anything but an address would end up in the URLs of health checks.
        address: text(&["local_ip", "ip_address"])
            .and_then(|text| text.parse::<IpAddr>().ok())
            .map(|address| address.to_string()),
        agent_version: text(&["agent_version", "supervisor_version"])
            .map(|text| truncate(text.to_owned(), MAX_AGENT_VERSION)),
    })
}

/// The containers in `apps`, by application id or as a list of applications.
fn services(apps: &Value) -> Option<Vec<ReportedService>> {
    let mut found = Vec::new();
    match apps {
        Value::Object(apps) => {
            for (id, app) in apps {
                collect(id, app, &mut found);
            }
        }
        Value::Array(apps) => {
            for app in apps {
                let id = match app.get("appId") {
                    Some(Value::String(id)) => id.clone(),
                    Some(Value::Number(id)) => id.to_string(),
                    Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => continue,
                };
                collect(&id, app, &mut found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    }
    Some(found)
}

fn collect(app: &str, body: &Value, found: &mut Vec<ReportedService>) {
    let services = body.get("services").and_then(Value::as_array).into_iter().flatten();
    for service in services.filter(|service| service.is_object()) {
        if found.len() == MAX_SERVICES {
            return;
        }
        let bounded = |text: &str, max| truncate(text.to_owned(), max);
        found.push(ReportedService {
            app: bounded(app, MAX_APP),
            id: service_id(service),
            name: bounded(service_name(service), MAX_NAME),
            image: bounded(service_image(service).unwrap_or_default(), MAX_IMAGE),
            status: bounded(&container_state(service), MAX_STATUS),
            container: text_of(service, "containerId").unwrap_or_default().chars().take(MAX_CONTAINER).collect(),
            restarts: restarts(service),
            health: bounded(&health(service), MAX_HEALTH),
        });
    }
}

fn text_of<'a>(service: &'a Value, key: &str) -> Option<&'a str> {
    service.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// How often the engine has started this very container again. Today's agents don't say.
fn restarts(service: &Value) -> i32 {
    let count = service.get("restartCount").and_then(Value::as_i64).unwrap_or_default();
    i32::try_from(count.max(0)).unwrap_or(i32::MAX)
}

/// What the image's own health check says, as a word or as the engine's `{"Status": …}`. Today's agents don't say; an image
/// without a check is none.
fn health(service: &Value) -> String {
    let word = match service.get("health") {
        Some(Value::String(word)) => Some(word.as_str()),
        Some(Value::Object(body)) => body.get("Status").or_else(|| body.get("status")).and_then(Value::as_str),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => None,
    };
    word.filter(|word| *word != "none").unwrap_or_default().to_lowercase()
}

/// The engine's own word for the container's state; where an agent sends only the coarse one, what that means.
fn container_state(service: &Value) -> String {
    match (text_of(service, "status"), text_of(service, "state")) {
        (Some(status), _) => status.to_lowercase(),
        (None, Some("stopped")) => "exited".to_owned(),
        (None, Some(state)) => state.to_lowercase(),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEVICE: &str = "7f0c0000-0000-4000-8000-000000000001";

    fn read(state: &Value) -> Report {
        parse(json!({DEVICE: state}).to_string().as_bytes(), DEVICE).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn container(app: &str, id: Option<i64>, name: &str, image: &str, status: &str) -> ReportedService {
        let (app, name, image, status) = (app.into(), name.into(), image.into(), status.into());
        ReportedService { app, id, name, image, status, ..ReportedService::default() }
    }

    #[test]
    fn a_report_of_todays_agent() {
        let report = read(&json!({
            "apps": {"1001": {"appId": 1001, "appName": "web", "services": [{
                "serviceId": 1, "serviceName": "web", "imageName": "acme/web:v2", "containerId": "ab", "status": "running",
                "state": "running", "config": {"image": "acme/web:v2", "ports": ["18080:80"]},
            }]}},
            "is_online": true, "version": 2, "agent_version": "1.0.547", "local_ip": "10.0.0.7", "cpu_usage": 12.5,
        }));
        assert_eq!(
            report,
            Report {
                services: Some(vec![ReportedService {
                    container: "ab".into(),
                    ..container("1001", Some(1), "web", "acme/web:v2", "running")
                }]),
                version: Some(2),
                address: Some("10.0.0.7".into()),
                agent_version: Some("1.0.547".into()),
            }
        );
    }

    #[test]
    fn other_generations() {
        let report = read(&json!({
            "apps": [
                {"appId": 7, "services": [{"serviceName": "a", "config": {"image": "redis"}, "state": "stopped"}]},
                {"appId": "8", "services": [{"serviceId": "3", "image": "nginx", "status": "Restarting"}]},
                {"services": [{"serviceName": "nobody's"}]},
            ],
            "supervisor_version": "0.9", "ip_address": "fe80::1",
        }));
        assert_eq!(
            report.services,
            Some(vec![
                container("7", None, "a", "redis", "exited"),
                container("8", Some(3), "", "nginx", "restarting"),
            ])
        );
        assert_eq!(report.version, None);
        assert_eq!(report.agent_version.as_deref(), Some("0.9"));
        assert_eq!(report.address.as_deref(), Some("fe80::1"));
    }

    #[test]
    fn what_the_engine_says_of_a_container() {
        for (service, expected) in [
            (json!({"containerId": "0123456789abcdef"}), ("0123456789ab", 0, "")),
            (json!({"containerId": 5, "restartCount": 3, "health": "Unhealthy"}), ("", 3, "unhealthy")),
            (json!({"restartCount": -1, "health": {"Status": "starting"}}), ("", 0, "starting")),
            (json!({"restartCount": "many", "health": {"Status": "none"}}), ("", 0, "")),
            (json!({"restartCount": 1i64 << 40, "health": "none"}), ("", i32::MAX, "")),
        ] {
            let services = read(&json!({"apps": {"1": {"services": [service]}}})).services.unwrap();
            let found = &services[0];
            assert_eq!((found.container.as_str(), found.restarts, found.health.as_str()), expected, "{service}");
        }
    }

    #[test]
    fn absent_is_not_empty() {
        assert_eq!(read(&json!({})).services, None);
        assert_eq!(read(&json!({"apps": null})).services, None);
        assert_eq!(read(&json!({"apps": {}})).services, Some(vec![]));
        assert_eq!(read(&json!({"apps": []})).services, Some(vec![]));
    }

    #[test]
    fn senseless_parts_are_left_out() {
        let report = read(&json!({
            "apps": {"1": {"services": ["x", {}, {"serviceName": "a", "imageName": 5, "status": null}]}, "2": 3, "3": {"services": {}}},
            "version": "two", "local_ip": "http://evil/", "agent_version": 7,
        }));
        assert_eq!(
            report.services,
            Some(vec![container("1", None, "", "", "unknown"), container("1", None, "a", "", "unknown")])
        );
        assert_eq!((report.version, report.address, report.agent_version), (None, None, None));
        assert_eq!(read(&json!({"version": -1})).version, None);
        assert_eq!(read(&json!({"version": 1.5})).version, None);
    }

    #[test]
    fn texts_and_lists_are_bounded() {
        let long = "x".repeat(5000);
        let services: Vec<_> = (0..400)
            .map(|id| json!({"serviceId": id, "serviceName": long, "imageName": long, "status": long}))
            .collect();
        let report = read(&json!({"apps": {&long: {"services": services}}, "agent_version": long}));
        let services = report.services.unwrap();
        assert_eq!(services.len(), 256);
        let one = &services[0];
        assert_eq!((one.app.len(), one.name.len(), one.image.len(), one.status.len()), (64, 253, 512, 32));
        assert_eq!(report.agent_version.unwrap().len(), 64);
    }

    #[test]
    fn refused() {
        let not_yours = [
            json!({"7f0c0000-0000-4000-8000-000000000002": {"apps": {}}}),
            json!({DEVICE: {"apps": {}}, "7f0c0000-0000-4000-8000-000000000002": {"apps": {}}}),
            json!({DEVICE: {"apps": {}}, "uuid": DEVICE}),
            json!({"": {}}),
        ];
        for body in not_yours {
            assert_eq!(parse(body.to_string().as_bytes(), DEVICE), Err(Refusal::NotYours), "{body}");
        }
        let deep = format!("{{\"{DEVICE}\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let malformed: [&[u8]; 10] = [
            b"",
            b"{",
            b"null",
            b"[]",
            b"{}",
            b"\xff\xfe",
            b"5",
            deep.as_bytes(),
            br#"{"7f0c0000-0000-4000-8000-000000000001": 5}"#,
            br#"{"7f0c0000-0000-4000-8000-000000000001": {"apps": "x"}}"#,
        ];
        for body in malformed {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert!(matches!(parse(body, DEVICE), Err(Refusal::Malformed(_))), "{shown}");
        }
        let upper = json!({DEVICE.to_uppercase(): {"apps": {}}});
        assert!(parse(upper.to_string().as_bytes(), DEVICE).is_ok(), "UUIDs have no case");
    }
}
