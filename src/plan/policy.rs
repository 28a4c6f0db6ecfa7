//! A policy's status, from the policy and its rollouts; and which finished rollouts are too many.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::condition::{self, condition};
use crate::api::policy::{ImageUpdatePolicyStatus, LatestImage, RejectedImage};
use crate::api::rollout::{ImageRollout, Phase};
use crate::api::time::whole_seconds;
use crate::api::{ImageRef, ImageUpdatePolicy, ROLLOUT_FINALIZER};

use super::observed::Age;
use super::subject::resolved_image;
use super::validated::{Invalid, ValidatedPolicy};

/// Rejected images that are remembered; the bound of the CRD.
const MAX_REJECTED: usize = 20;

/// What one pass over one policy decided.
#[derive(Debug)]
#[must_use = "a plan that nobody carries out changes nothing"]
pub struct PolicyPlan {
    /// The status as it should be.
    pub status: ImageUpdatePolicyStatus,
    /// Whether it differs from the stored one.
    pub changed: bool,
    /// Finished rollouts beyond `historyLimit`, oldest first.
    pub prune: Vec<String>,
}

/// What is known of a policy beside its rollouts.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// How many of its devices belong to which more specific policy.
    pub overlaps: BTreeMap<String, usize>,
    /// How the last look into its registry went, if it polls and has.
    pub polled: Option<Polled>,
}

/// How a look into a registry went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// It answered.
    Good,
    /// It did not.
    Failing {
        /// In a word.
        reason: &'static str,
        /// In words, which may differ from time to time.
        why: String,
    },
}

impl Polled {
    /// Whether nothing changed that is worth a write.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Good, Self::Good) => true,
            (Self::Failing { reason, why: _ }, Self::Failing { reason: other, why: _ }) => reason == other,
            (Self::Good, Self::Failing { .. }) | (Self::Failing { .. }, Self::Good) => false,
        }
    }
}

/// Decides what to do about one policy. `rollouts` are all those that name it.
pub fn plan_policy(
    policy: &ImageUpdatePolicy,
    valid: Result<&ValidatedPolicy, &Invalid>,
    rollouts: &[&ImageRollout],
    beside: &Beside,
    now: Timestamp,
) -> PolicyPlan {
    let mut old = policy.status.clone().unwrap_or_default();
    old.conditions = condition::ours(old.conditions);
    let generation = policy.metadata.generation;
    let mut by_age: Vec<&ImageRollout> = rollouts.to_vec();
    by_age.sort_by_key(|rollout| Age::of(rollout));
    let phase = |rollout: &ImageRollout| rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let latest = by_age
        .iter()
        .rev()
        .find(|rollout| {
            !matches!(
                phase(rollout),
                Phase::RolledBack | Phase::RollingBack | Phase::Cancelled | Phase::Superseded | Phase::Failed
            )
        })
        .map(|rollout| LatestImage {
            image: shown_image(rollout),
            tag: rollout.spec.image.tag.clone(),
            rollout: rollout.name_any(),
        });
    let active = by_age.iter().rev().find(|rollout| !phase(rollout).is_terminal()).map(|rollout| rollout.name_any());
    let ready = match valid {
        Ok(_) if policy.spec.suspend => condition(
            condition::READY,
            true,
            "Suspended",
            "valid; suspended, so no new rollout starts",
            generation,
            now,
        ),
        Ok(_) => condition(condition::READY, true, "Valid", "waits for pushes", generation, now),
        Err(error) => condition(condition::READY, false, "Invalid", error.to_string(), generation, now),
    };
    let mut conditions = vec![ready];
    if let Err(error) = valid {
        conditions.push(condition(condition::STALLED, true, "Invalid", error.to_string(), generation, now));
    }
    match &beside.polled {
        Some(Polled::Good) => {
            let text = "the registry is asked for new images, and answers";
            conditions.push(condition(condition::POLLED, true, "RegistryAnswers", text, generation, now));
        }
        Some(Polled::Failing { reason, why }) => {
            conditions.push(condition(condition::POLLED, false, reason, why.clone(), generation, now));
        }
        None => {
            // After a restart nothing is known yet; what was said before still stands.
            let before = condition::find(&old.conditions, condition::POLLED);
            conditions.extend(before.filter(|_| policy.spec.image.poll_interval.is_some()).cloned());
        }
    }
    if let Some((other, _)) = beside.overlaps.iter().max_by_key(|(_, devices)| **devices) {
        let (devices, all): (usize, usize) = (beside.overlaps.values().sum(), beside.overlaps.len());
        let others = if all == 1 { other.clone() } else { format!("{all} others, such as {other}") };
        let text = format!("{devices} of its devices belong to {others}: more specific for the same images");
        conditions.push(condition(condition::OVERLAPPED, true, "MoreSpecificPolicy", text, generation, now));
    }
    for condition in &mut conditions {
        condition.last_transition_time = whole_seconds(now);
    }
    let status = ImageUpdatePolicyStatus {
        observed_generation: generation,
        latest,
        active_rollout: active,
        rejected: rejected(policy, &by_age, now),
        conditions: condition::merge(&old.conditions, conditions),
    };
    let finished: Vec<&&ImageRollout> = by_age
        .iter()
        .filter(|rollout| phase(rollout).is_terminal() && rollout.metadata.deletion_timestamp.is_none())
        .filter(|rollout| status.latest.as_ref().is_none_or(|latest| latest.rollout != rollout.name_any()))
        .collect();
    let limit = usize::try_from(policy.spec.history_limit).unwrap_or(1).max(1);
    let surplus = finished.len().saturating_sub(limit);
    // Names are made from images: as long as a forgiven one's rollout is there, its push is taken for told already.
    let goes = |(index, rollout): &(usize, &&ImageRollout)| *index < surplus || is_forgiven(policy, rollout);
    let prune = finished.into_iter().enumerate().filter(goes).map(|(_, rollout)| rollout.name_any()).collect();
    PolicyPlan { changed: status != old, status, prune }
}

fn shown_image(rollout: &ImageRollout) -> String {
    rollout
        .status
        .as_ref()
        .and_then(|status| status.image.clone())
        .or_else(|| resolved_image(rollout).ok().map(|image| image.to_string()))
        .unwrap_or_else(|| rollout.spec.image.repository.clone())
}

/// Images that went back stay on the list after their rollout is pruned.
fn rejected(policy: &ImageUpdatePolicy, by_age: &[&ImageRollout], now: Timestamp) -> Vec<RejectedImage> {
    let mut list: Vec<RejectedImage> = policy.rejected().cloned().collect();
    for rollout in by_age {
        let name = rollout.name_any();
        let Some(status) = &rollout.status else { continue };
        let went_back = status.rollback_time.is_some() || status.phase == Phase::RolledBack;
        if went_back
            && !list.iter().any(|entry| entry.rollout == name)
            && let Ok(image) = resolved_image(rollout)
        {
            let time = status.rollback_time.clone().unwrap_or_else(|| whole_seconds(now));
            let image = image.to_string();
            if !policy.spec.forgives(&image, &time) {
                list.push(RejectedImage { image, rollout: name, time });
            }
        }
    }
    let surplus = list.len().saturating_sub(MAX_REJECTED);
    list.drain(..surplus);
    list
}

/// Whether a rollout went back, or never began, because of an image that is forgiven by now.
fn is_forgiven(policy: &ImageUpdatePolicy, rollout: &ImageRollout) -> bool {
    let Some(status) = rollout.status.as_ref().filter(|s| matches!(s.phase, Phase::RolledBack | Phase::Failed)) else {
        return false;
    };
    let (Ok(image), Some(ended)) = (resolved_image(rollout), &status.completion_time) else { return false };
    policy.spec.forgiven.iter().any(|forgiven| {
        let same_bits = forgiven.image.parse::<ImageRef>().is_ok_and(|forgiven| {
            forgiven.repository == image.repository && forgiven.digest.is_some() && forgiven.digest == image.digest
        });
        let went_back = status.rollback_time.as_ref().unwrap_or(ended);
        (same_bits || forgiven.image == image.to_string()) && went_back.0 <= forgiven.time.0
    })
}

/// Whether a rollout carries our finalizer.
#[must_use]
pub fn has_finalizer(rollout: &ImageRollout) -> bool {
    rollout.finalizers().iter().any(|finalizer| finalizer == ROLLOUT_FINALIZER)
}

#[cfg(test)]
mod tests;
