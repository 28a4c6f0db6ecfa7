//! The `container` check: what a device reports of its containers, beyond that they run from the image.

use crate::api::check::ContainerCheck;
use crate::api::device::ReportedService;

use super::observed::{DeviceView, Evidence};

/// What the last report says by these checks, of a device whose services of the repository are all from the image.
pub(super) fn evidence(view: &DeviceView, repository: &str, checks: &[ContainerCheck]) -> Evidence {
    let mut found = Evidence::Running;
    for ContainerCheck { service, max_restarts } in checks {
        let container = |reported: Option<&ReportedService>| match reported {
            None => Evidence::Missing,
            Some(reported) => of(reported, *max_restarts),
        };
        found = match service {
            Some(name) => {
                let named = view.reported.iter().flatten().find(|reported| reported.name == *name);
                worse(found, container(named))
            }
            None => view
                .services_of(repository)
                .fold(found, |found, service| worse(found, container(view.reported_service(service)))),
        };
    }
    found
}

fn of(reported: &ReportedService, max_restarts: i32) -> Evidence {
    if reported.restarts > max_restarts {
        // Before its state: it runs, or doesn't, as it happens.
        return Evidence::Restarts { running: reported.is_running() };
    }
    if !reported.is_running() {
        return Evidence::NotRunning;
    }
    match reported.health.as_str() {
        "unhealthy" => Evidence::Unhealthy,
        "starting" => Evidence::Starting,
        // Healthy, or the agent doesn't say.
        _ => Evidence::Running,
    }
}

/// The one of two that says more against the device.
pub(super) fn worse(a: Evidence, b: Evidence) -> Evidence {
    // One service that doesn't run is a device that doesn't run the image.
    if let (Evidence::Restarts { .. }, other) | (other, Evidence::Restarts { .. }) = (a, b)
        && !other.runs()
    {
        return Evidence::Restarts { running: false };
    }
    let weight = |evidence: Evidence| match evidence {
        Evidence::Running => 0,
        Evidence::Starting => 1,
        Evidence::Unhealthy => 2,
        Evidence::NotRunning => 3,
        Evidence::OtherImage => 4,
        Evidence::Missing => 5,
        Evidence::NoReport => 6,
        Evidence::Restarts { running: true } => 7,
        Evidence::Restarts { running: false } => 8,
    };
    if weight(b) > weight(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::super::observed::ServiceView;
    use super::*;

    fn check(service: Option<&str>, max_restarts: i32) -> ContainerCheck {
        ContainerCheck { service: service.map(Into::into), max_restarts }
    }

    fn device(reported: &[(&str, &str, i32, &str)]) -> DeviceView {
        let service = |name: &str| ServiceView {
            app: String::new(),
            id: None,
            name: name.into(),
            image: "acme/web:v2".parse().expect("an image"),
        };
        let reported = reported.iter().map(|(name, status, restarts, health)| ReportedService {
            name: (*name).into(),
            status: (*status).into(),
            health: (*health).into(),
            restarts: *restarts,
            ..ReportedService::default()
        });
        DeviceView {
            services: vec![service("web"), service("api")],
            reported: Some(reported.collect()),
            ..DeviceView::default()
        }
    }

    #[test]
    fn judged() {
        let web = |status, restarts, health| [("web", status, restarts, health), ("api", "running", 0, "")];
        for (checks, reported, expected) in [
            (vec![], web("running", 9, "unhealthy"), Evidence::Running),
            (vec![check(None, 2)], web("running", 2, ""), Evidence::Running),
            (vec![check(None, 2)], web("running", 3, ""), Evidence::Restarts { running: true }),
            (vec![check(None, 2)], web("restarting", 3, ""), Evidence::Restarts { running: false }),
            (vec![check(Some("api"), 2)], web("running", 3, "unhealthy"), Evidence::Running),
            (vec![check(Some("web"), 0)], web("running", 1, "healthy"), Evidence::Restarts { running: true }),
            (vec![check(Some("db"), 0)], web("running", 0, ""), Evidence::Missing),
            (vec![check(None, 0)], web("running", 0, "healthy"), Evidence::Running),
            (vec![check(None, 0)], web("running", 0, "starting"), Evidence::Starting),
            (vec![check(None, 0)], web("running", 0, "unhealthy"), Evidence::Unhealthy),
            (vec![check(Some("api"), 0), check(None, 5)], web("running", 0, "unhealthy"), Evidence::Unhealthy),
            (vec![check(Some("web"), 0)], web("exited", 0, "starting"), Evidence::NotRunning),
        ] {
            let found = evidence(&device(&reported), "docker.io/acme/web", &checks);
            assert_eq!(found, expected, "{checks:?} {reported:?}");
        }
    }
}
