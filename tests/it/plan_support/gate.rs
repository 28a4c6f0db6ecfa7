//! What the gateway would tell a device: the table of design §4 once more, in as few lines as it takes.
//!
//! Written apart from the gateway on purpose: a planner that only works with the gateway's own reading of the table
//! would not be found out.

use std::collections::BTreeMap;

use tranche::api::device::Verdict;
use tranche::api::rollout::{DesiredState, ImageRollout, Phase};
use tranche::api::{Device, ImageRef};

use super::world::World;

/// What a device runs or is told, service by service: `(application, service)` to image.
pub type Images = BTreeMap<(String, String), String>;

/// How far a rollout lets devices go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Active,
    Paused,
    Halted,
    RolledBack,
}

/// The row of a rollout by its own spec and status; a rollout that is gone lets everybody go on.
pub fn row(rollout: Option<&ImageRollout>) -> Row {
    let Some(rollout) = rollout else { return Row::Active };
    let by_spec = match rollout.spec.desired_state {
        DesiredState::RolledBack => Row::RolledBack,
        DesiredState::Cancelled => Row::Paused,
        DesiredState::Active if rollout.spec.paused => Row::Paused,
        DesiredState::Active => Row::Active,
    };
    let Some(status) = &rollout.status else { return by_spec };
    let by_phase = match status.phase {
        Phase::RollingBack | Phase::RolledBack => Row::RolledBack,
        Phase::Halted => Row::Halted,
        Phase::Paused | Phase::Cancelled | Phase::Superseded => Row::Paused,
        _ => Row::Active,
    };
    let by_halt = if status.halted.is_some() { Row::Halted } else { Row::Active };
    by_spec.max(by_phase).max(by_halt)
}

/// What the device is told when it asks, holding `held`.
pub fn told(world: &World, device: &Device, held: &Images) -> Images {
    let mut told = declared(device);
    for entry in &device.spec.images {
        if declared_text(device, &entry.repository) != entry.declared {
            continue;
        }
        let with = |image: Option<&String>| {
            let mut images = declared(device);
            let Some(image) = image else { return images };
            for (_, declared) in images.iter_mut().filter(|(_, declared)| repository(declared) == entry.repository) {
                *declared = canonical(image);
            }
            images.retain(|_, image| repository(image) == entry.repository);
            images
        };
        let image = with(entry.image.as_ref());
        let previous = with(entry.previous.as_ref());
        let runs = image.iter().filter(|(_, i)| repository(i) == entry.repository).all(|(key, image)| {
            world.reported(device, key).is_some_and(|(running, status)| running == *image && status == "running")
        });
        let holds = image.iter().all(|(key, image)| held.get(key) == Some(image));
        // Told so already: what it is seen running is older than that.
        let is_back = previous.iter().all(|(key, image)| held.get(key) == Some(image));
        let verdict = device
            .status
            .iter()
            .flat_map(|status| &status.updates)
            .find(|update| update.repository == entry.repository && update.rollout == entry.rollout);
        let failed = verdict.is_some_and(|update| update.verdict == Verdict::Failed);
        let rollout = world.rollouts.get(&entry.rollout);
        let sends_failed_back = rollout
            .and_then(|rollout| rollout.status.as_ref()?.plan.as_ref())
            .is_some_and(|plan| plan.failure_policy.roll_back_failed_devices);
        let asked_back = rollout.is_some_and(|rollout| rollout.spec.roll_back_devices.contains(&name(device)));
        let row = row(rollout);
        let given = if entry.image == entry.previous {
            true
        } else if asked_back || (failed && sends_failed_back) {
            false
        } else {
            match if device.spec.hold { row.max(Row::Paused) } else { row } {
                Row::Active => true,
                Row::Paused => (runs && !is_back) || holds,
                Row::Halted => runs && !failed && !is_back,
                Row::RolledBack => false,
            }
        };
        told.extend(
            if given { image } else { previous }.into_iter().filter(|(_, i)| repository(i) == entry.repository),
        );
    }
    told
}

/// Name of a device.
pub fn name(device: &Device) -> String {
    device.metadata.name.clone().unwrap_or_default()
}

/// What `apps` declares, canonical.
pub fn declared(device: &Device) -> Images {
    let mut images = Images::new();
    for (app, body) in &device.spec.apps {
        for service in body["services"].as_array().into_iter().flatten() {
            let image = [&service["imageName"], &service["config"]["image"], &service["image"]]
                .into_iter()
                .find_map(|image| image.as_str().filter(|text| text.parse::<ImageRef>().is_ok()));
            if let Some(image) = image {
                let service = service["serviceName"].as_str().unwrap_or_default().to_owned();
                images.insert((app.clone(), service), canonical(image));
            }
        }
    }
    images
}

/// What `apps` declares for a repository, as entries remember it.
pub fn declared_text(device: &Device, repository_: &str) -> String {
    let mut texts: Vec<String> = Vec::new();
    for (app, body) in &device.spec.apps {
        for service in body["services"].as_array().into_iter().flatten() {
            let key = (app.clone(), service["serviceName"].as_str().unwrap_or_default().to_owned());
            if let Some(image) = declared(device).get(&key)
                && repository(image) == repository_
                && !texts.contains(image)
            {
                texts.push(image.clone());
            }
        }
    }
    texts.join(",")
}

/// Canonical form.
pub fn canonical(image: &str) -> String {
    image.parse::<ImageRef>().map_or_else(|_| image.to_owned(), |image| image.to_string())
}

/// Repository of a reference.
pub fn repository(image: &str) -> String {
    image.parse::<ImageRef>().map(|image| image.repository).unwrap_or_default()
}
