//! What the gateway knows of rollouts: per name, the facts that the gate looks at.
//!
//! Devices hold on to the slot of the rollout that released them, so a poll looks nothing up. A name is in one of four
//! states, and only one of them is an assumption, the strict one: a name that was never seen counts as paused until
//! the API server has said that it doesn't exist.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::ImageRollout;
use crate::plan::gate::{Facts, Row};

/// How long the facts of a deleted rollout are kept. Its finalizer rewrote the devices before it went, but this replica
/// may hear of the deletion first; an hour outlasts every backlog that still counts as a live watch.
pub const TOMBSTONE: Duration = Duration::from_secs(60 * 60);

/// One rollout's name, and what is known of it.
#[derive(Debug)]
pub struct Slot {
    name: Arc<str>,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    /// Named by a device, never seen, not yet asked for.
    Unknown,
    /// It exists.
    Known(Facts),
    /// It existed; when the deletion was seen.
    Deleted(Facts, Instant),
    /// The API server said that it doesn't exist.
    Gone,
}

impl Slot {
    /// The rollout's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The row for `device`, and whether a device that failed goes back.
    #[must_use]
    pub fn row_for(&self, device: &str) -> (Row, bool) {
        let of = |facts: &Facts| (facts.row_for(device), facts.rolls_back_failed);
        match &*self.state.read() {
            State::Known(facts) | State::Deleted(facts, _) => of(facts),
            State::Unknown => of(&Facts::unreadable()),
            State::Gone => of(&Facts::gone()),
        }
    }
}

/// Every rollout that exists, existed lately, or is named by a device.
#[derive(Debug, Default)]
pub struct Rollouts {
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    /// Rings when a name turns up that nobody has seen.
    unknown: Notify,
}

impl Rollouts {
    /// The slot of that name, made where there is none.
    #[must_use]
    pub fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(name) {
            return slot.clone();
        }
        let name: Arc<str> = name.into();
        let slot = Arc::new(Slot { name: name.clone(), state: RwLock::new(State::Unknown) });
        slots.insert(name, slot.clone());
        self.unknown.notify_one();
        slot
    }

    /// It exists and looks like this.
    pub fn apply(&self, rollout: &ImageRollout) {
        if let Some(name) = &rollout.metadata.name {
            *self.slot(name).state.write() = State::Known(Facts::of(rollout));
        }
    }

    /// It exists and can't be read.
    pub fn apply_unreadable(&self, name: &str) {
        *self.slot(name).state.write() = State::Known(Facts::unreadable());
    }

    /// It was deleted.
    pub fn delete(&self, name: &str, now: Instant) {
        // `Slot::state` is never held while `slots` is taken.
        let slot = self.slots.lock().get(name).cloned();
        if let Some(slot) = slot {
            bury(&slot, now);
        }
    }

    /// A full list was read and holds exactly these; whatever else was known has been deleted meanwhile.
    pub fn retain(&self, listed: &HashSet<String>, now: Instant) {
        let missing: Vec<_> =
            self.slots.lock().values().filter(|slot| !listed.contains(&*slot.name)).cloned().collect();
        for slot in missing {
            bury(&slot, now);
        }
    }

    /// The API server said that it doesn't exist. Without effect once the watch has shown it.
    pub fn gone(&self, name: &str) {
        let slot = self.slot(name);
        let mut state = slot.state.write();
        if let State::Unknown = *state {
            *state = State::Gone;
        }
    }

    /// Names that devices carry and nobody has seen.
    #[must_use]
    pub fn unknown(&self) -> Vec<Arc<str>> {
        let slots: Vec<_> = self.slots.lock().values().cloned().collect();
        slots
            .into_iter()
            .filter(|slot| matches!(*slot.state.read(), State::Unknown))
            .map(|slot| slot.name.clone())
            .collect()
    }

    /// Waits until a name turns up that nobody has seen.
    pub async fn turned_up(&self) {
        self.unknown.notified().await;
    }

    /// Forgets what no device carries any more, and turns old tombstones into "gone".
    pub fn prune(&self, now: Instant) {
        self.slots.lock().retain(|_, slot| {
            let carried = Arc::strong_count(slot) > 1;
            let mut state = slot.state.write();
            match &*state {
                State::Known(_) => true,
                State::Unknown | State::Gone => carried,
                State::Deleted(_, at) if now.saturating_duration_since(*at) < TOMBSTONE => true,
                State::Deleted(..) => {
                    *state = State::Gone;
                    carried
                }
            }
        });
    }

    /// How many names are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn bury(slot: &Slot, now: Instant) {
    let mut state = slot.state.write();
    if let State::Known(facts) = &*state {
        *state = State::Deleted(facts.clone(), now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(name: &str, paused: bool) -> ImageRollout {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"policyRef": {"name": "p"}, "image": {"repository": "docker.io/acme/web", "tag": "v2"}, "paused": paused},
        }))
        .unwrap()
    }

    fn row(rollouts: &Rollouts, name: &str) -> Row {
        rollouts.slot(name).row_for("d").0
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_never_seen_is_held_until_the_api_server_denies_it() {
        let rollouts = Rollouts::default();
        assert_eq!(row(&rollouts, "r"), Row::Held);
        assert_eq!(rollouts.unknown(), ["r".into()]);
        rollouts.turned_up().await;
        rollouts.gone("r");
        assert_eq!(row(&rollouts, "r"), Row::Active);
        assert!(rollouts.unknown().is_empty());
        rollouts.apply(&rollout("r", true));
        assert_eq!(row(&rollouts, "r"), Row::Held, "names are deterministic: the same push may come again");
        rollouts.gone("r");
        assert_eq!(row(&rollouts, "r"), Row::Held, "the watch knows better");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_rollout_keeps_its_row_for_an_hour() {
        let rollouts = Rollouts::default();
        rollouts.apply(&rollout("r", true));
        let carried = rollouts.slot("r");
        rollouts.delete("r", Instant::now());
        tokio::time::advance(TOMBSTONE - Duration::from_secs(1)).await;
        rollouts.prune(Instant::now());
        assert_eq!(carried.row_for("d").0, Row::Held);
        tokio::time::advance(Duration::from_secs(1)).await;
        rollouts.prune(Instant::now());
        assert_eq!(carried.row_for("d").0, Row::Active);
        drop(carried);
        rollouts.prune(Instant::now());
        assert!(rollouts.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_buries_what_it_lacks() {
        let rollouts = Rollouts::default();
        rollouts.apply(&rollout("kept", false));
        rollouts.apply(&rollout("lost", true));
        rollouts.apply_unreadable("odd");
        let (lost, odd) = (rollouts.slot("lost"), rollouts.slot("odd"));
        assert_eq!(odd.row_for("d").0, Row::Held);
        rollouts.retain(&["kept".to_owned()].into(), Instant::now());
        tokio::time::advance(TOMBSTONE).await;
        rollouts.prune(Instant::now());
        assert_eq!(lost.row_for("d").0, Row::Active);
        assert_eq!(odd.row_for("d").0, Row::Active);
        assert_eq!(rollouts.len(), 3);
    }
}
