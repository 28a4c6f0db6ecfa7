//! What the planner's own answer needs: every object of the namespace that can be read, and what can't be had.

use jiff::Timestamp;
use kube::ResourceExt as _;

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
    /// Those that are there and can't be, in sentences. The answer may be wrong where they matter.
    pub unreadable: Vec<String>,
    /// Why others could not be had, in sentences: a right that is missing, most often.
    pub refused: Vec<String>,
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
        let (rollouts, unreadable) = rollouts?;
        let mut world = Self { objects: Objects::default(), unreadable, refused: Vec::new() };
        world.objects.rollouts = rollouts;
        world.objects.policies = world.those_of(policies);
        world.objects.devices = world.those_of(devices);
        world.objects.presence = world.those_of(presence);
        Ok(world)
    }

    /// What was read of a kind; the rest is noted.
    pub(crate) fn those_of<K>(&mut self, read: anyhow::Result<(Vec<K>, Vec<String>)>) -> Vec<K> {
        match read {
            Ok((objects, unreadable)) => {
                self.unreadable.extend(unreadable);
                objects
            }
            Err(error) => {
                self.refused.push(error.to_string());
                Vec::new()
            }
        }
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
        let without = self.unreadable.iter().chain(&self.refused);
        without.map(|why| format!("note: {why}; this answer goes without it\n")).collect()
    }
}
