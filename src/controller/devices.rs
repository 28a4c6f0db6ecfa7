//! The devices, as the planner sees them, and which of them were seen when.
//!
//! Fed by the watches of devices and presence and by the answers to our own writes, so that a pass never acts on a state
//! older than what this process itself has written. An older revision never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::api::{Device, DevicePresence};
use crate::plan::observed::{DeviceView, Knowledge};

/// How long a device that nobody knows is remembered for having been seen, seconds: its object is about to come, or
/// gone for good.
const STRANGE_FOR: i64 = 600;

/// Namespace and repository whose rollouts should be looked at.
pub type Mark = (String, String);

/// Projections of all devices, by namespace and name.
#[derive(Debug)]
pub struct DeviceIndex {
    state: RwLock<State>,
    complete: watch::Sender<(bool, bool)>,
}

/// A device, and when it was last seen.
#[derive(Clone, Debug)]
pub struct Known {
    /// The device.
    pub view: Arc<DeviceView>,
    /// When any gateway last saw it, Unix seconds; `i64::MIN` if none ever said so.
    pub seen: i64,
}

#[derive(Debug, Default)]
struct State {
    devices: HashMap<String, BTreeMap<String, Known>>,
    /// When devices were seen that are not known, or not yet: presence may be listed before they are.
    strangers: HashMap<String, HashMap<String, i64>>,
    /// While a list comes in: what it has brought so far.
    incoming: Option<HashSet<(String, String)>>,
    presence: HashMap<String, BTreeMap<String, Knowledge>>,
    incoming_presence: Option<HashSet<(String, String)>>,
    /// Rollouts to look at.
    marks: BTreeSet<Mark>,
    /// Namespaces in which who is there has changed.
    stirred: BTreeSet<String>,
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
        let State { devices, strangers, .. } = &mut *state;
        let devices = devices.entry(namespace.clone()).or_default();
        let (before, seen) = match devices.get(&view.name) {
            Some(Known { view, seen }) => (Some(Arc::clone(view)), *seen),
            None => (None, strangers.get_mut(&namespace).and_then(|seen| seen.remove(&view.name)).unwrap_or(i64::MIN)),
        };
        if before.as_ref().is_some_and(|before| is_older(&view.resource_version, &before.resource_version)) {
            return;
        }
        let changed = before.as_ref().is_none_or(|before| !same_apart_from_revision(before, &view));
        let mut repositories = repositories(&view);
        if let Some(before) = &before {
            repositories.extend(self::repositories(before));
        }
        devices.insert(view.name.clone(), Known { view: Arc::new(view), seen });
        if changed {
            state.marks.extend(repositories.into_iter().map(|repository| (namespace.clone(), repository)));
        }
    }

    /// A device as one of our own writes left it. One that the watch has seen deleted meanwhile stays gone.
    pub fn apply_own(&self, device: &Device) {
        let namespace = device.namespace().unwrap_or_default();
        let known = self.state.read().devices.get(&namespace).is_some_and(|d| d.contains_key(&device.name_any()));
        if known {
            self.apply(device);
        }
    }

    /// A device is gone, or can't be read. It may come back soon, and has been seen whatever its object says.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut state = self.state.write();
        if let Some(Known { view, seen }) = state.devices.get_mut(namespace).and_then(|devices| devices.remove(name)) {
            state.strangers.entry(namespace.to_owned()).or_default().insert(name.to_owned(), seen);
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

    /// A shard of presence. A device was seen when it was seen, so a later time is never forgotten for an earlier one,
    /// nor when the shard that told it goes away.
    pub fn apply_presence(&self, presence: &DevicePresence) {
        let namespace = presence.namespace().unwrap_or_default();
        let complete = self.is_complete();
        let shard = Knowledge::of_shard(&presence.spec);
        let mut state = self.state.write();
        let State { devices, strangers, .. } = &mut *state;
        let (devices, strangers) =
            (devices.entry(namespace.clone()).or_default(), strangers.entry(namespace.clone()).or_default());
        if complete {
            // All others are known by now: whoever is still strange was deleted, or can't be read.
            let oldest = presence.spec.as_of.0.as_second() - STRANGE_FOR;
            strangers.retain(|_, at| *at >= oldest);
        }
        for (device, at) in &presence.spec.seen {
            let seen = match devices.get_mut(device) {
                Some(known) => &mut known.seen,
                None => strangers.entry(device.clone()).or_insert(*at),
            };
            *seen = (*seen).max(*at);
        }
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

    /// Has the rollouts of a repository looked at with the next flush.
    pub fn mark(&self, mark: Mark) {
        self.state.write().marks.insert(mark);
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
    pub fn devices(&self, namespace: &str) -> Vec<Known> {
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

    /// How much is known of who is there in a namespace.
    #[must_use]
    pub fn knowledge(&self, namespace: &str) -> Knowledge {
        let state = self.state.read();
        let Some(shards) = state.presence.get(namespace) else { return Knowledge::default() };
        Knowledge::of_shards(shards.iter().map(|(name, shard)| (name.as_str(), *shard)))
    }
}

fn repositories(view: &DeviceView) -> BTreeSet<String> {
    let declared = view.services.iter().map(|service| service.image.repository.clone());
    declared.chain(view.images.iter().map(|image| image.entry.repository.clone())).collect()
}

/// Whether two projections differ in nothing that a plan could turn on.
fn same_apart_from_revision(a: &DeviceView, b: &DeviceView) -> bool {
    let DeviceView {
        name,
        display_name,
        address,
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
        && *display_name == b.display_name
        && *address == b.address
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn device(name: &str) -> Device {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": {}})).unwrap()
    }

    fn shard(name: &str, as_of: i64, seen: &[(&str, i64)]) -> DevicePresence {
        let seen: BTreeMap<&str, i64> = seen.iter().copied().collect();
        let as_of = Timestamp::from_second(as_of).unwrap().to_string();
        let spec = json!({"asOf": as_of, "interval": "5s", "seen": seen});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).unwrap()
    }

    fn seen(index: &DeviceIndex) -> Vec<(String, i64)> {
        index.devices("n").into_iter().map(|known| (known.view.name.clone(), known.seen)).collect()
    }

    #[test]
    fn the_latest_sighting_counts_whatever_comes_first() {
        let index = DeviceIndex::default();
        index.apply_presence(&shard("presence-2-0", 1000, &[("a", 990), ("gone", 980)]));
        index.apply(&device("a"));
        index.apply(&device("b"));
        assert_eq!(seen(&index), [("a".to_owned(), 990), ("b".to_owned(), i64::MIN)]);
        index.apply_presence(&shard("presence-2-1", 1010, &[("a", 985), ("b", 1005)]));
        index.apply(&device("b"));
        index.remove_presence("n", "presence-2-0");
        assert_eq!(seen(&index), [("a".to_owned(), 990), ("b".to_owned(), 1005)]);
        index.remove("n", "a");
        index.apply(&device("a"));
        assert_eq!(seen(&index)[0].1, 990, "back again");
    }

    #[test]
    fn strangers_are_not_remembered_for_ever() {
        let index = DeviceIndex::default();
        index.apply_presence(&shard("presence-1-0", 1000, &[("gone", 1000)]));
        index.list_ends();
        index.presence_list_begins();
        index.apply_presence(&shard("presence-1-0", 1000 + STRANGE_FOR, &[]));
        index.presence_list_ends();
        assert_eq!(index.state.read().strangers["n"].len(), 1);
        index.apply_presence(&shard("presence-1-0", 1001 + STRANGE_FOR, &[]));
        assert!(index.state.read().strangers["n"].is_empty());
    }

    #[test]
    fn knowledge_reaches_as_far_as_the_oldest_shard_in_use() {
        let index = DeviceIndex::default();
        assert_eq!(index.knowledge("n"), Knowledge::default());
        for (name, as_of) in [("presence-1-0", 900), ("presence-2-0", 1000), ("presence-2-1", 1010)] {
            index.apply_presence(&shard(name, as_of, &[]));
        }
        assert_eq!(
            index.knowledge("n"),
            Knowledge { as_of: Timestamp::from_second(1000).ok(), since: None, interval: 5 }
        );
    }
}
