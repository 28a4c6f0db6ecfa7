//! Objects in memory, with the few rules of the API server that the planner leans on: revisions as preconditions,
//! generations, field managers of list-map entries, finalizers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::json;
use tranche::api::device::{DeviceSpec, ImageEntry};
use tranche::api::presence::DevicePresenceSpec;
use tranche::api::rollout::ImageRolloutSpec;
use tranche::api::{Device, DevicePresence, ImageRollout, ImageUpdatePolicy};
use tranche::controller::devices::{DeviceIndex, Known};
use tranche::plan::observed::DeviceView;
use tranche::plan::observed::Knowledge;

use super::agent::{Agent, Key};
use super::build::start;
use super::gate::{self, Images, name};
use crate::invariants::Invariants;

/// How often gateways speak, seconds.
pub const INTERVAL: u64 = 10;

/// Everything there is.
pub struct World {
    pub now: Timestamp,
    pub policies: BTreeMap<String, ImageUpdatePolicy>,
    pub rollouts: BTreeMap<String, ImageRollout>,
    pub devices: BTreeMap<String, Device>,
    pub agents: BTreeMap<String, Agent>,
    /// Whether a gateway answers; without one nobody polls and presence stands still.
    pub gateway: bool,
    /// What gateways saw; [`World::publish`] makes it known.
    pub seen: BTreeMap<String, i64>,
    published: Option<(Timestamp, BTreeMap<String, i64>)>,
    /// Since when presence is unbroken, as gateways write it down.
    since: Option<Timestamp>,
    silent: bool,
    pub watch: Invariants,
    pub log: Vec<String>,
    /// Told, runs and fails of this step, for the log.
    notes: BTreeMap<String, BTreeSet<String>>,
    revision: u64,
    views: BTreeMap<String, Arc<DeviceView>>,
    index: DeviceIndex,
}

/// A write that the API server refused: the object is another by now, or somebody else owns what is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Stale,
    Gone,
    Owned,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            now: start(),
            policies: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            devices: BTreeMap::new(),
            agents: BTreeMap::new(),
            gateway: true,
            seen: BTreeMap::new(),
            published: None,
            since: None,
            silent: false,
            watch: Invariants::default(),
            log: Vec::new(),
            notes: BTreeMap::new(),
            revision: 1,
            views: BTreeMap::new(),
            index: DeviceIndex::default(),
        }
    }

    fn next_revision(&mut self) -> Option<String> {
        self.revision += 1;
        Some(self.revision.to_string())
    }

    /// Adds a device whose agent runs what it declares.
    pub fn add_device(&mut self, device: Device) {
        let name = name(&device);
        self.agents.insert(name.clone(), Agent::running(&gate::declared(&device)));
        self.devices.insert(name.clone(), device);
        self.touch(&name);
    }

    /// What a device reported of a service: image and container state.
    pub fn reported(&self, device: &Device, (app, service): &Key) -> Option<(String, String)> {
        let services = device.status.as_ref()?.services.as_ref()?;
        let found = services.iter().find(|reported| reported.app == *app && reported.name == *service)?;
        Some((gate::canonical(&found.image), found.status.clone()))
    }

    /// A new revision of a device.
    fn touch(&mut self, name: &str) {
        let revision = self.next_revision();
        if let Some(device) = self.devices.get_mut(name) {
            device.metadata.resource_version = revision;
            self.views.insert(name.to_owned(), Arc::new(DeviceView::new(device)));
        }
    }

    /// The devices as the controller's index has them.
    pub fn views(&self) -> Vec<Known> {
        let known = |view: &Arc<DeviceView>| Known {
            view: Arc::clone(view),
            seen: self.published(&view.name).unwrap_or(i64::MIN),
        };
        self.views.values().map(known).collect()
    }

    /// Presence becomes known.
    pub fn publish(&mut self) {
        if self.gateway {
            // Time passes in leaps here, so that a gap between two words says nothing: a gateway begins anew when it
            // had been down.
            if std::mem::take(&mut self.silent) || self.since.is_none() {
                self.since = Some(self.now);
            }
            self.published = Some((self.now, self.seen.clone()));
            self.tell_index();
        } else {
            self.silent = true;
        }
    }

    /// Presence as the controller's index has it.
    pub fn presence(&self) -> Knowledge {
        self.index.knowledge("default")
    }

    /// The controller's process is another one, which has just read what is stored.
    pub fn restart_controller(&mut self) {
        self.index = DeviceIndex::default();
        self.tell_index();
    }

    fn tell_index(&self) {
        let Some((as_of, seen)) = &self.published else { return };
        let interval = std::time::Duration::from_secs(INTERVAL).into();
        let spec =
            DevicePresenceSpec { as_of: Time(*as_of), since: self.since.map(Time), interval, seen: seen.clone() };
        let mut shard = DevicePresence::new("presence-1-0", spec);
        shard.metadata.namespace = Some("default".into());
        self.index.apply_presence(&shard);
    }

    /// Up to when presence is known, Unix seconds.
    pub fn known(&self) -> i64 {
        self.published.as_ref().map_or(i64::MIN, |(at, _)| at.as_second())
    }

    /// When presence says that a device was last seen.
    pub fn published(&self, name: &str) -> Option<i64> {
        self.published.as_ref().and_then(|(_, seen)| seen.get(name).copied())
    }

    // === people ===

    /// A person edits a device's spec.
    pub fn edit_device(&mut self, name: &str, edit: impl FnOnce(&mut DeviceSpec)) {
        let device = self.devices.get_mut(name).expect("the device");
        edit(&mut device.spec);
        *device.metadata.generation.get_or_insert(1) += 1;
        self.touch(name);
    }

    /// A person edits a device's labels.
    pub fn label_device(&mut self, name: &str, key: &str, value: &str) {
        let device = self.devices.get_mut(name).expect("the device");
        device.metadata.labels.get_or_insert_default().insert(key.into(), value.into());
        self.touch(name);
    }

    /// A person edits a rollout's spec.
    pub fn edit_rollout(&mut self, name: &str, edit: impl FnOnce(&mut ImageRolloutSpec)) {
        let revision = self.next_revision();
        let rollout = self.rollouts.get_mut(name).expect("the rollout");
        edit(&mut rollout.spec);
        *rollout.metadata.generation.get_or_insert(1) += 1;
        rollout.metadata.resource_version = revision;
    }

    /// Somebody deletes a rollout; its finalizer keeps it for a while.
    pub fn delete_rollout(&mut self, name: &str) {
        let revision = self.next_revision();
        let now = self.now;
        let Some(rollout) = self.rollouts.get_mut(name) else { return };
        if rollout.metadata.finalizers.iter().flatten().next().is_none() {
            self.rollouts.remove(name);
        } else if rollout.metadata.deletion_timestamp.is_none() {
            rollout.metadata.deletion_timestamp = Some(Time(now));
            rollout.metadata.resource_version = revision;
        }
    }

    /// A device's object is deleted; its agent finds nobody who knows it.
    pub fn delete_device(&mut self, name: &str) {
        self.devices.remove(name);
        self.views.remove(name);
        self.agents.remove(name);
        self.seen.remove(name);
    }

    // === devices ===

    /// One round of an agent: poll, work, report.
    pub fn poll(&mut self, name: &str) {
        let Some(mut agent) = self.agents.get(name).cloned().filter(|agent| agent.online && self.gateway) else {
            // Nobody sees it, but a pull that has begun goes on.
            let now = self.now;
            if let Some(agent) = self.agents.get_mut(name) {
                agent.work(now);
            }
            return;
        };
        let Some(device) = self.devices.get(name).cloned() else { return };
        self.seen.insert(name.to_owned(), self.now.as_second());
        let told = gate::told(self, &device, &agent.held);
        let held = agent.held.clone();
        self.judge(|watch, world| watch.told(world, &device, &held, &told));
        if agent.take(told.clone(), self.now) {
            self.note_images("told", name, &held, &told);
        }
        let before = agent.running.clone();
        if agent.work(self.now) {
            for (key, (image, status)) in &agent.running {
                if before.get(key) != Some(&(image.clone(), status.clone())) {
                    let verb = if status == "running" { "run" } else { "fail on" };
                    self.note(format!("{verb} {image}"), name);
                }
            }
        }
        if agent.reports {
            self.report(name, agent.report());
        }
        self.agents.insert(name.to_owned(), agent);
    }

    /// A report reaches the gateway, which writes if it says anything new.
    pub fn report(&mut self, name: &str, services: Vec<tranche::api::device::ReportedService>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let status = device.status.get_or_insert_default();
        if status.services.as_ref() != Some(&services) {
            status.services = Some(services);
            status.last_seen_time = Some(Time(self.now));
            self.touch(name);
            let device = self.devices[name].clone();
            self.judge(|watch, world| watch.reported(world, &device));
        }
    }

    fn note_images(&mut self, verb: &str, device: &str, before: &Images, after: &Images) {
        let changed: BTreeSet<&String> =
            after.iter().filter(|(key, image)| before.get(*key) != Some(image)).map(|(_, image)| image).collect();
        for image in changed {
            self.note(format!("{verb} {image}"), device);
        }
    }

    fn note(&mut self, what: String, device: &str) {
        self.notes.entry(what).or_default().insert(device.to_owned());
    }

    // === writes of the controller ===

    /// Server-side apply of a manager's entries, not forced.
    pub fn apply_images(
        &mut self,
        name: &str,
        revision: &str,
        manager: &str,
        new: &[ImageEntry],
    ) -> Result<(), Refused> {
        let device = self.devices.get(name).ok_or(Refused::Gone)?;
        if device.metadata.resource_version.as_deref() != Some(revision) {
            return Err(Refused::Stale);
        }
        let before = device.clone();
        let mut owners = owners(device);
        for entry in new {
            let others =
                owners.get(&entry.repository).is_some_and(|owners| owners.iter().any(|owner| owner != manager));
            if others && device.spec.images.iter().any(|old| old.repository == entry.repository && old != entry) {
                return Err(Refused::Owned);
            }
        }
        let device = self.devices.get_mut(name).expect("it was there");
        for (repository, owners) in &mut owners {
            if !new.iter().any(|entry| entry.repository == *repository) {
                owners.remove(manager);
            }
        }
        for entry in new {
            owners.entry(entry.repository.clone()).or_default().insert(manager.to_owned());
            device.spec.images.retain(|old| old.repository != entry.repository);
            device.spec.images.push(entry.clone());
        }
        owners.retain(|_, owners| !owners.is_empty());
        device.spec.images.retain(|entry| owners.contains_key(&entry.repository));
        device.spec.images.sort_by(|a, b| a.repository.cmp(&b.repository));
        own(device, &owners);
        *device.metadata.generation.get_or_insert(1) += 1;
        self.touch(name);
        let after = self.devices[name].clone();
        self.judge(|watch, world| watch.images_written(world, &before, &after, manager));
        Ok(())
    }

    /// Runs a check of the invariants, which looks at the world but never changes it.
    pub fn judge(&mut self, check: impl FnOnce(&mut Invariants, &Self)) {
        let mut watch = std::mem::take(&mut self.watch);
        check(&mut watch, self);
        self.watch = watch;
    }

    /// Gives a changed rollout its new revision.
    pub fn store_rollout(&mut self, mut rollout: ImageRollout) {
        rollout.metadata.resource_version = self.next_revision();
        self.rollouts.insert(rollout.metadata.name.clone().expect("a name"), rollout);
    }

    /// Stores a device's verdicts.
    pub fn store_verdicts(
        &mut self,
        name: &str,
        revision: &str,
        updates: &[tranche::api::device::UpdateVerdict],
    ) -> Result<(), Refused> {
        let device = self.devices.get_mut(name).ok_or(Refused::Gone)?;
        if device.metadata.resource_version.as_deref() != Some(revision) {
            return Err(Refused::Stale);
        }
        let status = device.status.get_or_insert_default();
        assert_ne!(status.updates, updates, "{name}: the same verdicts are written twice");
        status.updates = updates.to_vec();
        self.touch(name);
        Ok(())
    }

    // === the story ===

    /// A line of the story.
    pub fn tell(&mut self, who: &str, what: &str) {
        let seconds = self.now.as_second() - start().as_second();
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        self.log.push(format!("{clock}  {who:<10}  {what}"));
    }

    /// Tells what devices did since the last call.
    pub fn tell_devices(&mut self) {
        for (what, devices) in std::mem::take(&mut self.notes) {
            let line = format!("{what}: {}", names(&devices));
            self.tell("devices", &line);
        }
    }
}

/// Names in a line; of many only the first.
pub fn names(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(" ")) } else { shown.join(" ") }
}

/// Who owns each entry, by repository, from `managedFields`.
pub fn owners(device: &Device) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in device.metadata.managed_fields.iter().flatten() {
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer("/f:spec/f:images").cloned());
        for key in fields.iter().filter_map(|images| images.as_object()).flat_map(|images| images.keys()) {
            let Some(key) = key.strip_prefix("k:") else { continue };
            let key: serde_json::Value = serde_json::from_str(key).expect("a key of managedFields");
            let repository = key["repository"].as_str().expect("a repository").to_owned();
            owners.entry(repository).or_default().insert(entry.manager.clone().unwrap_or_default());
        }
    }
    owners
}

/// Writes owners back, the way the API server keeps them.
pub fn own(device: &mut Device, owners: &BTreeMap<String, BTreeSet<String>>) {
    let managers: BTreeSet<&String> = owners.values().flatten().collect();
    let entry = |manager: &String| {
        let mut images = serde_json::Map::new();
        for (repository, owners) in owners {
            if owners.contains(manager) {
                images.insert(format!("k:{}", json!({ "repository": repository })), json!({ ".": {}, "f:image": {} }));
            }
        }
        ManagedFieldsEntry {
            api_version: Some("tranche.dev/v1alpha1".into()),
            fields_type: Some("FieldsV1".into()),
            fields_v1: Some(FieldsV1(json!({ "f:spec": { "f:images": images } }))),
            manager: Some(manager.clone()),
            operation: Some("Apply".into()),
            subresource: None,
            time: None,
        }
    };
    device.metadata.managed_fields = Some(managers.into_iter().map(entry).collect());
}
