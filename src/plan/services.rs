//! Walks the services that a device's `apps` declare, and finds each among the containers it reports.
//!
//! The planner and the gateway both go through here, so that what one writes down as `declared` is what the other
//! compares with. Decides only how `apps` is read; never what a device should run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::ImageRef;
use crate::api::device::ReportedService;

/// One service of `apps` whose image parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<'a> {
    /// Id of the application: its key in `apps`.
    pub app: &'a str,
    /// Id of the service within the application.
    pub id: Option<i64>,
    /// Name of the service; empty where none is given.
    pub name: &'a str,
    /// The image as written.
    pub written: &'a str,
    /// The image, parsed.
    pub image: ImageRef,
}

/// Every service whose image parses, in the order of application ids and then of the list. Others can't belong to
/// any repository and are left to the agent, which will refuse them by itself.
#[must_use]
pub fn declared_services(apps: &BTreeMap<String, Value>) -> Vec<Declared<'_>> {
    let mut services = Vec::new();
    for (app, body) in apps {
        for service in body.get("services").and_then(Value::as_array).into_iter().flatten() {
            let Some(written) = service_image(service) else { continue };
            let Ok(image) = written.parse::<ImageRef>() else { continue };
            services.push(Declared { app, id: service_id(service), name: service_name(service), written, image });
        }
    }
    services
}

/// What `apps` declares for a repository: the distinct references of its services in canonical form, in order of
/// first appearance, joined by commas. `None` where no service belongs to it.
#[must_use]
pub fn declared(apps: &BTreeMap<String, Value>, repository: &str) -> Option<String> {
    declared_among(&declared_services(apps), repository)
}

/// [`declared`], over services already walked.
#[must_use]
pub fn declared_among(services: &[Declared<'_>], repository: &str) -> Option<String> {
    let text = declared_text(services.iter().map(|s| &s.image).filter(|image| image.repository == repository));
    (!text.is_empty()).then_some(text)
}

/// The distinct references in canonical form, in order of first appearance, joined by commas: the form that
/// `spec.images[].declared` remembers.
#[must_use]
pub fn declared_text<'a>(images: impl Iterator<Item = &'a ImageRef>) -> String {
    let mut references: Vec<String> = Vec::new();
    for image in images {
        let reference = image.to_string();
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    references.join(",")
}

/// The image a service names: `imageName` where there is one, else `config.image`, else the flat `image` of old
/// agents.
#[must_use]
pub fn service_image(service: &Value) -> Option<&str> {
    [service.get("imageName"), service.get("config").and_then(|config| config.get("image")), service.get("image")]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|image| !image.is_empty())
}

/// A service's id: a whole number, or text that is one.
#[must_use]
pub fn service_id(service: &Value) -> Option<i64> {
    match service.get("serviceId")? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A service's name; empty where none is given.
#[must_use]
pub fn service_name(service: &Value) -> &str {
    service.get("serviceName").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a reported container belongs to that service. Ids decide where both sides have one, since agents match by
/// id and a service may be renamed; else names do.
#[must_use]
pub fn is_of(reported: &ReportedService, app: &str, id: Option<i64>, name: &str) -> bool {
    reported.app == app
        && match (reported.id, id) {
            (Some(reported), Some(declared)) => reported == declared,
            (Some(_) | None, Some(_) | None) => !name.is_empty() && reported.name == name,
        }
}

/// Whether the device was seen running `image` in every service that declares its repository. False where no service
/// does, where one is missing from the report, and where one runs anything else.
#[must_use]
pub fn runs(services: &[Declared<'_>], reported: &[ReportedService], image: &ImageRef) -> bool {
    let mut any = false;
    for service in services.iter().filter(|service| service.image.repository == image.repository) {
        any = true;
        let running = reported.iter().any(|container| {
            is_of(container, service.app, service.id, service.name)
                && container.is_running()
                && container.image.parse::<ImageRef>().is_ok_and(|running| running.same_image(image))
        });
        if !running {
            return false;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apps(value: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn reads_every_way_of_naming_an_image() {
        let apps = apps(json!({
            "2": {"services": [
                {"serviceId": 5, "serviceName": "a", "imageName": "acme/web:v1", "config": {"image": "acme/web:v0"}},
                {"serviceId": "6", "serviceName": "b", "imageName": "", "config": {"image": "acme/web:v2"}},
            ]},
            "1": {"services": [
                {"serviceName": "c", "image": "redis"},
                {"serviceName": "d", "imageName": "Not An Image"},
                {"serviceName": "e"},
                "garbage",
            ]},
            "3": "garbage",
        }));
        let found: Vec<_> = declared_services(&apps)
            .into_iter()
            .map(|s| (s.app, s.id, s.name, s.written, s.image.to_string()))
            .collect();
        assert_eq!(
            found,
            [
                ("1", None, "c", "redis", "docker.io/library/redis".to_owned()),
                ("2", Some(5), "a", "acme/web:v1", "docker.io/acme/web:v1".to_owned()),
                ("2", Some(6), "b", "acme/web:v2", "docker.io/acme/web:v2".to_owned()),
            ]
        );
    }

    #[test]
    fn declared_is_distinct_and_in_order() {
        let apps = apps(json!({
            "1": {"services": [{"imageName": "acme/web:v2"}, {"imageName": "docker.io/acme/web:v1"}]},
            "2": {"services": [{"imageName": "acme/web:v2"}, {"imageName": "acme/other:v9"}]},
        }));
        assert_eq!(
            declared(&apps, "docker.io/acme/web").as_deref(),
            Some("docker.io/acme/web:v2,docker.io/acme/web:v1")
        );
        assert_eq!(declared(&apps, "docker.io/acme/none"), None);
    }

    #[test]
    fn ids_decide_before_names() {
        let reported =
            ReportedService { app: "1".into(), id: Some(4), name: "web".into(), ..ReportedService::default() };
        assert!(is_of(&reported, "1", Some(4), "renamed"));
        assert!(!is_of(&reported, "1", Some(5), "web"));
        assert!(is_of(&reported, "1", None, "web"));
        assert!(!is_of(&reported, "2", Some(4), "web"));
        let nameless = ReportedService { app: "1".into(), ..ReportedService::default() };
        assert!(!is_of(&nameless, "1", None, ""));
    }

    #[test]
    fn runs_only_when_every_service_does() {
        let apps = apps(json!({"1": {"services": [
            {"serviceId": 1, "serviceName": "a", "imageName": "acme/web:v1"},
            {"serviceId": 2, "serviceName": "b", "imageName": "acme/web:v1"},
            {"serviceId": 3, "serviceName": "db", "imageName": "redis:7"},
        ]}}));
        let services = declared_services(&apps);
        let one = |id, image: &str, status: &str| ReportedService {
            app: "1".into(),
            id: Some(id),
            image: image.into(),
            status: status.into(),
            ..ReportedService::default()
        };
        let v2: ImageRef = "acme/web:v2".parse().unwrap();
        let both = [one(1, "acme/web:v2", "running"), one(2, "docker.io/acme/web:v2", "Running")];
        assert!(runs(&services, &both, &v2));
        assert!(!runs(&services, &both[..1], &v2), "one is missing");
        assert!(!runs(&services, &[both[0].clone(), one(2, "acme/web:v2", "exited")], &v2));
        assert!(!runs(&services, &[both[0].clone(), one(2, "acme/web:v1", "running")], &v2));
        assert!(!runs(&services, &[both[0].clone(), one(2, "sha256:00", "running")], &v2));
        assert!(!runs(&services, &both, &"acme/none:v2".parse().unwrap()), "nothing declares it");
    }
}
