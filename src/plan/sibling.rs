//! The other rollouts of a policy and repository, as one of them sees them, and which of two is the newer.

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::check::HealthCheck;
use crate::api::rollout::{DesiredState, ImageRollout, ImageRolloutStatus, Phase, TriggerType};

/// Another rollout of the same policy and repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// Where it stands among them.
    pub age: Age,
    /// Its tag.
    pub tag: Option<String>,
    /// What it is of, as far as that is known.
    pub digest: Option<String>,
    /// A person made it, and not a push.
    pub by_person: bool,
    /// Its phase.
    pub phase: Phase,
    /// What a person wants of it.
    pub desired: DesiredState,
    /// Its batches are fixed.
    pub has_started: bool,
    /// Its first pass has been made, so that `is_stuck` says something.
    pub is_known: bool,
    /// It has not started and does not by itself: it holds nobody up and takes nobody's place.
    pub is_stuck: bool,
    /// Its batches whose devices may run its image without having passed its checks: bit `i` is batch `i`.
    pub unproven: u32,
}

impl Sibling {
    /// The rollout, as others see it.
    #[must_use]
    pub fn new(rollout: &ImageRollout) -> Self {
        let status = rollout.status.as_ref();
        Self {
            name: rollout.name_any(),
            age: Age::of(rollout),
            tag: rollout.spec.image.tag.clone(),
            digest: rollout.spec.image.digest.clone().or_else(|| status.and_then(|status| status.digest.clone())),
            by_person: is_by_person(rollout),
            phase: status.map(|status| status.phase).unwrap_or_default(),
            has_started: status.is_some_and(|status| status.plan.is_some()),
            desired: rollout.spec.desired_state,
            is_known: status.is_some_and(|status| status.observed_generation.is_some()),
            is_stuck: status.is_some_and(is_stuck),
            unproven: status.map_or(0, unproven),
        }
    }

    /// Whether it still moves devices, or will.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.phase.is_terminal()
    }
}

/// The batches that are not complete, where devices are looked at.
fn unproven(status: &ImageRolloutStatus) -> u32 {
    let looks = |check: &HealthCheck| check.container.is_none() && check.analysis.is_none();
    if !status.plan.iter().any(|plan| plan.health_checks.iter().any(looks)) {
        return 0;
    }
    let open = status.batches.iter().enumerate().filter(|(_, batch)| batch.completion_time.is_none());
    open.fold(0, |mask, (index, _)| mask | 1 << (index + 1))
}

/// Whether a person made a rollout: whoever makes one means it, whatever versions say.
#[must_use]
pub fn is_by_person(rollout: &ImageRollout) -> bool {
    rollout.spec.trigger.as_ref().is_none_or(|trigger| trigger.type_ == TriggerType::Manual)
}

/// Read from the conditions, which is where a rollout says what it waits for.
fn is_stuck(status: &ImageRolloutStatus) -> bool {
    let waits = |reason: &str| {
        crate::api::condition::find(&status.conditions, crate::api::condition::READY)
            .is_some_and(|condition| condition.reason == reason)
    };
    status.plan.is_none()
        && !status.phase.is_terminal()
        && (crate::api::condition::is_true(&status.conditions, crate::api::condition::STALLED)
            || ["PolicySuspended", "NotBefore", "AwaitingRegistry", "DigestMismatch"].into_iter().any(waits))
}

/// Order of rollouts in time: creation (whole seconds), then the moment that the push came in, then the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    created: Option<Timestamp>,
    triggered: Option<Timestamp>,
    name: String,
}

impl Age {
    /// Of a rollout.
    #[must_use]
    pub fn of(rollout: &ImageRollout) -> Self {
        Self {
            created: rollout.creation_timestamp().map(|time| time.0),
            triggered: rollout.spec.trigger.as_ref().and_then(|trigger| trigger.time.as_ref()).map(|time| time.0),
            name: rollout.name_any(),
        }
    }
}
