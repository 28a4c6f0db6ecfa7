//! What the planner's own answer needs: every object of the namespace that can be read, and what can't be had.

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::cluster::Cluster;
use super::plan::Objects;
use crate::api::ImageRollout;
use crate::plan::Plan;
use crate::plan::explain::DeviceReport;

/// The objects of a namespace, and what is missing among them.
#[derive(Debug)]
pub struct World {
    /// Those that can be read.
    pub objects: Objects,
    /// What can't be, in sentences. The answer may be wrong where they matter.
    pub missing: Vec<String>,
}

impl World {
    /// Reads everything.
    ///
    /// # Errors
    /// When rollouts can't be had; without them there is no answer at all.
    pub async fn read(cluster: &Cluster) -> anyhow::Result<Self> {
        let (policies, rollouts, devices, presence) = tokio::join!(
            cluster.list_readable(),
            cluster.list_readable(),
            cluster.list_readable(),
            cluster.list_readable(),
        );
        let mut missing = Vec::new();
        let (rollouts, unreadable) = rollouts?;
        missing.extend(unreadable);
        let objects = Objects {
            rollouts,
            policies: or_missing(policies, &mut missing),
            devices: or_missing(devices, &mut missing),
            presence: or_missing(presence, &mut missing),
        };
        Ok(Self { objects, missing })
    }

    /// What the controller would do about a rollout, and why each of its devices stands where it stands.
    pub fn plan(&self, rollout: &ImageRollout, now: Timestamp) -> (Plan, Vec<DeviceReport>) {
        let mut rollout = rollout.clone();
        // As it will be once the controller has seen it.
        if !rollout.finalizers().iter().any(|finalizer| finalizer == crate::api::ROLLOUT_FINALIZER) {
            rollout.finalizers_mut().push(crate::api::ROLLOUT_FINALIZER.into());
        }
        self.objects.plan(&rollout, &self.objects.index(), now)
    }

    /// The notes that go with an answer.
    #[must_use]
    pub fn notes(&self) -> String {
        self.missing.iter().map(|why| format!("note: {why}; this answer goes without it\n")).collect()
    }
}

fn or_missing<K>(read: anyhow::Result<(Vec<K>, Vec<String>)>, missing: &mut Vec<String>) -> Vec<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
{
    match read {
        Ok((objects, unreadable)) => {
            missing.extend(unreadable);
            objects
        }
        Err(error) => {
            missing.push(error.to_string());
            Vec::new()
        }
    }
}
