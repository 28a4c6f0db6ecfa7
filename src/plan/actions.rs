//! What the planner wants done to devices: exact values, with the precondition under which they are right.
//!
//! Carrying them out makes no choices. Each is one server-side apply on one device, refused by the API server when
//! the device is no longer the one that the planner looked at.

use jiff::Timestamp;

use crate::api::device::{ImageEntry, UpdateVerdict, Verdict};
use crate::api::policy_of_manager;
use crate::api::time::whole_seconds;

use super::observed::{DeviceView, EntryView};

/// One write to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Name of the device.
    pub device: String,
    /// Its UID, the write's first precondition: an apply that names a revision but no UID would make a device anew that
    /// was deleted meanwhile.
    pub uid: String,
    /// The revision of the device that this was decided on; the second precondition.
    pub resource_version: String,
    /// Why.
    pub reason: Reason,
    /// What.
    pub change: Change,
}

/// Why a device is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is its turn.
    Release,
    /// It turned up after its batch, or after the rollout.
    ReleaseLatecomer,
    /// It failed and the policy sends failed devices back.
    RollBackFailed,
    /// Its batch exceeded the failure budget.
    RollBackBatch,
    /// The whole rollout goes back.
    RollBackAll,
    /// A person asked for this device.
    RollBackRequested,
    /// The rollout goes away, and the device was not told its image.
    Rewrite,
    /// It went away, or was held, before it could fetch the image: it is told its previous image until its turn
    /// comes again, so that its time starts when it is back.
    Withdraw,
    /// Its time is up.
    Verdict,
}

impl Reason {
    /// One word for logs, metrics and `tranche plan`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "Release",
            Self::ReleaseLatecomer => "ReleaseLatecomer",
            Self::RollBackFailed => "RollBackFailed",
            Self::RollBackBatch => "RollBackBatch",
            Self::RollBackAll => "RollBackAll",
            Self::RollBackRequested => "RollBackRequested",
            Self::Rewrite => "Rewrite",
            Self::Withdraw => "Withdraw",
            Self::Verdict => "Verdict",
        }
    }
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `spec.images`: every entry that the field manager owns on this device. Server-side apply removes what a manager
    /// no longer names, so the others are repeated as they are.
    Images {
        /// Field manager of the policy.
        manager: String,
        /// The entries.
        entries: Vec<ImageEntry>,
    },
    /// `status.updates`: every verdict on this device.
    Verdicts {
        /// The verdicts.
        updates: Vec<UpdateVerdict>,
    },
}

/// Replaces (or adds) one entry of those that `manager` owns. What a policy that is gone left behind is written on under
/// its name: written under another one, the old manager would keep what the new one doesn't mention.
#[must_use]
pub fn set_entry(view: &DeviceView, manager: &str, entry: ImageEntry, reason: Reason) -> Action {
    let heir = view.entry(&entry.repository).and_then(|before| before.managers.iter().find(|owner| *owner != manager));
    let manager = heir.filter(|owner| policy_of_manager(owner).is_some()).map_or(manager, String::as_str);
    let ours = |other: &&EntryView| {
        other.entry.repository != entry.repository
            && (other.managers.is_empty() || other.managers.iter().any(|owner| owner == manager))
    };
    let mut entries: Vec<ImageEntry> = view.images.iter().filter(ours).map(|other| other.entry.clone()).collect();
    entries.push(entry);
    entries.sort_by(|a, b| a.repository.cmp(&b.repository));
    Action {
        device: view.name.clone(),
        uid: view.uid.clone(),
        resource_version: view.resource_version.clone(),
        reason,
        change: Change::Images { manager: manager.to_owned(), entries },
    }
}

/// The entry that sends a device back to its own previous image.
#[must_use]
pub fn sent_back(entry: &ImageEntry, now: Timestamp) -> ImageEntry {
    ImageEntry { image: entry.previous.clone(), rolled_back: true, release_time: whole_seconds(now), ..entry.clone() }
}

/// The entry of a device whose release is taken back: it keeps its batch and may be released again.
#[must_use]
pub fn withdrawn(entry: &ImageEntry, now: Timestamp) -> ImageEntry {
    ImageEntry { image: entry.previous.clone(), release_time: whole_seconds(now), ..entry.clone() }
}

/// Stores the verdict Failed.
#[must_use]
pub fn store_failure(
    view: &DeviceView,
    repository: &str,
    rollout: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Action {
    let mut updates: Vec<UpdateVerdict> =
        view.updates.iter().filter(|update| update.repository != repository).cloned().collect();
    updates.push(UpdateVerdict {
        repository: repository.to_owned(),
        rollout: rollout.to_owned(),
        verdict: Verdict::Failed,
        reason: reason.to_owned(),
        message: crate::api::condition::truncate(message.to_owned(), 512),
        time: whole_seconds(now),
    });
    updates.sort_by(|a, b| a.repository.cmp(&b.repository));
    Action {
        device: view.name.clone(),
        uid: view.uid.clone(),
        resource_version: view.resource_version.clone(),
        reason: Reason::Verdict,
        change: Change::Verdicts { updates },
    }
}

#[cfg(test)]
mod tests;
