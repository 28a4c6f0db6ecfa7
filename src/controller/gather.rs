//! Gather and validate: from caches to what the planner looks at. No client.

use std::collections::BTreeSet;

use kube::ResourceExt;

use crate::api::{ImageRollout, ImageUpdatePolicy, condition};
use crate::plan::classify::{Target, member};
use crate::plan::observed::{Knowledge, Member, Observed, PolicyState, Sibling};
use crate::plan::rivals::{self, Rival};
use crate::plan::subject::rollout_image;
use crate::plan::validated::{Invalid, ValidatedPolicy};
use crate::plan::{Plan, Proofs, Resolution, Subject, WaitingOn, plan};

use super::devices::Known;
use crate::probe::{Check, InvalidCheck};

/// A consistent copy of what one pass over one rollout needs.
#[derive(Debug)]
pub struct Snapshot {
    /// The rollout.
    pub rollout: ImageRollout,
    /// Its policy: none, unreadable or invalid (in words), or valid.
    pub policy: Option<Result<ValidatedPolicy, String>>,
    /// The other rollouts of its policy and repository.
    pub siblings: Vec<Sibling>,
    /// Every device of the namespace.
    pub devices: Vec<Known>,
    /// How much is known of which devices are there.
    pub knowledge: Knowledge,
    /// What the registry says of its tag.
    pub resolution: Resolution,
    /// What was found by looking at its devices.
    pub proofs: Proofs,
    /// Policies that go before its own.
    pub rivals: Vec<Rival>,
    /// Policies that are there, readable or not, or have rollouts left. `None`: not known.
    pub living: Option<BTreeSet<String>>,
    /// Rollouts of other policies.
    pub others: BTreeSet<String>,
}

impl Snapshot {
    /// From the objects of the rollout's namespace.
    #[must_use]
    pub fn new(
        rollout: ImageRollout,
        policy: Option<Result<ImageUpdatePolicy, String>>,
        rollouts: &[ImageRollout],
        devices: Vec<Known>,
        knowledge: Knowledge,
    ) -> Self {
        let name = rollout.name_any();
        let siblings = rollouts
            .iter()
            .filter(|other| {
                other.name_any() != name
                    && other.spec.policy_ref == rollout.spec.policy_ref
                    && other.metadata.deletion_timestamp.is_none()
                    && same_repository(other, &rollout)
            })
            .map(Sibling::new)
            .collect();
        let policy = policy.map(|policy| {
            let policy = policy?;
            let valid = validate(&policy).map_err(|error: Invalid| error.to_string())?;
            made_ready(&policy).map(|()| valid)
        });
        Self {
            rollout,
            policy,
            siblings,
            devices,
            knowledge,
            resolution: Resolution::Unasked,
            proofs: Proofs::default(),
            rivals: Vec::new(),
            living: None,
            others: BTreeSet::new(),
        }
    }

    /// With what the registry says.
    #[must_use]
    pub fn with_resolution(self, resolution: Resolution) -> Self {
        Self { resolution, ..self }
    }

    /// With what was found by looking at its devices.
    #[must_use]
    pub fn with_proofs(self, proofs: Proofs) -> Self {
        Self { proofs, ..self }
    }

    /// With the names of the policies of its namespace, readable or not; `rollouts` are all that are there.
    #[must_use]
    pub fn with_living(self, policies: impl IntoIterator<Item = String>, rollouts: &[ImageRollout]) -> Self {
        let of_rollouts = rollouts.iter().map(|rollout| rollout.spec.policy_ref.name.clone());
        let living = Some(policies.into_iter().chain(of_rollouts).collect());
        let foreign = rollouts.iter().filter(|rollout| rollout.spec.policy_ref != self.rollout.spec.policy_ref);
        let others = foreign.map(ResourceExt::name_any).collect();
        Self { living, others, ..self }
    }

    /// Among these policies of its namespace.
    #[must_use]
    pub fn among<'a>(self, policies: impl IntoIterator<Item = &'a ImageUpdatePolicy>) -> Self {
        let rivals = match (&self.policy, rollout_image(&self.rollout.spec)) {
            (Some(Ok(policy)), Ok(image)) => {
                rivals::rivals(&self.rollout.spec.policy_ref.name, &policy.pattern, &image, policies)
            }
            (None | Some(_), _) => Vec::new(),
        };
        Self { rivals, ..self }
    }

    /// One pass of the planner over it; `look` sees what the planner saw.
    pub fn plan<T>(&self, now: jiff::Timestamp, look: impl FnOnce(&Observed<'_>, &Plan) -> T) -> (Plan, T) {
        let policy = match &self.policy {
            None => PolicyState::Missing,
            Some(Err(why)) => PolicyState::Invalid(why),
            Some(Ok(policy)) => PolicyState::Valid(policy),
        };
        let subject: Result<Subject, WaitingOn> = Subject::new(&self.rollout, policy, &self.resolution);
        let members = subject.as_ref().map(|subject| self.members(subject, now)).unwrap_or_default();
        let observed = Observed {
            rollout: &self.rollout,
            policy,
            subject: subject.as_ref(),
            siblings: &self.siblings,
            resolution: &self.resolution,
            members: &members,
            proofs: &self.proofs,
            left: self.left(&subject, &members),
            // A gateway whose clock runs ahead must not make time go faster for devices.
            knowledge: Knowledge { as_of: self.knowledge.as_of.map(|at| at.min(now)), ..self.knowledge },
        };
        let plan = plan(&observed, now);
        let seen = look(&observed, &plan);
        (plan, seen)
    }

    /// The rollout's devices.
    #[must_use]
    pub fn members<'a>(&'a self, subject: &Subject, now: jiff::Timestamp) -> Vec<Member<'a>> {
        let name = self.rollout.name_any();
        let uid = self.rollout.uid().unwrap_or_default();
        let manager = crate::api::policy_manager(&self.rollout.spec.policy_ref.name);
        let plan = self.rollout.status.as_ref().and_then(|status| status.plan.as_ref());
        let target = Target {
            rollout: &name,
            uid: &uid,
            began: plan.map(|plan| plan.start_time.0),
            image: &subject.image,
            manager: &manager,
            rules: &subject.rules,
            rivals: &self.rivals,
            living: self.living.as_ref(),
            others: &self.others,
            proofs: &self.proofs,
            status: self.rollout.status.as_ref(),
            now,
        };
        let seen = |known: &Known| jiff::Timestamp::from_second(known.seen).ok();
        self.devices.iter().filter_map(|known| member(&known.view, seen(known), &target)).collect()
    }
}

impl Snapshot {
    /// Devices that would be members but for a rival, where there are no members at all: that has to be explained.
    fn left(&self, subject: &Result<Subject, WaitingOn>, members: &[Member<'_>]) -> Option<(&str, usize)> {
        let (Ok(subject), true) = (subject, members.is_empty() && !self.rivals.is_empty()) else { return None };
        let repository = subject.image.repository.as_str();
        let claimed = |known: &&Known| {
            let view = &known.view;
            view.services_of(repository).next().is_some() && subject.rules.claims(&view.name, &view.labels)
        };
        let devices: Vec<&Known> = self.devices.iter().filter(claimed).collect();
        let first = devices.first()?;
        let rival = self.rivals.iter().find(|rival| rival.claims(&first.view.name, &first.view.labels))?;
        Some((&rival.policy, devices.len()))
    }
}

/// A policy that can be followed, and whose health checks can work.
///
/// # Errors
/// The first thing that makes no sense.
pub fn validate(policy: &ImageUpdatePolicy) -> Result<ValidatedPolicy, Invalid> {
    let valid = ValidatedPolicy::new(policy)?;
    for check in &policy.spec.health_checks {
        let wrong = |error: InvalidCheck| Invalid::Check { name: check.name.clone(), why: error.sentence() };
        Check::of(check, &[], None).map_err(wrong)?;
    }
    Ok(valid)
}

/// Of a policy whose Jobs only the API server can judge: its word, which is in the condition Ready.
pub(super) fn made_ready(policy: &ImageUpdatePolicy) -> Result<(), String> {
    if policy.spec.health_checks.iter().all(|check| check.job.is_none()) {
        return Ok(());
    }
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = condition::find(conditions, condition::READY)
        .filter(|ready| ready.observed_generation == policy.metadata.generation);
    match ready {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(ready.message.clone()),
        None => Err("the API server has not said yet whether its Jobs can be made".into()),
    }
}

fn same_repository(a: &ImageRollout, b: &ImageRollout) -> bool {
    let canonical = |rollout: &ImageRollout| {
        crate::api::image::canonical_repository(&rollout.spec.image.repository)
            .unwrap_or_else(|_| rollout.spec.image.repository.clone())
    };
    canonical(a) == canonical(b)
}
