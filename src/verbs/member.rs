//! Whether a device is one of a rollout's, so that nobody sends back one that was never sent forward.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::api::{Device, ImageRef, ImageRollout};
use crate::plan::services::declared_services;
use crate::plan::validated::Rules;

/// A device, as far as it matters to which rollouts it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    labels: BTreeMap<String, String>,
    /// The rollouts that have told it an image.
    told_by: Vec<String>,
    /// Of its services.
    repositories: Vec<String>,
}

impl From<&Device> for Candidate {
    fn from(device: &Device) -> Self {
        let services = declared_services(&device.spec.apps);
        Self {
            name: device.name_any(),
            labels: device.labels().clone(),
            told_by: device.spec.images.iter().map(|entry| entry.rollout.clone()).collect(),
            repositories: services.into_iter().map(|service| service.image.repository).collect(),
        }
    }
}

impl Candidate {
    /// Why it is not one of a rollout's; `None` if it is, or may be as far as can be told before the rollout starts.
    pub(super) fn is_not_of(&self, rollout: &ImageRollout) -> Option<String> {
        let (device, name, image) = (&self.name, rollout.name_any(), &rollout.spec.image);
        if self.told_by.contains(&name) {
            return None;
        }
        let parsed = ImageRef::new(&image.repository, image.tag.as_deref(), image.digest.as_deref());
        let repository = parsed.map_or_else(|_| image.repository.clone(), |image| image.repository);
        if !self.repositories.contains(&repository) {
            return Some(format!("device {device} is not one of rollout {name}: it has no service of {repository}"));
        }
        let status = rollout.status.as_ref()?;
        let rules = Rules::new(status.plan.as_ref()?, &status.batches).ok()?;
        let claimed = rules.claims(device, &self.labels);
        (!claimed).then(|| format!("device {device} is not one of rollout {name}: its policy selects other devices"))
    }
}
