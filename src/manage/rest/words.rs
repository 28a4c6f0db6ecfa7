//! Statuses in the predecessor's words, which its users' scripts compare with.
//!
//! Ours say more, so they stand beside: `phase` of a rollout, `reason` of a device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::rollout::Phase;
use crate::plan::report::DeviceWait;

/// Where a rollout stands.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStatus {
    /// Nothing was released yet.
    Pending,
    /// On its way, forward or back.
    InProgress,
    /// Stopped, by a person or by itself.
    Paused,
    /// Every reachable device runs the image.
    Completed,
    /// It could never start.
    Failed,
    /// Ended by a person, or by a newer rollout.
    Cancelled,
    /// Every device was sent back.
    RolledBack,
}

impl RolloutStatus {
    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// The word for a phase. `begun`: a batch is open, so that waiting for approval is the next one's.
pub(super) fn rollout(phase: Phase, begun: bool) -> RolloutStatus {
    match phase {
        Phase::AwaitingApproval if begun => RolloutStatus::InProgress,
        Phase::Pending | Phase::AwaitingApproval => RolloutStatus::Pending,
        Phase::Progressing | Phase::Soaking | Phase::RollingBack => RolloutStatus::InProgress,
        Phase::Paused | Phase::Halted => RolloutStatus::Paused,
        Phase::Completed => RolloutStatus::Completed,
        Phase::RolledBack => RolloutStatus::RolledBack,
        Phase::Cancelled | Phase::Superseded => RolloutStatus::Cancelled,
        Phase::Failed => RolloutStatus::Failed,
    }
}

/// Where a device stands with a rollout.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// Nothing was written to it.
    Pending,
    /// It was told the image, and does not run it yet.
    Scheduled,
    /// It runs the image; whether well is not known yet.
    Updated,
    /// It runs the image well.
    Healthy,
    /// A health check failed.
    Unhealthy,
    /// It failed otherwise: in time, mostly.
    Failed,
    /// It was sent back.
    RolledBack,
}

/// The word for why a device stands where it stands.
pub(super) fn device(wait: &DeviceWait) -> DeviceStatus {
    match wait {
        DeviceWait::NotStarted
        | DeviceWait::BatchNotOpen { .. }
        | DeviceWait::Stopped { .. }
        | DeviceWait::Turn { .. }
        | DeviceWait::NextPass
        | DeviceWait::WindowShut
        | DeviceWait::Missing
        | DeviceWait::NeverSeen
        | DeviceWait::Offline { .. }
        | DeviceWait::Held
        | DeviceWait::Excluded
        | DeviceWait::Claimed { .. }
        | DeviceWait::Overridden { .. }
        | DeviceWait::DeclaredElsewhere => DeviceStatus::Pending,
        DeviceWait::Updating { .. } | DeviceWait::Unfetched { .. } => DeviceStatus::Scheduled,
        DeviceWait::Proving | DeviceWait::Unproven { .. } => DeviceStatus::Updated,
        DeviceWait::Healthy | DeviceWait::RunsAlready => DeviceStatus::Healthy,
        DeviceWait::Failed { reason, .. } if reason == "HealthCheckFailed" => DeviceStatus::Unhealthy,
        DeviceWait::Failed { .. } => DeviceStatus::Failed,
        DeviceWait::FailedAndBack { .. }
        | DeviceWait::Back
        | DeviceWait::GoingBack { .. }
        | DeviceWait::NotBack { .. }
        | DeviceWait::OutOfReach { .. } => DeviceStatus::RolledBack,
    }
}

/// What the predecessor called a line of history. Those it did not have are named after its manner.
pub(super) fn event(type_: &str) -> String {
    match type_ {
        // Its one word for a stop, whoever made it.
        "RolloutHalted" => "image.rollout_paused".into(),
        "RolloutSuperseded" => "image.rollout_cancelled".into(),
        other => {
            let mut word = String::from("image.");
            for (index, letter) in other.chars().enumerate() {
                if letter.is_ascii_uppercase() && index > 0 {
                    word.push('_');
                }
                word.push(letter.to_ascii_lowercase());
            }
            word
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases() {
        for (phase, begun, word) in [
            (Phase::Pending, false, "pending"),
            (Phase::AwaitingApproval, false, "pending"),
            (Phase::AwaitingApproval, true, "in_progress"),
            (Phase::Soaking, true, "in_progress"),
            (Phase::RollingBack, true, "in_progress"),
            (Phase::Halted, true, "paused"),
            (Phase::Superseded, true, "cancelled"),
            (Phase::RolledBack, true, "rolled_back"),
        ] {
            assert_eq!(rollout(phase, begun).as_str(), word, "{phase}");
            assert_eq!(serde_json::to_value(rollout(phase, begun)).unwrap(), word);
        }
    }

    #[test]
    fn devices() {
        let failed = |reason: &str| DeviceWait::Failed { reason: reason.into(), message: String::new() };
        for (wait, word) in [
            (DeviceWait::Held, "pending"),
            (DeviceWait::Unfetched { since: jiff::Timestamp::UNIX_EPOCH }, "scheduled"),
            (DeviceWait::Proving, "updated"),
            (DeviceWait::RunsAlready, "healthy"),
            (failed("HealthCheckFailed"), "unhealthy"),
            (failed("DeadlineExceeded"), "failed"),
            (DeviceWait::Back, "rolled_back"),
        ] {
            assert_eq!(serde_json::to_value(device(&wait)).unwrap(), word, "{wait}");
        }
    }

    #[test]
    fn events() {
        for (ours, theirs) in [
            ("RolloutCreated", "image.rollout_created"),
            ("BatchCompleted", "image.batch_completed"),
            ("DeviceRolledBack", "image.device_rolled_back"),
            ("RolloutRolledBack", "image.rollout_rolled_back"),
            ("RolloutHalted", "image.rollout_paused"),
        ] {
            assert_eq!(event(ours), theirs);
        }
    }
}
