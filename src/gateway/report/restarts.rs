//! How often a service's container was started again since the service runs its image. Pure.
//!
//! Real agents don't count restarts: they make a dead container anew, and the report names another id from the same image.
//! An agent that does count is believed where it counts more.

use super::super::shared::Reported;
use crate::api::device::ReportedService;

/// Counts restarts into what is reported now, from what is known.
pub fn count(known: &Reported, services: &mut [ReportedService]) {
    let Some(before) = &known.services else { return };
    // It was written by us, from services.
    let Ok(before) = serde_json::from_str::<Vec<ReportedService>>(before) else { return };
    let ids = known.containers.as_deref().unwrap_or_default();
    let ids: Vec<&str> = ids.split(' ').collect();
    for now in services {
        let same = |old: &ReportedService| {
            (&old.app, old.id, &old.name, &old.image) == (&now.app, now.id, &now.name, &now.image)
        };
        let Some(at) = before.iter().position(same) else { continue };
        let id = ids.get(at).copied().unwrap_or_default();
        let anew = !id.is_empty() && !now.container.is_empty() && id != now.container;
        now.restarts = now.restarts.max(before[at].restarts.saturating_add(i32::from(anew)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shared::{containers_text, services_text};
    use super::*;

    fn service(name: &str, image: &str, container: &str, restarts: i32) -> ReportedService {
        let (name, image, container) = (name.into(), image.into(), container.into());
        ReportedService { name, image, container, restarts, ..ReportedService::default() }
    }

    fn known(services: &[ReportedService]) -> Reported {
        Reported {
            services: Some(services_text(services.to_vec()).into()),
            containers: containers_text(services.to_vec()),
            ..Reported::default()
        }
    }

    #[test]
    fn counted() {
        for (before, now, expected) in [
            (service("a", "v2", "1", 0), service("a", "v2", "1", 0), 0),
            (service("a", "v2", "1", 0), service("a", "v2", "2", 0), 1),
            (service("a", "v2", "1", 4), service("a", "v2", "2", 0), 5),
            (service("a", "v2", "1", 4), service("a", "v2", "1", 0), 4),
            (service("a", "v1", "1", 4), service("a", "v2", "2", 0), 0),
            (service("b", "v2", "1", 4), service("a", "v2", "2", 0), 0),
            // An agent that counts by itself.
            (service("a", "v2", "1", 1), service("a", "v2", "1", 3), 3),
            // One that tells no ids.
            (service("a", "v2", "", 1), service("a", "v2", "2", 0), 1),
            (service("a", "v2", "1", 1), service("a", "v2", "", 0), 1),
        ] {
            let mut services = [now.clone()];
            count(&known(&[service("0", "other", "9", 7), before.clone()]), &mut services);
            assert_eq!(services[0].restarts, expected, "{before:?} {now:?}");
        }
        let mut first = [service("a", "v2", "1", 0)];
        count(&Reported::default(), &mut first);
        assert_eq!(first[0].restarts, 0);
    }
}
