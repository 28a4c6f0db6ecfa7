//! Bugs on purpose: each is a switch that changes the plan, the executor or the gateway of the model, never the product.

use tranche::api::rollout::Phase;
use tranche::plan::{Change, Plan, StatusWrite};

use crate::objects::{Image, RolloutFacts};

/// A seeded bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Devices are written before the status is.
    DevicesFirst,
    /// A status is written whatever the rollout looks like by now.
    StatusWithoutRevision,
    /// A device is written whatever it looks like by now.
    DeviceWithoutRevision,
    /// The planner does not see that a rollout is paused.
    ReleaseWhilePaused,
    /// The second batch opens with the first.
    BatchesAtOnce,
    /// The budget tolerates one failure more.
    BudgetOffByOne,
    /// Nothing soaks.
    NoSoak,
    /// `maxConcurrent` counts for nothing.
    NoLimit,
    /// A device that answered is taken for one that runs what it was told.
    VersionIsVerdict,
    /// A rollback leads to what `apps` declares, not to what the device ran.
    WrongPrevious,
    /// A person's word of another image is overwritten.
    OverwritesDeclared,
    /// The gateway offers whatever the entry says.
    GateIgnored,
    /// The gateway does not tell a stopped rollout from an active one.
    GateIgnoresStatus,
    /// The gateway takes a device's report for newer than what the device's tag proves.
    GateBelievesLateReports,
    /// Rollouts are named by delivery, not by image.
    NameByDelivery,
    /// A rollout that has ended goes on when a newer one appears.
    EndIsNoEnd,
    /// Every pass writes the status anew.
    HotLoop,
    /// A status does not say what it waits for.
    NoReason,
}

impl Mutant {
    pub const ALL: [Self; 18] = [
        Self::DevicesFirst,
        Self::StatusWithoutRevision,
        Self::DeviceWithoutRevision,
        Self::ReleaseWhilePaused,
        Self::BatchesAtOnce,
        Self::BudgetOffByOne,
        Self::NoSoak,
        Self::NoLimit,
        Self::VersionIsVerdict,
        Self::WrongPrevious,
        Self::OverwritesDeclared,
        Self::GateIgnored,
        Self::GateIgnoresStatus,
        Self::GateBelievesLateReports,
        Self::NameByDelivery,
        Self::EndIsNoEnd,
        Self::HotLoop,
        Self::NoReason,
    ];

    /// The scenario that it is looked for in.
    pub fn scenario(self) -> &'static str {
        match self {
            Self::DevicesFirst | Self::NoSoak => "crashes",
            Self::StatusWithoutRevision
            | Self::ReleaseWhilePaused
            | Self::BatchesAtOnce
            | Self::VersionIsVerdict
            | Self::GateIgnored
            | Self::GateIgnoresStatus => "a stop",
            Self::DeviceWithoutRevision | Self::OverwritesDeclared => "held, and declared anew",
            Self::BudgetOffByOne | Self::GateBelievesLateReports => "failures acknowledged",
            Self::NoLimit => "one at a time, somebody away",
            Self::WrongPrevious => "a rollback, and crashes",
            Self::EndIsNoEnd => "a newer image",
            Self::NameByDelivery | Self::HotLoop | Self::NoReason => "a push told twice",
        }
    }

    /// What the mutant makes of a plan. `others`: whether there is another rollout.
    pub fn tamper(self, plan: &mut Plan, rollout: &RolloutFacts, others: bool) {
        match self {
            Self::BatchesAtOnce => {
                let last = i32::try_from(plan.status.batches.len()).unwrap();
                if plan.status.current_batch > rollout.status.current_batch {
                    plan.status.current_batch = last;
                }
            }
            Self::WrongPrevious => {
                for action in &mut plan.actions {
                    let Change::Images { entries, .. } = &mut action.change else { continue };
                    for entry in entries.iter_mut().filter(|entry| entry.rolled_back) {
                        let wrong = if entry.image == Some(Image::V2.reference()) { Image::V1 } else { Image::V3 };
                        entry.image = Some(wrong.reference());
                    }
                }
            }
            Self::EndIsNoEnd => {
                if rollout.status.phase == Phase::Completed && others && plan.status.phase == Phase::Completed {
                    plan.status.phase = Phase::Progressing;
                    plan.write = StatusWrite::Transition;
                }
            }
            Self::HotLoop => {
                let dot = if rollout.status.message.ends_with('.') { "" } else { "." };
                plan.status.message = plan.status.message.trim_end_matches('.').to_owned() + dot;
                plan.write = StatusWrite::Transition;
            }
            Self::NoReason => plan.status.message.clear(),
            Self::DevicesFirst
            | Self::StatusWithoutRevision
            | Self::DeviceWithoutRevision
            | Self::ReleaseWhilePaused
            | Self::BudgetOffByOne
            | Self::NoSoak
            | Self::NoLimit
            | Self::VersionIsVerdict
            | Self::OverwritesDeclared
            | Self::GateIgnored
            | Self::GateIgnoresStatus
            | Self::GateBelievesLateReports
            | Self::NameByDelivery => {}
        }
    }
}
