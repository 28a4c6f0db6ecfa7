//! Device by device, by what a rollout's status has on record: for those who show a rollout and don't plan it.
//!
//! A device's place in a rollout doesn't depend on the other devices, so they can be explained a page at a time, however
//! many there are. What only the controller knows (health checks that it is about to store) is not here: such a device is
//! being checked.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::{ImageRollout, ImageUpdatePolicy};

use super::classify::{Target, member};
use super::explain::{DeviceReport, explain};
use super::observed::{DeviceView, Knowledge, Member, Observed, PolicyState};
use super::proof::Proofs;
use super::report::WaitingOn;
use super::resolution::Resolution;
use super::rivals::{Rival, rivals};
use super::subject::Subject;
use super::validated::ValidatedPolicy;

/// A rollout as it is on record.
#[derive(Debug)]
pub struct Stored {
    rollout: ImageRollout,
    subject: Subject,
    rivals: Vec<Rival>,
    others: BTreeSet<String>,
    manager: String,
    proofs: Proofs,
}

impl Stored {
    /// Of a rollout among the policies of its namespace; `others` are the names of the rollouts of other policies.
    ///
    /// # Errors
    /// When it can't be said what it rolls out, and by which rules: it has no devices then.
    pub fn new(
        rollout: ImageRollout,
        policies: &[ImageUpdatePolicy],
        others: BTreeSet<String>,
    ) -> Result<Self, WaitingOn> {
        let name = rollout.spec.policy_ref.name.clone();
        let own = policies.iter().find(|policy| policy.name_any() == name).map(ValidatedPolicy::new);
        let invalid = own.as_ref().and_then(|own| own.as_ref().err()).map(ToString::to_string);
        let valid = own.and_then(Result::ok);
        let state = match (&valid, &invalid) {
            (Some(policy), _) => PolicyState::Valid(policy),
            (None, Some(why)) => PolicyState::Invalid(why),
            (None, None) => PolicyState::Missing,
        };
        let subject = Subject::new(&rollout, state, &Resolution::Unasked)?;
        let rivals = valid.map(|policy| rivals(&name, &policy.pattern, &subject.image, policies)).unwrap_or_default();
        let manager = crate::api::policy_manager(&name);
        Ok(Self { rollout, subject, rivals, others, manager, proofs: Proofs::default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rollout.metadata.name.as_deref().unwrap_or_default()
    }

    /// The tag that it rolls out, if it has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.rollout.spec.image.tag.as_deref()
    }

    /// The repository that it is of.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.subject.image.repository
    }

    /// Those of some devices that the rollout is for, with the reasons why they stand where they stand. Each device comes
    /// with the time at which a gateway last saw it.
    #[must_use]
    pub fn explain(
        &self,
        devices: &[(DeviceView, Option<Timestamp>)],
        knowledge: Knowledge,
        now: Timestamp,
    ) -> Vec<DeviceReport> {
        let status = self.rollout.status.clone().unwrap_or_default();
        let (name, uid) = (self.rollout.name_any(), self.rollout.uid().unwrap_or_default());
        let target = Target {
            rollout: &name,
            uid: &uid,
            began: status.plan.as_ref().map(|plan| plan.start_time.0),
            manager: &self.manager,
            image: &self.subject.image,
            rules: &self.subject.rules,
            status: Some(&status),
            rivals: &self.rivals,
            others: &self.others,
            proofs: &self.proofs,
            living: None,
            now,
        };
        let members: Vec<Member<'_>> = devices.iter().filter_map(|(view, seen)| member(view, *seen, &target)).collect();
        let observed = Observed {
            rollout: &self.rollout,
            policy: PolicyState::Missing,
            subject: Ok(&self.subject),
            siblings: &[],
            resolution: &Resolution::Unasked,
            members: &members,
            left: None,
            proofs: &self.proofs,
            knowledge: Knowledge { as_of: knowledge.as_of.map(|at| at.min(now)), ..knowledge },
        };
        explain(&observed, &status, None, now)
    }
}

#[cfg(test)]
mod tests;
