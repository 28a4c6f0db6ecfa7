//! How a promise came to be broken: the steps that led there, and what was stored, told and run after each.

use std::fmt::Write as _;

use stateright::Path;

use crate::fleet::Fleet;
use crate::objects::{DeviceFacts, RolloutFacts};
use crate::state::{Agent, State};
use crate::steps::Step;

/// The story of a path.
pub fn story(fleet: &Fleet, path: Path<State, Step>) -> String {
    let mut text = String::new();
    for (number, (state, step)) in path.into_vec().into_iter().enumerate() {
        for rollout in state.stored.rollouts.iter().filter_map(|id| fleet.rollout(*id)) {
            let RolloutFacts { image, row, status, .. } = &*rollout;
            let (phase, batch, message) = (status.phase, status.current_batch, &status.message);
            let _ = writeln!(text, "      {}: {row:?} {phase:?} batch {batch}: {message}", image.tag());
        }
        for index in fleet.devices() {
            let Agent { told, runs, ok, away, .. } = state.agents[index];
            let device = fleet.catalogue.devices.get(state.stored.devices[index]);
            let DeviceFacts { name, declared, reported, entry, .. } = &*device;
            let entry = entry.as_ref().map(|entry| (entry.image, entry.previous, entry.batch, entry.failed));
            let _ = writeln!(
                text,
                "      {name}: declared {declared:?}, told {told:?}, runs {runs:?} ({ok}), reported {reported:?}, \
                 entry {entry:?}, away {away}"
            );
        }
        if let Some(step) = step {
            let _ = writeln!(text, "  {:>2}. at {}: {step:?}", number + 1, state.tick);
        }
    }
    text
}
