//! What people do to rollouts, whichever door they come through: the REST API or the command line.
//!
//! Each verb is a change of spec, decided here from the rollout as it is: made, made already, or in conflict with where
//! the rollout stands. Pure: whoever asks reads the rollout, and writes what comes out with its resourceVersion as
//! precondition; when somebody else wrote meanwhile, they read and ask again. Nothing here is a way around RBAC, the
//! rules of the CRDs or the planner; kubectl does the same with more typing.
//!
//! | verb | spec | fits | is done already |
//! | --- | --- | --- | --- |
//! | pause | `paused: true` | until it has ended or goes back | when paused |
//! | resume | `paused: false`, `acknowledgedFailures` | until it has ended or goes back | when neither paused nor halted |
//! | approve | `approvedBatches` | until it has ended or goes back | when the batch is open or approved |
//! | cancel | `desiredState: Cancelled` | until it has ended or goes back | when cancelled |
//! | roll back | `desiredState: RolledBack` | unless it failed before it started | when it goes back, or did |
//! | roll back a device | `rollBackDevices` | unless it failed before it started; a device of its own | when all goes back, or it was named |
//!
//! Each change carries who made it and why as an annotation ([`crate::api::act`]), which the planner copies to the
//! rollout's history.

mod member;
mod rollout;
mod start;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use member::Candidate;
pub use rollout::{Conflict, decide};
pub use start::{There, already_there, course, retry, start};

use crate::api::ImageRollout;
use crate::api::act::Act;
use crate::api::time::whole_seconds;

/// What is to be done to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// No device moves forward until it is resumed.
    Pause,
    /// Go on after a pause, after a halt, or both.
    Resume,
    /// Let a batch open, and all before it.
    Approve {
        /// Which, from 1. `None`: the next one, so a second call may approve another.
        batch: Option<usize>,
    },
    /// Stop for good; devices that run the image keep it.
    Cancel,
    /// Every device goes back to its own previous image.
    RollBack,
    /// One device goes back to its own previous image.
    RollBackDevice {
        /// Which.
        device: Candidate,
    },
}

impl Verb {
    /// What a line of the rollout's history about it is typed.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match self {
            Self::Pause => "RolloutPaused",
            Self::Resume => "RolloutResumed",
            Self::Approve { .. } => "BatchApproved",
            Self::Cancel => "CancelRequested",
            Self::RollBack => "RollbackRequested",
            Self::RollBackDevice { .. } => "DeviceRollbackRequested",
        }
    }
}

/// Who asks, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// As the API server knows them.
    pub name: String,
    /// In their words; see [`crate::api::act::reason`].
    pub reason: Option<String>,
    /// When.
    pub time: Timestamp,
}

/// What a verb comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is to be written.
    Change {
        /// A JSON merge patch with the resourceVersion that was looked at.
        patch: Value,
        /// What it will do.
        effect: Effect,
    },
    /// Nothing is to be written.
    Already {
        /// Why, in a sentence.
        text: String,
    },
}

/// What a change will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// How many devices it concerns; `None` while the rollout hasn't counted them.
    pub devices: Option<i32>,
    /// What happens to them, in a sentence.
    pub text: String,
}

impl Person {
    /// Their act on a rollout.
    fn act(&self, verb: &str, rollout: &ImageRollout) -> Act {
        Act {
            verb: verb.to_owned(),
            by: self.name.clone(),
            reason: self.reason.clone(),
            time: whole_seconds(self.time),
            generation: rollout.metadata.generation.map_or(0, |generation| generation + 1),
        }
    }
}

/// The merge patch of a spec, with its act.
fn patch(rollout: &ImageRollout, spec: &Value, act: &Act) -> Value {
    json!({
        "metadata": { "resourceVersion": rollout.metadata.resource_version, "annotations": act.annotation() },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests;
