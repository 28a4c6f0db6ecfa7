//! Liveness. From every state that is visited the run is followed to its end without any further nuisance, everybody
//! getting a turn; it has to come to rest, and where it rests, every rollout has ended or names what it waits for.
//!
//! `eventually` of the checker is not used: it looks at runs that end, never at those that go round in circles. Here a
//! circle is found by following each run until it rests or meets itself.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tranche::api::rollout::Phase;

use crate::fleet::Fleet;
use crate::objects::Image;
use crate::state::State;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// At rest, explained.
    Explained,
    /// It goes round in circles.
    Never,
    /// A rollout neither has ended nor names anything that could move it.
    WithoutReason,
    /// A rollout counts as rolled back, but a device that is there is still told its image.
    NotBack,
}

/// Where the run from here ends.
pub fn comes_to_rest(fleet: &Fleet, state: &State) -> Rest {
    if state.broken != 0 {
        return Rest::Explained;
    }
    let mut met = HashSet::new();
    let mut state = *state;
    loop {
        let print = fingerprint(&state);
        if fleet.settled.lock().contains(&print) {
            break;
        }
        if !met.insert(print) {
            return Rest::Never;
        }
        let Some(step) = fleet.fair_step(&state) else {
            let rest = judge(fleet, &state);
            if rest != Rest::Explained {
                return rest;
            }
            break;
        };
        state = fleet.take(&state, step);
        if state.broken != 0 {
            // Found by its own property.
            break;
        }
    }
    fleet.settled.lock().extend(met);
    Rest::Explained
}

fn judge(fleet: &Fleet, state: &State) -> Rest {
    if !fleet.rollouts(state).all(|rollout| fleet.answer(state, rollout).has_reason) {
        return Rest::WithoutReason;
    }
    for rollout in state.stored.rollouts.iter().filter_map(|id| fleet.rollout(*id)) {
        if rollout.status.phase != Phase::RolledBack {
            continue;
        }
        for device in fleet.devices().filter(|device| state.agents[*device].away == 0) {
            let facts = fleet.catalogue.devices.get(state.stored.devices[device]);
            let of_it = facts.entry.as_ref().is_some_and(|entry| entry.rollout == rollout.name && entry.applies);
            if of_it && state.agents[device].told == rollout.image {
                return Rest::NotBack;
            }
        }
    }
    Rest::Explained
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Every device runs an image of a rollout that has completed.
pub fn everybody_runs(fleet: &Fleet, state: &State) -> bool {
    let completed = state
        .stored
        .rollouts
        .iter()
        .filter_map(|id| fleet.rollout(*id))
        .any(|rollout| rollout.status.phase == Phase::Completed);
    completed && fleet.devices().all(|device| state.agents[device].runs != Image::V1)
}

/// A rollout is rolled back.
pub fn rolled_back(fleet: &Fleet, state: &State) -> bool {
    state
        .stored
        .rollouts
        .iter()
        .filter_map(|id| fleet.rollout(*id))
        .any(|rollout| rollout.status.phase == Phase::RolledBack)
}
