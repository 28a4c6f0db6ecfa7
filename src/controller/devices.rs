//! The devices, as the planner sees them, and which of them were seen when.
//!
//! Fed by the watches of devices and presence and by the answers to our own writes, so that a pass never acts on a state
//! older than what this process itself has written. An older revision never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::api::{Device, DevicePresence};
use crate::plan::observed::{DeviceView, Knowledge};

/// Namespace and repository whose rollouts should be looked at.
pub type Mark = (String, String);

/// Projections of all devices, by namespace and name.
#[derive(Debug)]
pub struct DeviceIndex {
    state: RwLock<State>,
    complete: watch::Sender<(bool, bool)>,
}

#[derive(Debug, Default)]
struct State {
    devices: HashMap<String, BTreeMap<String, Arc<DeviceView>>>,
    /// While a list comes in: what it has brought so far.
    incoming: Option<HashSet<(String, String)>>,
    presence: HashMap<String, BTreeMap<String, Shard>>,
    incoming_presence: Option<HashSet<(String, String)>>,
    /// Rollouts to look at.
    marks: BTreeSet<Mark>,
    /// Namespaces in which who is there has changed.
    stirred: BTreeSet<String>,
}

#[derive(Debug)]
struct Shard {
    as_of: Timestamp,
    interval: i64,
    seen: BTreeMap<String, i64>,
}

/// What is known of the devices of one namespace: how far, and who was seen when.
#[derive(Debug, Default)]
pub struct Presence {
    /// How far it reaches.
    pub knowledge: Knowledge,
    seen: HashMap<String, i64>,
}

impl Presence {
    /// When a device was last seen.
    #[must_use]
    pub fn seen(&self, device: &str) -> Option<Timestamp> {
        self.seen.get(device).and_then(|second| Timestamp::from_second(*second).ok())
    }
}

impl Default for DeviceIndex {
    fn default() -> Self {
        Self { state: RwLock::default(), complete: watch::channel((false, false)).0 }
    }
}

impl DeviceIndex {
    /// Waits until devices and presence were listed completely once.
    pub async fn wait_until_complete(&self) {
        // This index holds the sender.
        let _ = self.complete.subscribe().wait_for(|(devices, presence)| *devices && *presence).await;
    }

    /// Whether devices and presence were listed completely once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let (devices, presence) = *self.complete.borrow();
        devices && presence
    }

    /// A device as the API server has it. Marks the rollouts of its repositories if anything that matters changed.
    pub fn apply(&self, device: &Device) {
        let view = DeviceView::new(device);
        let namespace = device.namespace().unwrap_or_default();
        let mut state = self.state.write();
        if let Some(incoming) = &mut state.incoming {
            incoming.insert((namespace.clone(), view.name.clone()));
        }
        let devices = state.devices.entry(namespace.clone()).or_default();
        let before = devices.get(&view.name).cloned();
        if before.as_ref().is_some_and(|before| is_older(&view.resource_version, &before.resource_version)) {
            return;
        }
        let changed = before.as_ref().is_none_or(|before| !same_apart_from_revision(before, &view));
        let mut repositories = repositories(&view);
        if let Some(before) = &before {
            repositories.extend(self::repositories(before));
        }
        devices.insert(view.name.clone(), Arc::new(view));
        if changed {
            state.marks.extend(repositories.into_iter().map(|repository| (namespace.clone(), repository)));
        }
    }

    /// A device is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut state = self.state.write();
        if let Some(view) = state.devices.get_mut(namespace).and_then(|devices| devices.remove(name)) {
            state.marks.extend(repositories(&view).into_iter().map(|repository| (namespace.to_owned(), repository)));
        }
    }

    /// A complete list of devices begins; each of them comes through [`Self::apply`].
    pub fn list_begins(&self) {
        self.state.write().incoming = Some(HashSet::new());
    }

    /// The list is complete: whoever was not in it is gone.
    pub fn list_ends(&self) {
        let gone: Vec<(String, String)> = {
            let mut state = self.state.write();
            let incoming = state.incoming.take().unwrap_or_default();
            let known = state
                .devices
                .iter()
                .flat_map(|(namespace, devices)| devices.keys().map(move |name| (namespace.clone(), name.clone())));
            known.filter(|key| !incoming.contains(key)).collect()
        };
        for (namespace, name) in gone {
            self.remove(&namespace, &name);
        }
        self.complete.send_modify(|complete| complete.0 = true);
    }

    /// A shard of presence.
    pub fn apply_presence(&self, presence: &DevicePresence) {
        let namespace = presence.namespace().unwrap_or_default();
        let shard = Shard {
            as_of: presence.spec.as_of.0,
            interval: i64::try_from(std::time::Duration::from(presence.spec.interval).as_secs()).unwrap_or(60).max(1),
            seen: presence.spec.seen.clone(),
        };
        let mut state = self.state.write();
        let name = presence.name_any();
        if let Some(incoming) = &mut state.incoming_presence {
            incoming.insert((namespace.clone(), name.clone()));
        }
        state.presence.entry(namespace.clone()).or_default().insert(name, shard);
        state.stirred.insert(namespace);
    }

    /// A shard of presence is gone.
    pub fn remove_presence(&self, namespace: &str, name: &str) {
        if let Some(shards) = self.state.write().presence.get_mut(namespace) {
            shards.remove(name);
        }
    }

    /// A complete list of presence begins.
    pub fn presence_list_begins(&self) {
        self.state.write().incoming_presence = Some(HashSet::new());
    }

    /// The list is complete.
    pub fn presence_list_ends(&self) {
        let mut state = self.state.write();
        let incoming = state.incoming_presence.take().unwrap_or_default();
        for (namespace, shards) in &mut state.presence {
            shards.retain(|name, _| incoming.contains(&(namespace.clone(), name.clone())));
        }
        drop(state);
        self.complete.send_modify(|complete| complete.1 = true);
    }

    /// Repositories whose rollouts should be looked at, and namespaces whose every running rollout should, since the
    /// last call.
    #[must_use]
    pub fn take_marks(&self) -> (BTreeSet<Mark>, BTreeSet<String>) {
        let mut state = self.state.write();
        (std::mem::take(&mut state.marks), std::mem::take(&mut state.stirred))
    }

    /// Every device of a namespace, by name.
    #[must_use]
    pub fn devices(&self, namespace: &str) -> Vec<Arc<DeviceView>> {
        self.state.read().devices.get(namespace).map(|devices| devices.values().cloned().collect()).unwrap_or_default()
    }

    /// How many devices there are.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.state.read().devices.values().map(|devices| i64::try_from(devices.len()).unwrap_or(i64::MAX)).sum()
    }

    /// The namespaces that have devices.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.state.read().devices.keys().cloned().collect()
    }

    /// Who of a namespace was seen when.
    ///
    /// Knowledge reaches as far as the oldest shard of the newest sharding: a number of shards that is no longer in use
    /// lingers for a while and must not hold it back.
    #[must_use]
    pub fn presence(&self, namespace: &str) -> Presence {
        let state = self.state.read();
        let Some(shards) = state.presence.get(namespace) else { return Presence::default() };
        let mut seen: HashMap<String, i64> = HashMap::new();
        for (device, second) in shards.values().flat_map(|shard| &shard.seen) {
            let latest = seen.entry(device.clone()).or_insert(*second);
            *latest = (*latest).max(*second);
        }
        let newest = shards.iter().max_by_key(|(_, shard)| shard.as_of).map(|(name, _)| sharding(name).to_owned());
        let current = || shards.iter().filter(|(name, _)| Some(sharding(name)) == newest.as_deref()).map(|(_, s)| s);
        Presence {
            knowledge: Knowledge {
                as_of: current().map(|shard| shard.as_of).min(),
                interval: current().map(|shard| shard.interval).max().unwrap_or_default(),
            },
            seen,
        }
    }
}

/// `presence-4` of `presence-4-2`: which sharding a shard belongs to.
fn sharding(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(sharding, _)| sharding)
}

fn repositories(view: &DeviceView) -> BTreeSet<String> {
    let declared = view.services.iter().map(|service| service.image.repository.clone());
    declared.chain(view.images.iter().map(|image| image.entry.repository.clone())).collect()
}

/// Whether two projections differ in nothing that a plan could turn on.
fn same_apart_from_revision(a: &DeviceView, b: &DeviceView) -> bool {
    let DeviceView {
        name,
        labels,
        resource_version: _,
        uid,
        hold,
        deleting,
        services,
        images,
        reported,
        updates,
        last_seen: _,
        connected: _,
    } = a;
    *name == b.name
        && *uid == b.uid
        && *labels == b.labels
        && *hold == b.hold
        && *deleting == b.deleting
        && *services == b.services
        && *images == b.images
        && *reported == b.reported
        && *updates == b.updates
}

/// Revisions of one kind are numbers that grow (Kubernetes documents this since 1.35; etcd always made it so). Where
/// they are not numbers, nothing is older.
#[must_use]
pub fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}
